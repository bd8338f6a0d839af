//! What is written is what is read.

use lagar_format::{
    Body, Container, Dtype, FormatError, Index, Limits, PartSource, TensorRecord, Writer, os,
};
use proptest::prelude::*;

use crate::sample;

fn description() -> Index {
    Index {
        id: "1".to_owned(),
        producer: "test".to_owned(),
        architecture: "Test".to_owned(),
        ..Index::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any parts in any tiers, from memory or from files, come back aligned and unchanged, and the
    /// file cut at the end of any tier holds exactly that tier.
    #[test]
    fn parts_come_back(
        tiers in prop::collection::vec(prop::collection::vec((0..9000usize, any::<bool>()), 1..5), 1..4),
        content in prop::collection::vec(any::<u8>(), 9100),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let units = folder.path().join("units");
        std::fs::write(&units, &content).unwrap();
        let mut writer = Writer::new(description());
        let mut expected = Vec::new();
        for (tier, parts) in tiers.iter().enumerate() {
            writer.begin_tier(format!("tier {tier}"));
            for &(len, from_file) in parts {
                let offset = expected.len();
                let bytes = content[offset..offset + len].to_vec();
                let source = match from_file {
                    false => bytes.clone().into(),
                    true => PartSource::File {
                        path: units.clone(),
                        offset: offset as u64,
                        bytes: len as u64,
                    },
                };
                let part = writer.part(source);
                writer.tensor(TensorRecord {
                    name: format!("tensor {part}"),
                    shape: vec![len as u64],
                    dtype: Dtype::U8,
                    body: Body::Raw { dtype: Dtype::U8, parts: vec![part] },
                    exact: None,
                });
                expected.push((tier, bytes));
            }
        }
        let path = folder.path().join("whole.lagar");
        writer.write(&path).unwrap();
        let file = std::fs::read(&path).unwrap();
        let whole = Container::open(&path, &Limits::default()).unwrap();
        prop_assert_eq!(whole.tiers_complete(), tiers.len());
        prop_assert_eq!(whole.partial_bytes(), 0);
        prop_assert_eq!(whole.tier_bytes(tiers.len() - 1).unwrap(), file.len() as u64);
        for tier in 0..tiers.len() {
            let prefix = &file[..whole.tier_bytes(tier).unwrap() as usize];
            let container = sample::open_and_check(prefix.to_vec()).unwrap();
            prop_assert_eq!(container.tiers_complete(), tier + 1);
            prop_assert_eq!(container.partial_bytes(), 0);
            let mut held = whole.clone();
            held.hold_in_huge_pages(tier).unwrap();
            for (id, (_, bytes)) in expected.iter().enumerate() {
                prop_assert_eq!(&held.part(id).unwrap()[..], &bytes[..]);
            }
            for (id, (of, bytes)) in expected.iter().enumerate() {
                match container.part(id) {
                    Ok(part) => {
                        prop_assert!(*of <= tier);
                        prop_assert_eq!(&part[..], &bytes[..]);
                        let start = part.as_ptr() as usize - container.part(0).unwrap().as_ptr() as usize;
                        prop_assert_eq!(start % 64, 0);
                    }
                    Err(FormatError::TierIncomplete { .. }) => prop_assert!(*of > tier),
                    Err(other) => return Err(TestCaseError::fail(other.to_string())),
                }
            }
        }
    }

    /// A stored file of any content comes back.
    #[test]
    fn files_come_back(content in prop::collection::vec(0..4u8, 0..5000)) {
        let mut writer = Writer::new(description());
        writer.begin_tier("R");
        writer.file("tokenizer.json", &content);
        let container = sample::open_and_check(sample::write(writer)).unwrap();
        prop_assert_eq!(container.file("tokenizer.json").unwrap(), content);
    }
}

#[test]
fn the_sample_comes_back_with_its_index() {
    let writer = sample::writer();
    let declared = writer.index().clone();
    let container = sample::open_and_check(sample::write(writer)).unwrap();
    let mut read = container.index().clone();
    for (part, declared) in read.parts.iter_mut().zip(&declared.parts) {
        *part = declared.clone();
    }
    for (tier, declared) in read.tiers.iter_mut().zip(&declared.tiers) {
        *tier = declared.clone();
    }
    assert_eq!(read, declared);

    let config = container.file("config.json").unwrap();
    assert_eq!(config, br#"{"architectures": ["LlamaForCausalLM"]}"#);
    let missing = container.file("tokenizer.json").unwrap_err().to_string();
    assert!(
        missing.contains("tokenizer.json") && missing.contains("config.json"),
        "{missing}"
    );
    let norm = container.tensor("model.norm.weight").unwrap();
    let Body::Raw { parts, .. } = &norm.body else {
        panic!("{norm:?}")
    };
    assert_eq!(container.index().latest(parts, 0), Some(parts[0]));
    assert_eq!(container.index().latest(parts, 1), Some(parts[1]));
    assert_eq!(container.index().latest(&parts[1..], 0), None);
    assert_eq!(container.index().tier("RG"), Some(1));
    assert!(container.tensor("absent").is_none());
}

#[test]
fn the_same_declarations_give_the_same_bytes() {
    assert_eq!(
        sample::write(sample::writer()),
        sample::write(sample::writer())
    );
}

#[test]
fn a_part_longer_than_a_chunk_has_a_checksum_for_each() {
    let folder = tempfile::tempdir().unwrap();
    let [units, path] = ["units", "file.lagar"].map(|name| folder.path().join(name));
    let content: Vec<u8> = (0..9_000_001u32).map(|i| (i ^ (i >> 9)) as u8).collect();
    std::fs::write(&units, &content).unwrap();
    let mut writer = Writer::new(description());
    writer.begin_tier("R");
    let part = writer.part(PartSource::File {
        path: units,
        offset: 1,
        bytes: 9_000_000,
    });
    writer.write(&path).unwrap();

    let container = Container::open(&path, &Limits::default()).unwrap();
    assert_eq!(container.index().parts[part].crc32c.len(), 3);
    assert_eq!(container.part(part).unwrap()[..], content[1..]);
    let mut steps = Vec::new();
    container
        .check(0, |done, total| steps.push((done, total)))
        .unwrap();
    let total = 9_000_000;
    assert_eq!(steps, [(4 << 20, total), (8 << 20, total), (total, total)]);

    // Damage in the last chunk is found there and nowhere else, and the message says where.
    let at = container.tier_bytes(0).unwrap() - 5;
    let mut damaged = std::fs::read(&path).unwrap();
    damaged[at as usize] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    let units = container.check_units(0).unwrap();
    let results: Vec<_> = units
        .iter()
        .map(|unit| container.check_unit(*unit))
        .collect();
    assert!(results[0].is_ok() && results[1].is_ok());
    match results[2].as_ref().unwrap_err().root() {
        FormatError::PartChecksum { start, end, .. } => assert!((*start..*end).contains(&at)),
        other => panic!("{other}"),
    }
}

#[test]
fn a_source_that_is_too_short_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let [units, path] = ["units", "file.lagar"].map(|name| folder.path().join(name));
    std::fs::write(&units, [1; 100]).unwrap();
    let mut writer = Writer::new(description());
    writer.begin_tier("R");
    writer.part(PartSource::File {
        path: units,
        offset: 50,
        bytes: 51,
    });
    let error = writer.write(&path).unwrap_err();
    assert!(
        matches!(error, FormatError::SourceChanged { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("units"), "{error}");
    assert!(!path.exists());
}

#[test]
fn what_a_reader_would_refuse_is_not_written() {
    let refused = |writer: Writer| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.lagar");
        let error = writer.write(&path).unwrap_err();
        assert!(!path.exists());
        error.to_string()
    };
    let empty = Writer::new(description());
    assert!(refused(empty).contains("at least one"));
    let mut without_tier = Writer::new(description());
    without_tier.part(vec![1]);
    assert!(refused(without_tier).contains("tiers"));
    let mut empty_tier = Writer::new(description());
    empty_tier.begin_tier("R");
    empty_tier.part(vec![1]);
    empty_tier.begin_tier("RG");
    assert!(refused(empty_tier).contains("tiers[1]"));
    let mut path_as_name = Writer::new(description());
    path_as_name.begin_tier("R");
    path_as_name.file("../config.json", b"{}");
    assert!(refused(path_as_name).contains("file name"));

    let mut index = description();
    index
        .settings
        .insert("text".to_owned(), "a\u{1b}[2Jb".to_owned());
    let error = index
        .check_description(&Limits::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("control") && !error.contains('\u{1b}'),
        "{error}"
    );
}

#[test]
fn a_finished_file_replaces_an_older_one() {
    let folder = tempfile::tempdir().unwrap();
    let [temporary, path] = ["file.tmp", "file.lagar"].map(|name| folder.path().join(name));
    std::fs::write(&path, b"older").unwrap();
    sample::writer().write(&temporary).unwrap();
    os::replace_atomically(&temporary, &path).unwrap();
    let container = Container::open(&path, &Limits::default()).unwrap();
    container.check(1, |_, _| {}).unwrap();
    assert_eq!(container.path(), Some(path.as_path()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_that_says_so() {
    let error = sample::writer().write("/dev/full".as_ref()).unwrap_err();
    assert!(matches!(error, FormatError::DiskFull { .. }), "{error}");
    assert!(error.to_string().contains("/dev/full"), "{error}");
}
