//! Chat, as far as it goes without a terminal.

use crate::support::{Finished, Tiny, command, lagar, novels};
use std::io::Write;
use std::process::Stdio;

fn chat(lines: &str) -> Finished {
    chat_with(&[&novels(), "-n", "8"], lines)
}

fn chat_with(args: &[&str], lines: &str) -> Finished {
    let mut child = command([&["chat", "--greedy", "-v"], args].concat())
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
    assert!(talk.stderr.contains("/reset forgets"), "{talk:?}");
    assert!(!talk.ok().trim().is_empty());
}

#[test]
fn an_answer_that_fills_the_context_says_how_to_go_on() {
    let talk = chat_with(&[&novels()], "Tell me all.\n");
    assert!(
        talk.stderr.contains("is full; /reset forgets"),
        "{}",
        talk.stderr
    );
    talk.ok();
}

/// Lines of the conversation's own messages.
fn said<'a>(talk: &'a Finished, words: &str) -> Vec<&'a str> {
    let lines = talk.stderr.lines();
    lines.filter(|line| line.contains(words)).collect()
}

#[test]
fn the_tier_changes_in_the_middle_of_a_conversation() {
    let tiny = Tiny::new();
    tiny.press_tiers("three.lagar", "2,2,1").ok();
    let file = tiny.arg("three.lagar");
    let talk = chat_with(
        &[&file, "-n", "8", "--tier", "RG", "--draft", "R"],
        "Good morning.\n/tier\n/tier RGB\nAnd then?\n/tier full\n/tier R\nSo?\n/tier RGB\n/tier RGB\nWell?\n",
    );
    assert_eq!(
        said(&talk, "tier RG runs; the file holds R, RG, RGB").len(),
        1
    );
    let changes = said(&talk, "runs now");
    assert_eq!(changes.len(), 3, "{talk:?}");
    let index = lagar(["inspect", &file, "--json"]).json();
    let bytes = |tier: usize| index["tiers"][tier]["bytes"].as_u64().unwrap();
    // Tiny tiers: less than 100 kB, in three digits.
    let more = format!(
        "{:.1} kB more were read",
        (bytes(2) - bytes(1)) as f64 / 1e3
    );
    assert!(changes[0].contains(&more), "{changes:?}, {more}");
    assert!(changes[1].contains("nothing had to be read"), "{changes:?}");
    assert!(changes[2].contains("nothing had to be read"), "{changes:?}");
    // What the file does not hold is refused, and the conversation goes on.
    assert_eq!(
        said(&talk, "no tier full here; it holds R, RG, RGB").len(),
        1
    );
    assert_eq!(said(&talk, "tier RGB runs already").len(), 1);
    // R has nothing to draft for, RGB has again.
    assert_eq!(said(&talk, "which has nothing to do now").len(), 1);
    assert_eq!(said(&talk, "the draft guesses again").len(), 1);
    assert_eq!(said(&talk, "tokens per full pass").len(), 3);
    // Each turn but the first goes on with what was computed at the tier before.
    assert_eq!(said(&talk, "were known").len(), 3, "{talk:?}");
    assert!(!talk.ok().trim().is_empty());

    // With everything above R on the disk.
    let talk = chat_with(
        &[&file, "-n", "8", "--tier", "RG", "--resident", "R"],
        "Good morning.\n/tier RGB\nAnd then?\n",
    );
    let changes = said(&talk, "what it adds to R is read from the disk");
    assert_eq!(changes.len(), 1, "{talk:?}");
    assert_eq!(said(&talk, "from the disk: ").len(), 2, "{talk:?}");
    talk.ok();
}

#[test]
fn a_checkpoint_has_no_tiers_to_change_to() {
    let talk = chat("/tier\n/tier R\nGood morning.\n");
    assert_eq!(said(&talk, "checkpoint folder").len(), 2, "{talk:?}");
    assert!(!talk.ok().trim().is_empty());
}

#[test]
fn a_chat_has_no_json_form() {
    lagar(["chat", &novels(), "--json"]).fails(2, &["lagar run --json"]);
}
