//! Chat, as far as it goes without a terminal.

use crate::support::{Finished, command, novels};
use std::io::Write;
use std::process::Stdio;

fn chat(lines: &str) -> Finished {
    let mut child = command(["chat", &novels(), "--greedy", "-n", "8", "-v"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(lines.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn every_line_is_answered_and_reset_forgets() {
    let once = chat("It was a fine morning.\n").ok();
    assert!(!once.trim().is_empty());
    let twice = chat("It was a fine morning.\n/reset\nIt was a fine morning.\n").ok();
    assert_eq!(twice, once.repeat(2));
}

#[test]
fn a_conversation_is_computed_once() {
    let talk = chat("It was a fine morning.\nAnd then?\n");
    let known = talk
        .stderr
        .lines()
        .filter(|line| line.contains("were known"))
        .count();
    assert_eq!(known, 1, "{talk:?}");
    talk.ok();
}

#[test]
fn commands_are_obeyed_and_mistakes_explained() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("talk.json");
    let lines = format!(
        "/help\n/nonsense\n/system Be brief.\nGood morning!\n/save {}\n/quit\nnever said\n",
        file.display()
    );
    let talk = chat(&lines);
    assert!(
        talk.stderr.contains("/reset") && talk.stderr.contains("/nonsense"),
        "{talk:?}"
    );
    talk.ok();
    let saved: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let roles: Vec<_> = saved
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["system", "user", "assistant"]);
    assert_eq!(saved[0]["content"], "Be brief.");
}

#[test]
fn a_conversation_longer_than_the_context_is_refused_and_goes_on() {
    let talk = chat(&format!(
        "{}\nGood morning!\n",
        "It was a fine morning. ".repeat(100)
    ));
    assert!(talk.stderr.contains("context"), "{talk:?}");
    assert!(!talk.ok().trim().is_empty());
}

#[test]
fn a_chat_has_no_json_form() {
    crate::support::lagar(["chat", &novels(), "--json"]).fails(2, &["lagar run --json"]);
}
