//! What was pressed with an exact section comes back byte for byte, or is known not to.

use std::fs;
use std::path::{Path, PathBuf};

use lagar_format::{Body, Coding, Container, ExactBody, Limits, Segment};
use lagar_press::{
    Differs, PressError, PressOptions, PressReport, Silent, Verification, restore, restore_tensor,
    verify,
};
use proptest::prelude::*;

use crate::folders::{Tree, any_folder, names, plant, tree};
use crate::support::{StopAfter, cpu, fixture, novels, press_quietly, press_with, quick};

fn exact() -> PressOptions {
    PressOptions::default().with_tiers(&[], true)
}

fn odd() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/odd")
}

fn check(file: &Path, against: Option<&Path>) -> Verification {
    verify(&cpu(2), file, against, &Silent).unwrap()
}

/// Restores into a new folder and compares with what was pressed.
#[track_caller]
fn comes_back(file: &Path, expected: &Tree, to: &Path) {
    let restored = restore(&cpu(2), file, to, &Silent).unwrap();
    assert_eq!(restored.files, expected.len());
    let found = tree(to);
    assert!(
        found.keys().eq(expected.keys()),
        "{:?} instead of {:?}",
        found.keys(),
        expected.keys()
    );
    for (name, bytes) in expected {
        assert!(found[name] == *bytes, "{name} differs");
    }
}

fn press_exact(folder: &Path, file: &Path) -> PressReport {
    press_with(folder, file, exact(), 2, false, &Silent).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Any folder with safetensors comes back, each of its tensors comes back alone, and verifying
    /// finds nothing wrong; any other bytes in any of its files are found.
    #[test]
    fn any_folder_comes_back(content in any_folder(), at in any::<prop::sample::Index>()) {
        let folder = tempfile::tempdir().unwrap();
        let [from, file, to, alone] =
            ["from", "file.lagar", "to", "alone"].map(|name| folder.path().join(name));
        plant(&from, &content);
        press_exact(&from, &file);
        comes_back(&file, &content, &to);
        let found = check(&file, Some(&from));
        prop_assert!(found.is_good() && found.exact, "{:?}", found);
        prop_assert_eq!(found.files, content.len());

        let container = Container::open(&file, &Limits::default()).unwrap();
        for tensor in &container.index().tensors {
            let written = restore_tensor(&cpu(1), &file, &tensor.name, &alone, &Silent).unwrap();
            let bytes = fs::read(&written.path).unwrap();
            let data = bytes.len() - tensor.bytes() as usize;
            let hash = blake3::hash(&bytes[data..]).to_hex();
            prop_assert_eq!(hash.as_str(), &tensor.exact.as_ref().unwrap().blake3);
            let header: serde_json::Value = serde_json::from_slice(&bytes[8..data]).unwrap();
            prop_assert_eq!(&header[&tensor.name]["dtype"], tensor.dtype.name());
        }

        let full: Vec<&String> = content.keys().filter(|name| !content[*name].is_empty()).collect();
        let changed = full[at.index(full.len())];
        let mut bytes = content[changed].clone();
        let place = at.index(bytes.len());
        bytes[place] ^= 1;
        fs::write(from.join(changed), bytes).unwrap();
        let found = check(&file, Some(&from));
        let differences = found.differences.clone().unwrap();
        prop_assert!(!differences.is_empty());
        prop_assert!(differences.iter().all(|d| d.file == *changed), "{:?}", &differences);
        prop_assert!(found.damage.is_empty() && !found.is_good());
    }
}

