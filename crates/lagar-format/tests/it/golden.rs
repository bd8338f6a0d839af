//! Files of released versions open and read the same for ever.

use lagar_format::{Body, ExactBody, Index, PIECE_BYTES, Segment, Stage};

use crate::sample::{self, open_and_check};

/// Set LAGAR_WRITE_GOLDEN to write the files of the newest version anew, before it is released.
#[test]
fn version_3_reads_as_it_was_written() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let [file, json] = ["lagar", "json"].map(|end| format!("{folder}/version3.{end}"));
    if std::env::var_os("LAGAR_WRITE_GOLDEN").is_some() {
        let bytes = sample::write(sample::kinds_writer());
        let container = open_and_check(bytes.clone()).unwrap();
        let text = serde_json::to_string_pretty(container.index()).unwrap();
        std::fs::write(&file, bytes).unwrap();
        std::fs::write(&json, text + "\n").unwrap();
    }
    let bytes = std::fs::read(file).unwrap();
    assert_eq!(bytes[8], 3);
    let container = open_and_check(bytes).unwrap();
    assert_eq!(container.version(), 3);
    let expected: Index = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(container.index(), &expected);
    let Body::Linear { stages, .. } = &container.index().tensors[0].body else {
        panic!("{:?}", container.index().tensors[0]);
    };
    let [
        Stage::Window(_),
        Stage::Window(_),
        Stage::Sparse(sparse),
        Stage::LowRank(low_rank),
    ] = &stages[..]
    else {
        panic!("{stages:?}");
    };
    assert_eq!(container.part(sparse.gaps).unwrap()[..], [200, 0, 97, 7]);
    assert_eq!((low_rank.rank, low_rank.v.tier), (16, 1));
}

/// What version 2 can hold is still written as version 2, and what version 1 can hold as that.
#[test]
fn a_file_has_the_least_version_that_has_all_it_uses() {
    let version = |writer| sample::write(writer)[8];
    assert_eq!(version(sample::writer()), 1);
    assert_eq!(version(sample::exact_writer()), 2);
    assert_eq!(version(sample::kinds_writer()), 3);
}

#[test]
fn version_2_reads_as_it_was_written() {
    let container = open_and_check(include_bytes!("../golden/version2.lagar").to_vec()).unwrap();
    assert_eq!(container.version(), 2);
    let expected: Index = serde_json::from_str(include_str!("../golden/version2.json")).unwrap();
    let index = container.index();
    assert_eq!(index, &expected);
    assert_eq!(index.full_tier(), Some(2));
    assert_eq!(
        index.tensors[4].exact.as_ref().unwrap().body,
        ExactBody::Same(0)
    );
    let Segment::Bytes(readme) = &index.source[2].segments[0] else {
        panic!("{:?}", index.source[2]);
    };
    let pieces = [0, 1].map(|piece| container.blob_piece(readme, piece).unwrap());
    assert_eq!(pieces[0].len() as u64, PIECE_BYTES);
    assert_eq!(
        pieces[1][..],
        [0; 1000].map(|_: u8| (PIECE_BYTES >> 12) as u8)
    );
    assert_eq!(pieces[0][5 << 12], 5);
    let Some(ExactBody::Stored(norm)) = index.tensors[1].exact.as_ref().map(|e| &e.body) else {
        panic!("{:?}", index.tensors[1]);
    };
    assert_eq!(container.blob_piece(norm, 0).unwrap().len(), 1200);
}

#[test]
fn version_1_reads_as_it_was_written() {
    let file = include_bytes!("../golden/version1.lagar");
    let container = open_and_check(file.to_vec()).unwrap();
    let expected: Index = serde_json::from_str(include_str!("../golden/version1.json")).unwrap();
    assert_eq!(container.index(), &expected);
    assert_eq!(container.version(), 1);
    assert_eq!(container.tiers_complete(), 2);
    assert_eq!(container.tier_bytes(0).unwrap(), 7104);
    assert_eq!(container.tier_bytes(1).unwrap(), file.len() as u64);
    assert_eq!(
        container.file("config.json").unwrap(),
        br#"{"architectures": ["LlamaForCausalLM"]}"#
    );
    assert_eq!(container.part(1).unwrap()[..4], [43, 1, 42, 1]);
}
