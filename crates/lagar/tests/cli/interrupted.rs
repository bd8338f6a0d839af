//! Presses that do not come to their end: killed, interrupted, out of disk.

use crate::support::{Finished, command, lagar, novels, text};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A press that takes a few seconds.
fn arguments(output: &Path) -> Vec<String> {
    [
        "press",
        &novels(),
        "-o",
        &text(output),
        "--bits",
        "2",
        "--tokens",
        "4000",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn start(output: &Path) -> Child {
    command(arguments(output))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn partial(output: &Path) -> PathBuf {
    PathBuf::from(format!("{}.partial", text(output)))
}

/// Waits until a layer is finished, and asserts that the press is not.
fn wait_for_a_layer(child: &mut Child, output: &Path) {
    let patience = Instant::now() + Duration::from_secs(120);
    loop {
        let layers = std::fs::read_dir(partial(output))
            .map(|folder| {
                folder
                    .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                    .filter(|name| name.starts_with("layer-") && !name.ends_with("tmp"))
                    .count()
            })
            .unwrap_or(0);
        if layers > 0 {
            break;
        }
        assert!(
            child.try_wait().unwrap().is_none(),
            "the press ended before it finished a layer"
        );
        assert!(Instant::now() < patience, "no layer was finished");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(
        child.try_wait().unwrap().is_none(),
        "the press was over too soon to be interrupted"
    );
}

#[test]
fn a_killed_press_resumes_to_the_same_bytes() {
    let folder = TempDir::new().unwrap();
    let (whole, killed) = (
        folder.path().join("whole.lagar"),
        folder.path().join("killed.lagar"),
    );
    let mut child = start(&killed);
    wait_for_a_layer(&mut child, &killed);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!killed.exists());

    // Other settings do not go on from there.
    let mut others = arguments(&killed);
    others.extend(["--resume".to_owned(), "--seed".to_owned(), "9".to_owned()]);
    lagar(&others).fails(3, &["killed.lagar.partial"]);

    let mut resumed = arguments(&killed);
    resumed.push("--resume".to_owned());
    // The number of threads does not matter either.
    resumed.extend(["--threads".to_owned(), "1".to_owned()]);
    let finished = lagar(&resumed);
    assert!(finished.stderr.contains("taken over"), "{finished:?}");
    finished.ok();
    assert!(!partial(&killed).exists());

    lagar(arguments(&whole)).ok();
    assert!(
        std::fs::read(&whole).unwrap() == std::fs::read(&killed).unwrap(),
        "the bytes differ"
    );
}

#[test]
fn resuming_what_was_never_begun_starts_afresh() {
    let tiny = crate::support::Tiny::new();
    let output = tiny.arg("a.lagar");
    lagar([
        "press",
        &tiny.model(),
        "-o",
        &output,
        "--bits",
        "4",
        "--text",
        &tiny.arg("text.txt"),
        "--resume",
    ])
    .ok();
    assert!(tiny.path("a.lagar").exists());
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_a_press_and_leaves_what_is_done() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("out.lagar");
    let mut child = start(&output);
    wait_for_a_layer(&mut child, &output);
    interrupt(&child);
    let finished = Finished::from(child.wait_with_output().unwrap());
    assert!(finished.stderr.contains("--resume"), "{finished:?}");
    finished.fails(130, &["interrupted"]);
    assert!(!output.exists());
    assert!(partial(&output).exists());
}

#[cfg(unix)]
fn interrupt(child: &Child) {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    kill(
        Pid::from_raw(i32::try_from(child.id()).unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
}

#[cfg(unix)]
#[test]
fn a_disk_that_runs_full_ends_in_one_line() {
    // A limit on the size of files stands in for a full disk. The shell ignores the signal that would come with it.
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("out.lagar");
    let mut shell = std::process::Command::new("sh");
    shell
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 100; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_lagar"),
        ])
        .args(arguments(&output));
    Finished::from(shell.output().unwrap()).fails(1, &["out.lagar"]);
    assert!(!output.exists());
}
