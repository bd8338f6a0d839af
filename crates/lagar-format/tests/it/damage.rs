//! Damaged and shortened files: an error, or a whole shorter tier, and never a panic.

use lagar_format::{Container, FormatError, Limits};
use proptest::prelude::*;

use crate::sample::{self, open, open_and_check};

#[test]
fn every_prefix_is_an_error_or_the_tiers_it_holds() {
    let file = sample::write(sample::writer());
    let whole = open(file.clone()).unwrap();
    let [first, second] = [0, 1].map(|tier| whole.tier_bytes(tier).unwrap() as usize);
    assert_eq!(second, file.len());
    for len in 0..=file.len() {
        match open_and_check(file[..len].to_vec()) {
            Err(FormatError::Truncated { .. }) => assert!(len < 4096),
            Err(FormatError::FirstTierIncomplete {
                tier,
                needed,
                len: at,
            }) => {
                assert_eq!(
                    (tier.as_str(), needed as usize, at as usize),
                    ("R", first, len)
                );
                assert!(len < first);
            }
            Err(other) => panic!("{len}: {other}"),
            Ok(container) => {
                assert_eq!(container.tiers_complete(), if len < second { 1 } else { 2 });
                let end = if len < second { first } else { second };
                assert_eq!(container.partial_bytes() as usize, len - end);
                assert_eq!(container.file("config.json").unwrap().len(), 39);
                let later = container
                    .index()
                    .parts
                    .iter()
                    .position(|part| part.tier == 1);
                assert_eq!(container.part(later.unwrap()).is_ok(), len == second);
                assert_eq!(container.check(1, |_, _| {}).is_ok(), len == second);
                assert!(matches!(
                    container.check(2, |_, _| {}),
                    Err(FormatError::NoSuchTier { tier: 2, tiers: 2 })
                ));
            }
        }
    }
}

#[test]
fn every_changed_byte_is_found() {
    let file = sample::write(sample::writer());
    for at in 0..file.len() {
        // All changes of the header's bytes; elsewhere one that differs from byte to byte.
        let changes = if at < 64 {
            1..=255
        } else {
            (at % 255 + 1) as u8..=(at % 255 + 1) as u8
        };
        for change in changes {
            let mut damaged = file.clone();
            damaged[at] ^= change;
            assert!(
                open_and_check(damaged).is_err(),
                "byte {at} ^ {change:#04x}"
            );
        }
    }
}

#[test]
fn damage_is_named_with_its_tier_tensor_and_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.lagar");
    let file = sample::write(sample::writer());
    let whole = open(file.clone()).unwrap();
    let message = |at: usize| {
        let mut damaged = file.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&path, damaged).unwrap();
        let opened = Container::open(&path, &Limits::default());
        let error = opened
            .and_then(|container| container.check(1, |_, _| {}))
            .unwrap_err();
        assert!(error.is_bad_input());
        let message = error.to_string();
        assert!(message.contains("damaged.lagar"), "{message}");
        message
    };
    let contains = |at: usize, parts: &[&str]| {
        let message = message(at);
        assert!(
            parts.iter().all(|part| message.contains(part)),
            "{at}: {message}"
        );
    };
    let sections = file.len() as u64 - whole.index().tiers[1].end;
    let start = |part: usize| (sections + whole.index().parts[part].offset) as usize;
    contains(3, &["not a .lagar file"]);
    contains(8, &["version"]);
    contains(20, &["header"]);
    contains(70, &["index", "checksum"]);
    contains(4000, &["byte 4000", "padding", "0x10"]);
    let first_of_second = whole
        .index()
        .parts
        .iter()
        .position(|part| part.tier == 1)
        .unwrap();
    let names = ["\"RG\"", "codes", "up_proj", "stage 1"];
    contains(start(first_of_second), &names);
    contains(start(0), &["\"R\"", "config.json"]);
    contains(
        start(1) - 1,
        &["padding before part 1", "permutation of transform 0"],
    );
}

#[test]
fn bytes_behind_the_last_tier_are_refused() {
    let mut file = sample::write(sample::writer());
    file.push(0);
    let error = open(file).unwrap_err();
    assert!(
        matches!(error, FormatError::TrailingBytes { extra: 1, .. }),
        "{error}"
    );
}

#[test]
fn other_files_and_later_versions_are_told_apart() {
    let foreign = open(b"GGUF\x03\0\0\0 and so on".to_vec()).unwrap_err();
    assert!(matches!(foreign, FormatError::NotLagar { .. }), "{foreign}");
    assert!(matches!(
        open(Vec::new()).unwrap_err(),
        FormatError::Truncated { len: 0, .. }
    ));
    let mut later = sample::write(sample::writer());
    later[8] = 4;
    let error = open(later).unwrap_err();
    assert!(
        matches!(
            error,
            FormatError::Version {
                found: 4,
                oldest: 1,
                newest: 3
            }
        ),
        "{error}"
    );
}

proptest! {
    /// Garbage, also behind a true start of a file, is refused.
    #[test]
    fn garbage_is_refused(
        garbage in prop::collection::vec(any::<u8>(), 0..300),
        keep in 0..100usize,
    ) {
        let mut file = sample::write(sample::writer());
        let end = file.len().min(keep + garbage.len());
        let changed = file[keep..end] != garbage[..end - keep];
        file.truncate(keep);
        file.extend(garbage);
        prop_assert!(open_and_check(file).is_err() || !changed);
    }
}
