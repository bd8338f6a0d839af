//! Reading parts into buffers: the same bytes as in the map, and nothing that is damaged.

use std::sync::Arc;

use lagar_format::{Container, FormatError, Limits, PartReader, Region};
use proptest::prelude::*;

use crate::sample;

/// A file with parts of many sizes, some above a checksum's 4 MiB, opened by name and from memory.
fn containers(folder: &std::path::Path) -> [Arc<Container>; 2] {
    let mut writer = sample::writer();
    for len in [0, 1, 63, 4095, 4096, 4097, 9_000_000, 70_000] {
        let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        writer.part(bytes);
    }
    let path = folder.join("parts.lagar");
    writer.write(&path).unwrap();
    let bytes = Region::from_vec(std::fs::read(&path).unwrap());
    [
        Container::open(&path, &Limits::default()),
        Container::from_region(bytes, &Limits::default()),
    ]
    .map(|opened| Arc::new(opened.unwrap()))
}

/// A whole part.
fn whole(container: &Container) -> impl Fn(usize) -> (usize, std::ops::Range<u64>) + use<> {
    let lengths: Vec<u64> = container
        .index()
        .parts
        .iter()
        .map(|part| part.bytes)
        .collect();
    move |id| (id, 0..lengths[id])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_choice_of_parts_is_read_into_any_buffer(
        chosen in prop::collection::vec((any::<prop::sample::Index>(), any::<[u32; 2]>()), 0..20),
        buffer in 0..100_000usize,
    ) {
        let folder = tempfile::tempdir().unwrap();
        for container in containers(folder.path()) {
            let parts = &container.index().parts;
            let wanted: Vec<_> = chosen
                .iter()
                .map(|(part, ends)| {
                    let part = part.index(parts.len());
                    let [a, b] = ends.map(|end| u64::from(end) % (parts[part].bytes + 1));
                    (part, a.min(b)..a.max(b))
                })
                .collect();
            let reader = PartReader::new(Arc::clone(&container)).unwrap();
            let plan = reader.plan(&wanted).unwrap();
            let read = reader.read(&plan, vec![7; buffer], &|| true).unwrap().unwrap();
            for (part, range) in &wanted {
                let found = read.range(*part, range.clone()).unwrap();
                let expected = container.part(*part).unwrap();
                let expected = &expected[range.start as usize..range.end as usize];
                prop_assert!(found[..] == *expected, "part {} {:?}", part, range);
            }
            for id in (0..parts.len()).filter(|id| wanted.iter().all(|(w, _)| w != id)) {
                prop_assert!(read.range(id, 0..0).is_none());
            }
            let again = read.into_buffer().unwrap();
            prop_assert_eq!(again.len(), buffer.max(plan.buffer_bytes()));
            let stopped = reader.read(&plan, again, &|| false).unwrap();
            prop_assert_eq!(stopped.is_none(), plan.bytes() > 0);
        }
    }
}

#[test]
fn a_buffer_in_use_is_not_given_back() {
    let folder = tempfile::tempdir().unwrap();
    for container in containers(folder.path()) {
        let whole = whole(&container);
        let reader = PartReader::new(container).unwrap();
        let plan = reader.plan(&[whole(1), whole(3)]).unwrap();
        let read = reader.read(&plan, Vec::new(), &|| true).unwrap().unwrap();
        let part = read.range(3, 0..1).unwrap();
        assert!(read.clone().into_buffer().is_none());
        assert!(read.into_buffer().is_none());
        assert!(!part.is_empty());
    }
}

#[test]
fn damage_is_found_by_the_chunk() {
    let folder = tempfile::tempdir().unwrap();
    let [container, _] = containers(folder.path());
    let path = container.path().unwrap().to_owned();
    let index = container.index().clone();
    let large = index
        .parts
        .iter()
        .position(|part| part.bytes == 9_000_000)
        .unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let sections = bytes.len() as u64 - index.tiers.last().unwrap().end;
    let at = sections + index.parts[large].offset + (5 << 20);
    bytes[at as usize] ^= 1;
    // In place: another file of this name would be refused.
    std::fs::write(&path, &bytes).unwrap();
    let whole = whole(&container);
    let reader = PartReader::new(Arc::clone(&container)).unwrap();
    let plan = reader.plan(&[whole(large)]).unwrap();
    let error = reader.read(&plan, Vec::new(), &|| true).unwrap_err();
    let FormatError::PartChecksum {
        part, start, end, ..
    } = error.root()
    else {
        panic!("{error}");
    };
    assert_eq!(*part, large);
    assert!((*start..*end).contains(&at) && end - start == 4 << 20);
    // Other parts are as they were, and so is the chunk before.
    let plan = reader
        .plan(&[whole(large - 1), whole(large + 1), (large, 0..1 << 22)])
        .unwrap();
    assert!(reader.read(&plan, Vec::new(), &|| true).unwrap().is_some());
}

#[test]
fn another_file_under_the_same_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [container, _] = containers(folder.path());
    let path = container.path().unwrap();
    for other in [sample::write(sample::writer()), b"short".to_vec()] {
        let new = folder.path().join("new");
        std::fs::write(&new, other).unwrap();
        std::fs::rename(&new, path).unwrap();
        let error = PartReader::new(Arc::clone(&container)).unwrap_err();
        assert!(matches!(error, FormatError::Replaced { .. }), "{error}");
    }
    std::fs::remove_file(path).unwrap();
    let error = PartReader::new(container).unwrap_err();
    assert!(matches!(error, FormatError::Io { .. }), "{error}");
}
