//! `restore`, `verify`, `split` and `join`, and pressing with an exact section.

use crate::support::{Tiny, command, lagar, text};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A tiny checkpoint, and `model.lagar` with two tiers and an exact section.
fn pressed() -> Tiny {
    let tiny = Tiny::new();
    fs::create_dir(tiny.path("model/docs")).unwrap();
    fs::write(tiny.path("model/docs/LICENSE"), "Take it.\n".repeat(100)).unwrap();
    press(&tiny, "model.lagar", "2,2+exact").ok();
    tiny
}

fn press(tiny: &Tiny, output: &str, tiers: &str) -> crate::support::Finished {
    lagar([
        "press",
        &tiny.model(),
        "-o",
        &tiny.arg(output),
        "--tiers",
        tiers,
        "--text",
        &tiny.arg("text.txt"),
    ])
}

/// Names and bytes of all files of a folder.
fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = text(path.strip_prefix(folder).unwrap());
        if path.is_dir() {
            let below = tree(&path).into_iter();
            found.extend(below.map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            found.insert(name, fs::read(path).unwrap());
        }
    }
    found
}

fn flip(path: &Path, at: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at as usize] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_pressed_folder_is_restored_byte_for_byte() {
    let tiny = pressed();
    let json = lagar([
        "restore",
        &tiny.arg("model.lagar"),
        "-o",
        &tiny.arg("back"),
        "--json",
    ])
    .json();
    let expected = tree(&tiny.path("model"));
    assert_eq!(tree(&tiny.path("back")), expected);
    assert_eq!(json["files"], expected.len());
    let bytes: usize = expected.values().map(Vec::len).sum();
    assert_eq!(json["bytes"], bytes);
    assert_eq!(json["output"], tiny.arg("back"));

    // Not over what is there, and nothing but the one tensor.
    let again = ["restore", &tiny.arg("model.lagar"), "-o", &tiny.arg("back")];
    lagar(again).fails(1, &["not empty"]);
    let name = "model.norm.weight";
    let one = lagar([
        "restore",
        &tiny.arg("model.lagar"),
        "-o",
        &tiny.arg("one"),
        "--tensor",
        name,
    ]);
    assert!(one.stderr.contains("every hash fits"), "{one:?}");
    one.ok();
    let files = tree(&tiny.path("one"));
    assert_eq!(
        files.keys().collect::<Vec<_>>(),
        ["model.norm.weight.safetensors"]
    );
    lagar([
        "restore",
        &tiny.arg("model.lagar"),
        "-o",
        &tiny.arg("two"),
        "--tensor",
        "no.such.tensor",
    ])
    .fails(2, &["no.such.tensor", "inspect"]);
    tiny.absent("two");
}

#[test]
fn any_folder_with_safetensors_is_kept_even_one_that_cannot_be_run() {
    let tiny = Tiny::new();
    tiny.replace("config.json", "LlamaForCausalLM", "OwlForCausalLM");
    let refused = press(&tiny, "model.lagar", "2+exact");
    assert!(refused.stderr.contains("--tiers exact"), "{refused:?}");
    refused.fails(3, &["OwlForCausalLM"]);
    fs::remove_file(tiny.path("model/tokenizer.json")).unwrap();
    fs::create_dir(tiny.path("model/.git")).unwrap();
    fs::write(tiny.path("model/.git/HEAD"), "ref").unwrap();
    let kept = press(&tiny, "model.lagar", "exact");
    assert!(kept.stderr.contains(".git"), "{kept:?}");
    kept.ok();
    fs::remove_dir_all(tiny.path("model/.git")).unwrap();
    lagar(["restore", &tiny.arg("model.lagar"), "-o", &tiny.arg("back")]).ok();
    assert_eq!(tree(&tiny.path("back")), tree(&tiny.path("model")));
}

#[test]
fn a_whole_file_verifies_and_a_changed_checkpoint_is_named() {
    let tiny = pressed();
    let verify = [
        "verify",
        &tiny.arg("model.lagar"),
        "--against",
        &tiny.model(),
    ];
    let said = lagar(verify).ok();
    assert!(
        said.contains("every hash fits") && said.contains("is what was pressed"),
        "{said}"
    );
    let json = lagar(verify.into_iter().chain(["--json"])).json();
    assert_eq!(json["ok"], true);
    assert_eq!(json["exact"], true);
    assert_eq!(json["tiers"][2]["name"], "full");
    assert_eq!(json["damage"], serde_json::json!([]));
    assert_eq!(json["differences"], serde_json::json!([]));

    tiny.edit_tensors(|header, data| {
        let range = &header["model.norm.weight"]["data_offsets"];
        data[range[0].as_u64().unwrap() as usize] ^= 1;
    });
    fs::write(tiny.path("model/new"), "new").unwrap();
    let changed = lagar(verify);
    assert_eq!(changed.code, Some(3), "{changed:?}");
    assert!(
        changed.stdout.contains("tensor \"model.norm.weight\""),
        "{changed:?}"
    );
    assert!(changed.stdout.contains("\"new\""), "{changed:?}");
    assert!(changed.stderr.contains("2 differences"), "{changed:?}");
    let json = lagar(verify.into_iter().chain(["--json"]));
    assert_eq!(json.code, Some(3));
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!(json["differences"][0]["tensor"], "model.norm.weight");
    assert_eq!(json["differences"][1]["differs"], "extra");
}

