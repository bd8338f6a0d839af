//! Cutting files at the ends of their tiers and putting them together again.

use std::fs;
use std::path::{Path, PathBuf};

use lagar_format::{
    Body, Container, Dtype, FormatError, Index, Limits, SplitBytes, TensorRecord, Writer, join,
    split,
};
use proptest::prelude::*;

/// A file of tiers with parts of these lengths.
fn file(path: &Path, id: &str, tiers: &[Vec<usize>]) -> Container {
    let mut writer = Writer::new(Index {
        id: id.to_owned(),
        producer: "test".to_owned(),
        architecture: "Test".to_owned(),
        ..Index::default()
    });
    for (tier, parts) in tiers.iter().enumerate() {
        writer.begin_tier(format!("tier {tier}"));
        for (number, &len) in parts.iter().enumerate() {
            let bytes: Vec<u8> = (0..len)
                .map(|i| (i * 7 + number * 3 + tier) as u8)
                .collect();
            let part = writer.part(bytes);
            writer.tensor(TensorRecord {
                name: format!("tensor {part}"),
                shape: vec![len as u64],
                dtype: Dtype::U8,
                body: Body::Raw {
                    dtype: Dtype::U8,
                    parts: vec![part],
                },
                exact: None,
            });
        }
    }
    writer.write(path).unwrap();
    Container::open(path, &Limits::default()).unwrap()
}

fn cut(
    container: &Container,
    tier: usize,
    output: &Path,
    rest: Option<&Path>,
) -> Result<SplitBytes, FormatError> {
    split(container, tier, output, rest, &mut |_, _| true)
}

fn put(prefix: &Path, tail: &Path, output: &Path) -> Result<u64, FormatError> {
    join(prefix, tail, output, &Limits::default(), &mut |_, _| true)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<_> = entries.map(|e| name(e).into_string().unwrap()).collect();
    names.sort();
    names
}

fn places<const N: usize>(folder: &Path, names: [&str; N]) -> [PathBuf; N] {
    names.map(|name| folder.join(name))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Cut anywhere, each prefix is a file of its tier and checks, and prefix and tail are the
    /// file again, byte for byte; so are a prefix and the tails of two cuts, one after the other.
    #[test]
    fn a_cut_file_is_joined_byte_for_byte(
        tiers in prop::collection::vec(prop::collection::vec(0..9000usize, 1..4), 2..5),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let [whole, prefix, tail, lower, middle, joined] = places(
            folder.path(),
            ["whole.lagar", "prefix.lagar", "tail", "lower.lagar", "middle", "joined.lagar"],
        );
        let container = file(&whole, "id", &tiers);
        let bytes = fs::read(&whole).unwrap();
        for tier in 0..tiers.len() - 1 {
            let written = cut(&container, tier, &prefix, Some(&tail)).unwrap();
            prop_assert_eq!(written.output, container.tier_bytes(tier).unwrap());
            prop_assert_eq!(written.rest, fs::metadata(&tail).unwrap().len());
            let cut_off = Container::open(&prefix, &Limits::default()).unwrap();
            prop_assert_eq!(cut_off.tiers_complete(), tier + 1);
            prop_assert_eq!(cut_off.partial_bytes(), 0);
            prop_assert_eq!(&fs::read(&prefix).unwrap()[..], &bytes[..written.output as usize]);
            cut_off.check(tier, |_, _| {}).unwrap();
            prop_assert_eq!(put(&prefix, &tail, &joined).unwrap(), bytes.len() as u64);
            prop_assert_eq!(&fs::read(&joined).unwrap(), &bytes);
            if tier > 0 {
                cut(&cut_off, 0, &lower, Some(&middle)).unwrap();
                put(&lower, &middle, &joined).unwrap();
                prop_assert_eq!(fs::read(&joined).unwrap(), fs::read(&prefix).unwrap());
                // The tail of the higher cut does not follow the lower one.
                let error = put(&lower, &tail, &joined).unwrap_err();
                let at_start = matches!(error.root(), FormatError::TailStart { .. });
                prop_assert!(at_start, "{}", error);
            }
        }
        let last = tiers.len() - 1;
        cut(&container, last, &prefix, None).unwrap();
        prop_assert_eq!(&fs::read(&prefix).unwrap(), &bytes);
    }
}

