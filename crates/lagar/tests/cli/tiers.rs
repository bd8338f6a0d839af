//! Running a file of several tiers: which one, with a draft, with only a part of it in memory.

use crate::support::{Tiny, lagar, novels};
use serde_json::Value;

/// A file of the tiers R, RG and RGB.
fn three_tiers() -> Tiny {
    let tiny = Tiny::new();
    tiny.press_tiers("three.lagar", "2,2,1").ok();
    tiny
}

/// `run --json` of 40 tokens.
fn run(tiny: &Tiny, options: &[&str]) -> Value {
    let file = tiny.arg("three.lagar");
    let args = ["run", &file, "The owl", "-n", "40", "--json", "--quiet"];
    lagar([&args[..], options].concat()).json()
}

#[test]
fn a_draft_and_the_disk_change_no_text() {
    let tiny = three_tiers();
    for sampling in [
        &["--greedy"][..],
        &["--temperature", "0.9", "--seed", "5"],
        &[
            "--temperature",
            "1.2",
            "--top-p",
            "0.9",
            "--repeat-penalty",
            "1.2",
            "--seed",
            "6",
        ],
    ] {
        let with = |options: &[&str]| run(&tiny, &[sampling, options].concat());
        let alone = with(&["--tier", "RGB"]);
        assert_eq!(alone["tier"], "RGB");
        for key in ["full_passes", "drafted", "accepted", "bytes_read"] {
            assert!(alone.get(key).is_none(), "{key} in {alone}");
        }
        for options in [
            &["--tier", "RGB", "--draft", "R"][..],
            &["--tier", "RGB", "--draft", "RG"],
            &["--tier", "RGB", "--resident", "R"],
            &["--draft", "R", "--resident", "R"],
        ] {
            let got = with(options);
            for key in ["text", "tokens", "tier"] {
                assert_eq!(got[key], alone[key], "{options:?}");
            }
            let number = |key: &str| got[key].as_u64().unwrap_or_else(|| panic!("{key}: {got}"));
            if options.contains(&"--draft") {
                assert!(number("accepted") <= number("drafted"));
                assert!(number("full_passes") + number("accepted") >= number("tokens") - 1);
                assert!(number("drafted") > 0);
            }
            if options.contains(&"--resident") {
                assert!(number("bytes_read") > 0);
                assert!(got["bytes_read_per_token"].as_f64().unwrap() > 0.0);
                let share = got["share_of_time_waiting"].as_f64().unwrap();
                assert!((0.0..=1.0).contains(&share));
            }
        }
    }
    let file = tiny.arg("three.lagar");
    let args = ["run", &file, "The owl", "-n", "9", "--greedy", "-v"];
    let words = lagar([&args[..], &["--draft", "R", "--resident", "R"]].concat());
    for word in [
        "tokens per full pass",
        "guesses were right",
        "per token of text",
    ] {
        assert!(words.stderr.contains(word), "{words:?}");
    }
}

#[test]
fn the_best_tier_that_fits_is_the_default_and_said_in_one_line() {
    let tiny = three_tiers();
    let file = tiny.arg("three.lagar");
    let line = |run: &crate::support::Finished| {
        let lines = run.stderr.lines();
        lines.filter(|line| line.contains("running tier")).count()
    };
    let text = tiny.arg("text.txt");
    let eval = ["eval", &file, "--text", &text, "--tokens", "100", "--json"];
    for args in [&["run", &file, "The", "-n", "1"][..], &eval] {
        let default = lagar(args);
        assert_eq!(line(&default), 1, "{default:?}");
        assert!(default.stderr.contains("running tier RGB ("), "{default:?}");
        default.ok();
        for more in [&["--tier", "RG"][..], &["--quiet"]] {
            let run = lagar([args, more].concat());
            assert_eq!(line(&run), 0, "{run:?}");
            run.ok();
        }
    }
    let bytes = |tier| lagar([&eval[..], &["--tier", tier]].concat()).json()["file_bytes"].clone();
    assert_eq!(bytes("RGB"), std::fs::metadata(&file).unwrap().len());
    assert!(bytes("R").as_u64() < bytes("RG").as_u64());
    // Of one tier there is no choice.
    tiny.press("one.lagar").ok();
    let one = lagar([
        "run",
        &tiny.arg("one.lagar"),
        "The",
        "-n",
        "1",
        "--tier",
        "R",
    ]);
    assert_eq!(line(&one), 0, "{one:?}");
}