#[test]
fn checkpoints_that_python_made_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let [file, to] = ["file.lagar", "to"].map(|name| folder.path().join(name));
    let expected = tree(&odd());
    press_exact(&odd(), &file);
    comes_back(&file, &expected, &to);
    let found = check(&file, Some(&odd()));
    assert!(found.is_good(), "{found:?}");

    let container = Container::open(&file, &Limits::default()).unwrap();
    let index = container.index();
    let body = |name: &str| {
        let tensor = container.tensor(name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(tensor.body, Body::Exact);
        &tensor.exact.as_ref().unwrap().body
    };
    // Trained-looking weights are coded, of every type that can be.
    for ty in ["bfloat16", "float16", "float32"] {
        let name = format!("{ty}.normal");
        assert!(matches!(body(&name), ExactBody::Coded { .. }), "{name}");
    }
    // Bits without any order are as they are, and what repeats is compressed.
    let raw = |blob: &ExactBody, coding| matches!(blob, ExactBody::Stored(b) if b.coding == coding);
    assert!(raw(body("float64.32x33"), Coding::Raw));
    assert!(raw(body("int64.counted"), Coding::Zlib));
    // The same name with other bytes, and other names with the same bytes.
    assert!(matches!(body("normal"), ExactBody::Coded { .. }));
    body("sub/model.safetensors:normal");
    let same = |a: &ExactBody, b: &str| match a {
        ExactBody::Same(number) => index.tensors[*number].name == b,
        _ => false,
    };
    assert!(same(body("tied"), "bfloat16.normal") || same(body("bfloat16.normal"), "tied"));
    // What no index can name, and what is no safetensors file, is kept all the same.
    let segments = |name: &str| {
        let file = index.source.iter().find(|file| file.name == name);
        file.unwrap_or_else(|| panic!("{name}")).segments.clone()
    };
    let tensors = |name: &str| {
        let is_tensor = |segment: &Segment| matches!(segment, Segment::Tensor(_));
        segments(name).iter().filter(|s| is_tensor(s)).count()
    };
    assert_eq!(tensors("by hand.safetensors"), 2);
    assert_eq!(tensors("broken.safetensors"), 0);
    assert_eq!(
        segments("config.json"),
        [Segment::Stored("config.json".to_owned())]
    );
    assert!(segments("nothing.safetensors").is_empty());
    assert_eq!(index.architecture, "Odd");
}

#[test]
fn tiers_of_a_model_with_an_exact_section_come_back_and_cut_off_files_run() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (fixture("llama2"), &[2, 1, 1][..]),
        (fixture("qwen2"), &[2, 2]),
        (fixture("qwen3"), &[4]),
        (fixture("mistral"), &[1]),
        (fixture("llama3"), &[]),
        (novels(), &[2, 2]),
    ];
    for (number, (checkpoint, bits)) in cases.iter().enumerate() {
        let [file, to, cut] =
            ["file.lagar", "to", "cut"].map(|name| folder.path().join(format!("{number}{name}")));
        press_quietly(checkpoint, &file, quick(2).with_tiers(bits, true));
        comes_back(&file, &tree(checkpoint), &to);
        let found = check(&file, Some(checkpoint));
        assert!(found.is_good(), "{found:?}");
        let container = Container::open(&file, &Limits::default()).unwrap();
        let index = container.index();
        assert_eq!(index.tiers.len(), bits.len() + 1);
        assert_eq!(index.full_tier(), Some(bits.len()));
        // Small files are stored once.
        let config = index
            .source
            .iter()
            .find(|f| f.name == "config.json")
            .unwrap();
        assert_eq!(config.segments, [Segment::Stored("config.json".to_owned())]);
        for tier in 0..bits.len() {
            lagar_format::split(&container, tier, &cut, None, &mut |_, _| true).unwrap();
            let options = lagar_engine::ModelOptions::default();
            let model = lagar_engine::Model::open(&cut, None, &options).unwrap();
            assert_eq!(model.parameters(), index.parameters);
            let error = restore(&cpu(2), &cut, &folder.path().join("none"), &Silent).unwrap_err();
            assert!(
                matches!(error, PressError::NoExact { cut_off: true, .. }),
                "{error}"
            );
            let found = check(&cut, Some(checkpoint));
            assert!(found.is_good() && !found.exact, "{found:?}");
        }
    }
}

#[test]
fn extra_tensors_are_kept_beside_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let [from, file, to] = ["from", "file.lagar", "to"].map(|name| folder.path().join(name));
    let mut content = tree(&fixture("llama2"));
    let weights = &content["model.safetensors"];
    let length = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&weights[8..8 + length]).unwrap();
    let data = weights.len() - 8 - length;
    let mut header = header;
    header["extra.thing"] =
        serde_json::json!({"dtype": "U8", "shape": [5], "data_offsets": [data, data + 5]});
    let header = serde_json::to_vec(&header).unwrap();
    let mut spoilt = (header.len() as u64).to_le_bytes().to_vec();
    spoilt.extend(&header);
    spoilt.extend(&weights[8 + length..]);
    spoilt.extend(b"extra");
    content.insert("model.safetensors".to_owned(), spoilt);
    plant(&from, &content);
    let error = press_with(&from, &file, quick(2), 2, false, &Silent).unwrap_err();
    assert!(error.to_string().contains("extra.thing"), "{error}");
    press_quietly(&from, &file, quick(2).with_tiers(&[2], true));
    comes_back(&file, &content, &to);
    for tier in ["R", "full"] {
        let options = lagar_engine::ModelOptions::default();
        lagar_engine::Model::open(&file, Some(tier), &options).unwrap();
    }
}

