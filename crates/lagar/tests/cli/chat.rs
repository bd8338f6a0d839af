//! Chat, as far as it goes without a terminal.

use crate::support::{command, novels};
use std::io::Write;
use std::process::Stdio;

#[test]
fn chat_answers_lines_of_stdin_and_obeys_commands() {
    let mut child = command(["chat", &novels(), "--greedy", "-n", "8"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"/help\nIt was a fine morning, and\n/reset\nIt was a fine morning, and\n/nonsense\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert_eq!(stdout.matches(" the captain was a little").count(), 2, "{stdout}");
    assert!(stderr.contains("/reset") && stderr.contains("/nonsense"), "{stderr}");
}