#[test]
fn damage_in_a_higher_tier_leaves_the_lower_ones_running_and_nothing_restored() {
    let tiny = pressed();
    let file = tiny.path("model.lagar");
    let tiers = lagar(["inspect", &tiny.arg("model.lagar"), "--json"]).json()["tiers"].clone();
    let end = |tier: usize| tiers[tier]["bytes"].as_u64().unwrap();
    flip(&file, end(2) - 10);
    let verified = lagar(["verify", &tiny.arg("model.lagar")]);
    assert_eq!(verified.code, Some(3), "{verified:?}");
    assert!(verified.stderr.contains("still run: R, RG"), "{verified:?}");
    assert!(verified.stdout.contains("tensor"), "{verified:?}");
    lagar(["restore", &tiny.arg("model.lagar"), "-o", &tiny.arg("back")])
        .fails(3, &["damaged", "\"full\""]);
    tiny.absent("back");
    for tier in ["R", "RG"] {
        let args = [
            "run",
            &tiny.arg("model.lagar"),
            "The owl",
            "--tier",
            tier,
            "-n",
            "3",
            "--raw",
        ];
        lagar(args).ok();
    }
    // Below, too.
    flip(&file, end(0) - 1000);
    let verified = lagar(["verify", &tiny.arg("model.lagar")]);
    assert!(
        verified.stderr.contains("no tier can be used"),
        "{verified:?}"
    );
}

#[test]
fn files_are_split_and_joined_byte_for_byte() {
    let tiny = pressed();
    let whole = fs::read(tiny.path("model.lagar")).unwrap();
    for tier in ["R", "RG"] {
        let json = lagar([
            "split",
            &tiny.arg("model.lagar"),
            "--tier",
            tier,
            "-o",
            &tiny.arg("small.lagar"),
            "--rest",
            &tiny.arg("tail"),
            "--json",
        ])
        .json();
        let small = fs::read(tiny.path("small.lagar")).unwrap();
        assert_eq!(json["output_bytes"], small.len());
        assert!(whole.starts_with(&small));
        lagar([
            "run",
            &tiny.arg("small.lagar"),
            "The owl",
            "-n",
            "3",
            "--raw",
        ])
        .ok();
        let json = lagar([
            "join",
            &tiny.arg("small.lagar"),
            &tiny.arg("tail"),
            "-o",
            &tiny.arg("joined.lagar"),
            "--json",
        ])
        .json();
        assert_eq!(json["output_bytes"], whole.len());
        assert!(fs::read(tiny.path("joined.lagar")).unwrap() == whole);
        lagar(["restore", &tiny.arg("small.lagar"), "-o", &tiny.arg("back")])
            .fails(2, &["full", "cut off", "join"]);
        let said = lagar([
            "verify",
            &tiny.arg("small.lagar"),
            "--against",
            &tiny.model(),
        ])
        .ok();
        assert!(said.contains("not there"), "{said}");
    }
    let split = |extra: &[&str]| {
        let args = ["split", &tiny.arg("model.lagar"), "-o"].map(str::to_owned);
        lagar(
            args.into_iter()
                .chain(extra.iter().map(ToString::to_string)),
        )
    };
    split(&[&tiny.arg("x"), "--tier", "RGB"]).fails(2, &["RGB", "R, RG, full"]);
    split(&[&tiny.arg("x"), "--tier", "full", "--rest", &tiny.arg("y")])
        .fails(2, &["nothing follows"]);
    split(&[&tiny.arg("model.lagar"), "--tier", "R"]).fails(2, &["choose another name"]);
    tiny.absent("x");

    press(&tiny, "other.lagar", "2,1+exact").ok();
    lagar([
        "split",
        &tiny.arg("other.lagar"),
        "--tier",
        "R",
        "-o",
        &tiny.arg("small.lagar"),
    ])
    .ok();
    let joined = |first: &str, tail: &str| {
        lagar([
            "join",
            &tiny.arg(first),
            &tiny.arg(tail),
            "-o",
            &tiny.arg("x"),
        ])
    };
    joined("small.lagar", "tail").fails(3, &["belongs to another file"]);
    joined("small.lagar", "other.lagar").fails(3, &["not a tail file"]);
    joined("small.lagar", "absent").fails(3, &["absent"]);
    joined("model.lagar", "tail").fails(3, &["tail"]);
    tiny.absent("x");
}

#[test]
fn files_without_an_exact_section_say_so() {
    let tiny = Tiny::new();
    tiny.press("model.lagar").ok();
    lagar(["restore", &tiny.arg("model.lagar"), "-o", &tiny.arg("back")])
        .fails(2, &["\"full\"", "it has R", "+exact"]);
    tiny.absent("back");
    let said = lagar(["verify", &tiny.arg("model.lagar")]).ok();
    assert!(said.contains("every checksum fits"), "{said}");
    lagar(["verify", &tiny.arg("text.txt")]).fails(3, &["not a .lagar file"]);
    lagar(["verify", &tiny.arg("absent")]).fails(3, &["absent"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_nothing() {
    let tiny = pressed();
    // More than this no file may have: the write fails as on a disk that is full.
    let program = command(["restore", &tiny.arg("model.lagar"), "-o", &tiny.arg("back")]);
    let script = format!(
        "ulimit -f 1; trap '' XFSZ; exec '{}' restore '{}' -o '{}'",
        text(Path::new(program.get_program())),
        tiny.arg("model.lagar"),
        tiny.arg("back")
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    tiny.absent("back");
    let left = tree(&tiny.path(""));
    assert!(
        !left.keys().any(|name| name.contains("restore")),
        "{:?}",
        left.keys()
    );
}