#[test]
fn a_press_that_was_stopped_goes_on_and_writes_the_same_bytes_on_any_threads() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, file] = ["whole.lagar", "file.lagar"].map(|name| folder.path().join(name));
    press_exact(&odd(), &whole);
    let expected = fs::read(&whole).unwrap();
    let mut stops = 0;
    for reports in (1..).step_by(37) {
        let stop = StopAfter::new(reports);
        match press_with(&odd(), &file, exact(), 1 + stops % 3, true, &stop) {
            Err(PressError::Interrupted) => stops += 1,
            Ok(report) => {
                assert!(stops > 3 && report.resumed_units > 0, "{stops} {report:?}");
                break;
            }
            Err(error) => panic!("{error}"),
        }
        assert!(!file.exists());
    }
    assert!(fs::read(&file).unwrap() == expected);
    assert_eq!(names(folder.path()), ["file.lagar", "whole.lagar"]);
}

#[test]
fn damage_is_found_named_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let [file, to] = ["file.lagar", "to"].map(|name| folder.path().join(name));
    press_quietly(
        &fixture("llama2"),
        &file,
        quick(2).with_tiers(&[2, 2], true),
    );
    let whole = fs::read(&file).unwrap();
    let container = Container::open(&file, &Limits::default()).unwrap();
    let index = container.index().clone();
    let starts: Vec<u64> = (0..index.parts.len())
        .map(|p| container.part_offset(p))
        .collect();
    let parts = starts.iter().zip(&index.parts).enumerate();
    for (number, (&start, part)) in parts.filter(|(_, (_, part))| part.bytes > 0) {
        let mut damaged = whole.clone();
        damaged[(start + part.bytes / 2) as usize] ^= 0x10;
        fs::write(&file, &damaged).unwrap();
        let found = check(&file, None);
        let tier = &index.tiers[part.tier].name;
        assert!(
            found.damage.iter().any(|d| d.tier == *tier),
            "{number}: {found:?}"
        );
        for (position, state) in found.tiers.iter().enumerate() {
            assert_eq!(state.intact, position < part.tier, "{number} {position}");
        }
        let what = index.describe_part(number);
        if let Some((_, name)) = what.split_once("tensor ") {
            let name = name.split('"').nth(1).unwrap();
            let named = |d: &&lagar_press::Damage| d.tensor.as_deref() == Some(name);
            let damage = found.damage.iter().find(named);
            let damage = damage.unwrap_or_else(|| panic!("{what}: {found:?}"));
            assert_eq!(
                damage.chunks.is_some(),
                what.starts_with("exact codes"),
                "{what}"
            );
        }
        let error = restore(&cpu(2), &file, &to, &Silent).unwrap_err();
        let format = matches!(&error, PressError::Format(error) if error.is_bad_input());
        assert!(format, "{what}: {error}");
        assert_eq!(names(folder.path()), ["file.lagar"], "{what}");
    }
    // Padding, too.
    let end = |part: usize| starts[part] + index.parts[part].bytes;
    let gap = (1..starts.len()).rfind(|&part| end(part - 1) < starts[part]);
    let mut damaged = whole;
    damaged[end(gap.unwrap() - 1) as usize] ^= 1;
    fs::write(&file, &damaged).unwrap();
    restore(&cpu(2), &file, &to, &Silent).unwrap_err();
    assert!(!check(&file, None).is_good());
}

#[test]
fn what_changed_in_a_checkpoint_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let [from, file] = ["from", "file.lagar"].map(|name| folder.path().join(name));
    let content = tree(&odd());
    plant(&from, &content);
    press_exact(&from, &file);
    let differs = || {
        let found = check(&file, Some(&from)).differences.unwrap();
        found
            .into_iter()
            .map(|d| (d.file, d.tensor, d.differs))
            .collect::<Vec<_>>()
    };
    let change = |name: &str, at: usize, with: u8| {
        let mut bytes = content[name].clone();
        bytes[at] = with;
        fs::write(from.join(name), bytes).unwrap();
    };
    let back = |name: &str| fs::write(from.join(name), &content[name]).unwrap();
    let file_of = |name: &str| name.to_owned();

    let deep = "sub/model.safetensors";
    change(deep, content[deep].len() - 1, 0x77);
    let tensor = Some("normal".to_owned());
    assert_eq!(differs(), [(file_of(deep), tensor, Differs::Content)]);
    back(deep);

    let hand = "by hand.safetensors";
    let length = content[hand][0] as usize + 256 * content[hand][1] as usize;
    change(hand, 8 + length - 1, b'\n');
    assert_eq!(differs(), [(file_of(hand), None, Differs::Header)]);
    back(hand);

    change("random.bin", 7, 0);
    fs::remove_file(from.join("README.md")).unwrap();
    fs::write(from.join("sub/new"), b"new").unwrap();
    assert_eq!(
        differs(),
        [
            (file_of("README.md"), None, Differs::Missing),
            (file_of("random.bin"), None, Differs::Content),
            (file_of("sub/new"), None, Differs::Extra),
        ]
    );
}