#[test]
fn a_file_cut_within_a_tier_runs_at_those_that_are_whole() {
    let tiny = three_tiers();
    let whole = std::fs::read(tiny.path("three.lagar")).unwrap();
    let expected = run(&tiny, &["--greedy", "--tier", "RG"]);
    std::fs::write(tiny.path("three.lagar"), &whole[..whole.len() - 1000]).unwrap();
    let cut = run(&tiny, &["--greedy"]);
    assert_eq!(
        (&cut["tier"], &cut["text"]),
        (&"RG".into(), &expected["text"])
    );
    let file = tiny.arg("three.lagar");
    let said = lagar(["run", &file, "The", "-n", "1"]).stderr;
    assert!(
        said.contains("three.lagar ends within tier RGB; it can be run at R, RG"),
        "{said}"
    );
    lagar(["run", &file, "The", "--tier", "RGB"]).fails(2, &["RGB", "R, RG", "cut off"]);
    let verified = lagar(["verify", &file]);
    assert_eq!(verified.code, Some(3), "{verified:?}");
    assert!(
        verified.stderr.contains("tiers that still run: R, RG"),
        "{verified:?}"
    );
}

#[test]
fn tiers_that_make_no_sense_are_wrong_usage() {
    let tiny = three_tiers();
    let file = tiny.arg("three.lagar");
    for (options, words) in [
        (
            &["--draft", "RGB"][..],
            &["--draft RGB", "below", "RGB"][..],
        ),
        (
            &["--draft", "RG", "--tier", "RG"],
            &["--draft RG", "below", "choose RGB with --tier"],
        ),
        (
            &["--draft", "RG", "--tier", "R"],
            &["--draft RG", "below", "R; choose RGB"],
        ),
        (
            &["--draft", "full"],
            &["--draft full", "no tier full", "R, RG, RGB"],
        ),
        (&["--draft", "r"], &["--draft r", "no tier r"]),
        (&["--resident", "RGB"], &["--resident RGB", "below"]),
        (&["--resident", "X"], &["--resident X", "no tier X"]),
        (&["--tier", "full"], &["no tier full", "R, RG, RGB"]),
        (&["--tier", "full", "--draft", "R"], &["no tier full"]),
    ] {
        for command in ["run", "chat"] {
            let args = [&[command, &file][..], options].concat();
            lagar(args).fails(2, words);
        }
    }
    for option in ["--draft", "--resident"] {
        let words = [option, "checkpoint folder", "lagar press"];
        lagar(["run", &novels(), "The", option, "R"]).fails(2, &words);
    }
    lagar(["run", &novels(), "The", "--tier", "R"]).fails(2, &["checkpoint folder"]);
}

/// Tier full computes with the original weights, whatever drafts for it and wherever they lie.
#[test]
fn tier_full_says_what_the_checkpoint_says() {
    let tiny = Tiny::new();
    tiny.press_tiers("exact.lagar", "2,1+exact").ok();
    let file = tiny.arg("exact.lagar");
    for sampling in [&["--greedy"][..], &["--temperature", "1", "--seed", "3"]] {
        let run = |model: &str, options: &[&str]| {
            let args = ["run", model, "The owl", "-n", "40", "--json", "--quiet"];
            lagar([&args, sampling, options].concat()).json()["text"].clone()
        };
        let original = run(&tiny.model(), &[]);
        for options in [
            &["--tier", "full"][..],
            &["--tier", "full", "--draft", "R"],
            &["--tier", "full", "--draft", "RG", "--resident", "R"],
            &["--tier", "full", "--draft", "R", "--resident", "R"],
        ] {
            assert_eq!(run(&file, options), original, "{sampling:?} {options:?}");
        }
    }
}

#[test]
fn a_checkpoint_folder_refuses_what_only_files_have() {
    let tiny = Tiny::new();
    let folder = tiny.model();
    for options in [
        &["--draft", "R"][..],
        &["--resident", "R"],
        &["--huge-pages"],
    ] {
        let run = lagar([&["run", &folder, "The", "-n", "1"][..], options].concat());
        run.fails(2, &[options[0], "is a checkpoint folder", "lagar press"]);
    }
}