#[test]
fn what_does_not_belong_together_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second, prefix, tail, other, other_tail, out] = places(
        folder.path(),
        ["1", "2", "prefix", "tail", "other", "other_tail", "out"],
    );
    let tiers = [vec![100, 5000], vec![10], vec![7]];
    let container = file(&first, "first", &tiers);
    cut(&container, 0, &prefix, Some(&tail)).unwrap();
    let second = file(&second, "second", &tiers);
    cut(&second, 0, &other, Some(&other_tail)).unwrap();
    let before = names(folder.path());
    let refused = |prefix: &Path, tail: &Path, kind: &str, words: &[&str]| {
        let error = put(prefix, tail, &out).unwrap_err();
        assert!(format!("{:?}", error.root()).starts_with(kind), "{error:?}");
        let message = error.to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
        assert_eq!(names(folder.path()), before);
    };
    refused(
        &prefix,
        &other_tail,
        "TailOfAnother",
        &["first", "second", "other_tail"],
    );
    refused(&prefix, &prefix, "NotTail", &["not a tail file", "prefix"]);
    refused(&tail, &tail, "NotLagar", &["not a .lagar file"]);
    refused(&first, &tail, "TailStart", &["tail"]);

    // Every shorter tail, and one that is longer; every changed byte.
    let bytes = fs::read(&tail).unwrap();
    for len in (0..200).chain((200..bytes.len()).step_by(13)) {
        fs::write(&tail, &bytes[..len]).unwrap();
        refused(&prefix, &tail, "Truncated", &["tail"]);
    }
    fs::write(&tail, [&bytes[..], &[0]].concat()).unwrap();
    refused(&prefix, &tail, "TrailingBytes", &["tail"]);
    // The header's bytes, and one in a few of the rest.
    for at in (0..200).chain((200..bytes.len()).step_by(13)) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        fs::write(&tail, damaged).unwrap();
        refused(&prefix, &tail, "", &["tail"]);
    }
    fs::write(&tail, &bytes).unwrap();
    put(&prefix, &tail, &out).unwrap();

    // A prefix that was itself cut off.
    let cut_off = fs::read(&first).unwrap();
    fs::remove_file(&out).unwrap();
    fs::write(&prefix, &cut_off[..cut_off.len() - 1]).unwrap();
    refused(&prefix, &tail, "TailStart", &["tail"]);
}

#[test]
fn damage_is_not_copied() {
    let folder = tempfile::tempdir().unwrap();
    let [path, out, tail] = places(folder.path(), ["file", "out", "tail"]);
    let container = file(&path, "id", &[vec![100], vec![100]]);
    let end = container.tier_bytes(1).unwrap() as usize;
    drop(container);
    let mut bytes = fs::read(&path).unwrap();
    bytes[end - 1] ^= 1;
    fs::write(&path, bytes).unwrap();
    let container = Container::open(&path, &Limits::default()).unwrap();
    let error = cut(&container, 0, &out, Some(&tail)).unwrap_err();
    assert!(
        matches!(error.root(), FormatError::PartChecksum { .. }),
        "{error}"
    );
    assert_eq!(names(folder.path()), ["file"]);
    // What lies below the damage is whole.
    cut(&container, 0, &out, None).unwrap();
}

#[test]
fn no_output_is_another_file_of_the_same_work() {
    let folder = tempfile::tempdir().unwrap();
    let [path, out, tail] = places(folder.path(), ["file", "out", "tail"]);
    let container = file(&path, "id", &[vec![100], vec![100]]);
    let roundabout = folder.path().join(".").join("file");
    let same = |result: Result<SplitBytes, FormatError>| {
        let error = result.unwrap_err();
        assert!(matches!(error, FormatError::SameFile { .. }), "{error}");
    };
    same(cut(&container, 0, &roundabout, None));
    same(cut(&container, 0, &out, Some(&roundabout)));
    same(cut(
        &container,
        0,
        &out,
        Some(&folder.path().join(".").join("out")),
    ));
    let error = cut(&container, 1, &out, Some(&tail)).unwrap_err();
    assert!(
        matches!(error.root(), FormatError::NothingFollows { .. }),
        "{error}"
    );
    let error = cut(&container, 2, &out, None).unwrap_err();
    assert!(
        matches!(error.root(), FormatError::NoSuchTier { .. }),
        "{error}"
    );
    assert_eq!(names(folder.path()), ["file"]);
    cut(&container, 0, &out, Some(&tail)).unwrap();
    for output in [&out, &tail] {
        let error = put(&out, &tail, output).unwrap_err();
        assert!(matches!(error, FormatError::SameFile { .. }), "{error}");
    }
}

#[test]
fn work_that_is_stopped_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let [path, out, tail] = places(folder.path(), ["file", "out", "tail"]);
    let container = file(&path, "id", &[vec![9 << 20], vec![5 << 20]]);
    let (mut calls, mut last) = (0, (0, 0));
    split(&container, 0, &out, Some(&tail), &mut |done, total| {
        assert!(done >= last.0 && done <= total);
        (calls, last) = (calls + 1, (done, total));
        true
    })
    .unwrap();
    assert_eq!(last.0, last.1);
    assert!(calls > 5);
    let before = names(folder.path());
    let fresh = folder.path().join("fresh");
    for stop in 0..calls {
        let mut left = stop;
        let mut go_on = |_, _| {
            left -= 1;
            left >= 0
        };
        let error = split(&container, 0, &fresh, None, &mut go_on);
        if stop < calls / 2 {
            assert!(
                matches!(error, Err(FormatError::Interrupted)),
                "{stop}: {error:?}"
            );
        }
        let _ = fs::remove_file(&fresh);
        left = stop;
        let mut go_on = |_, _| {
            left -= 1;
            left >= 0
        };
        match join(&out, &tail, &fresh, &Limits::default(), &mut go_on) {
            Ok(_) => fs::remove_file(&fresh).unwrap(),
            Err(error) => assert!(matches!(error, FormatError::Interrupted), "{error}"),
        }
        assert_eq!(names(folder.path()), before);
    }
}