#[test]
fn what_cannot_be_restored_or_must_not_be_overwritten_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [file, plain, to] =
        ["file.lagar", "plain.lagar", "to"].map(|name| folder.path().join(name));
    press_exact(&odd(), &file);
    press_quietly(&fixture("llama2"), &plain, quick(2));
    let before = names(folder.path());
    let refused = |result: Result<lagar_press::Restored, PressError>, words: &str| {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
        assert_eq!(names(folder.path()), before);
    };
    refused(restore(&cpu(1), &plain, &to, &Silent), "\"full\"");
    refused(restore(&cpu(1), &plain, &to, &Silent), "it has R");
    refused(restore(&cpu(1), &file, folder.path(), &Silent), "not empty");
    refused(
        restore_tensor(&cpu(1), &file, "absent", &to, &Silent),
        "absent",
    );
    refused(
        restore(&cpu(1), &file, &to, &StopAfter::new(3)),
        "interrupted",
    );
    let found = check(&plain, Some(&fixture("llama2")));
    assert!(found.is_good() && !found.exact, "{found:?}");

    // An empty folder that is there already is filled; a tensor's file is not written twice.
    fs::create_dir(&to).unwrap();
    comes_back(&file, &tree(&odd()), &to);
    restore_tensor(&cpu(1), &file, "u16", &to, &Silent).unwrap();
    restore_tensor(&cpu(1), &file, "u16", &to, &Silent).unwrap_err();
    fs::remove_dir_all(&to).unwrap();

    // A folder that holds no safetensors, and an output in the place of one of its files.
    fs::create_dir(&to).unwrap();
    fs::write(to.join("pytorch_model.bin"), b"x").unwrap();
    let error = press_with(&to, &plain, exact(), 1, false, &Silent).unwrap_err();
    assert!(error.to_string().contains("safetensors"), "{error}");
    fs::write(to.join("empty.safetensors"), b"\x02\0\0\0\0\0\0\0{}").unwrap();
    let error = press_with(
        &to,
        &to.join("pytorch_model.bin"),
        exact(),
        1,
        false,
        &Silent,
    );
    assert!(
        matches!(error, Err(PressError::OutputIsInput { .. })),
        "{error:?}"
    );
    // The output itself may lie there, also once it is there.
    for _ in 0..2 {
        press_exact(&to, &to.join("out.lagar"));
    }
    let found = check(&to.join("out.lagar"), Some(&to));
    assert!(found.is_good() && found.files == 2, "{found:?}");
}

#[cfg(unix)]
#[test]
fn links_to_files_are_followed_and_tools_folders_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let [from, file, to] = ["from", "file.lagar", "to"].map(|name| folder.path().join(name));
    let blob = folder.path().join("blob");
    fs::write(&blob, b"\x02\0\0\0\0\0\0\0{}").unwrap();
    let content = Tree::from([
        ("kept".to_owned(), b"kept".to_vec()),
        (".git/HEAD".to_owned(), b"ref".to_vec()),
        (".cache/huggingface/x".to_owned(), b"x".to_vec()),
        (".gitattributes".to_owned(), b"*".to_vec()),
    ]);
    plant(&from, &content);
    std::os::unix::fs::symlink(&blob, from.join("model.safetensors")).unwrap();
    press_exact(&from, &file);
    restore(&cpu(1), &file, &to, &Silent).unwrap();
    assert_eq!(names(&to), [".gitattributes", "kept", "model.safetensors"]);
    assert_eq!(tree(&to)["model.safetensors"], fs::read(&blob).unwrap());
    std::os::unix::fs::symlink(&to, from.join("elsewhere")).unwrap();
    let error = press_with(&from, &file, exact(), 1, false, &Silent).unwrap_err();
    assert!(error.to_string().contains("link to a folder"), "{error}");
}
