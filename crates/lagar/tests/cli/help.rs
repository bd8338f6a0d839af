//! Help, version, completions, manual pages, and wrong usage.

use crate::support::{Tiny, lagar};

#[test]
fn help_texts_are_as_recorded() {
    let mut all = String::new();
    for command in [
        "",
        "press",
        "run",
        "chat",
        "eval",
        "compare",
        "inspect",
        "export",
        "restore",
        "verify",
        "split",
        "join",
        "bench",
        "demo",
        "completions",
        "man",
    ] {
        let args: Vec<&str> = [command, "--help"]
            .into_iter()
            .filter(|a| !a.is_empty())
            .collect();
        all.push_str(&format!(
            "$ lagar {}\n{}\n",
            args.join(" "),
            lagar(&args).ok()
        ));
    }
    insta::assert_snapshot!("help", all);
}

#[test]
fn short_help_and_version_go_to_stdout() {
    assert!(lagar(["-h"]).ok().contains("Usage: lagar"));
    assert!(lagar(["--version"]).ok().starts_with("lagar "));
}

#[test]
fn wrong_usage_exits_with_2_and_explains_itself() {
    for (args, words) in [
        (vec![], "Usage: lagar"),
        (vec!["squash"], "unrecognized subcommand"),
        (vec!["press", "model"], "--output <FILE>"),
        (
            vec!["press", "model", "-o", "f", "--bits", "9"],
            "9 is not in 1..=8",
        ),
        (
            vec!["press", "model", "-o", "f", "--bits", "0"],
            "0 is not in 1..=8",
        ),
        (
            vec!["press", "model", "-o", "f", "--tiers", "2,9+exact"],
            "`9` is not a number of bits from 1 to 8",
        ),
        (
            vec!["press", "model", "-o", "f", "--tiers", "2,2", "--bits", "4"],
            "--bits and --tiers both say how many bits",
        ),
        (
            vec![
                "press",
                "model",
                "-o",
                "f",
                "--tiers",
                "2",
                "--primary",
                "RG",
            ],
            "will not have this tier, only R",
        ),
        (
            vec![
                "press",
                "model",
                "-o",
                "f",
                "--tiers",
                "exact",
                "--primary",
                "R",
            ],
            "--tiers exact makes none",
        ),
        (
            vec!["press", "model", "-o", "f", "--tokens", "0"],
            "--tokens",
        ),
        (
            vec!["run", "model", "--top-p", "1.5"],
            "must lie between 0 and 1",
        ),
        (vec!["run", "model", "--temperature", "nan"], "not a number"),
        (
            vec!["run", "model", "--greedy", "--temperature", "1"],
            "cannot be used with",
        ),
        (vec!["run", "model", "--threads", "0"], "--threads"),
        (
            vec!["eval", "model"],
            "--text <FILE>|--task <NAME|FILE.jsonl>",
        ),
        (
            vec!["eval", "model", "--task", "piqa", "--reference", "m"],
            "--text <FILE>",
        ),
        (
            vec!["compare", "a.lagar", "--text", "t"],
            "--reference <CHECKPOINT>",
        ),
        (
            vec!["eval", "model", "--text", "t", "--context", "1"],
            "--context",
        ),
        (
            vec!["inspect", "model", "--quiet", "-v"],
            "cannot be used with",
        ),
        (
            vec!["export", "f", "-o", "d", "--dtype", "int8"],
            "[possible values: f32, bf16, f16]",
        ),
    ] {
        let run = lagar(&args);
        assert_eq!(run.code, Some(2), "{args:?}: {run:?}");
        assert!(run.stdout.is_empty(), "{args:?}");
        assert!(run.stderr.contains(words), "{args:?}: {}", run.stderr);
    }
}

#[test]
fn completions_cover_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = lagar(["completions", shell]).ok();
        for command in [
            "press", "run", "chat", "eval", "compare", "inspect", "export", "restore", "verify",
            "split", "join", "bench", "demo",
        ] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let tiny = Tiny::new();
    lagar(["man", "-o", &tiny.arg("pages")]).ok();
    for page in ["lagar.1", "lagar-press.1", "lagar-run.1", "lagar-eval.1"] {
        let text = std::fs::read_to_string(tiny.path("pages").join(page)).unwrap();
        assert!(text.contains(".SH NAME"), "{page}");
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    use std::io::Read;
    use std::process::Stdio;
    let mut child = crate::support::command(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Dropping the read end before anything is read breaks the pipe.
    drop(child.stdout.take());
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(stderr, "");
}
