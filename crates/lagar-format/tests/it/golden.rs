//! Files of released versions open and read the same for ever.

use lagar_format::{ExactBody, Index, PIECE_BYTES, Segment};

use crate::sample::open_and_check;

/// Set LAGAR_WRITE_GOLDEN to write the files of the newest version anew, before it is released.
#[test]
fn version_2_reads_as_it_was_written() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let [file, json] = ["lagar", "json"].map(|end| format!("{folder}/version2.{end}"));
    if std::env::var_os("LAGAR_WRITE_GOLDEN").is_some() {
        let bytes = crate::sample::write(crate::sample::exact_writer());
        let container = open_and_check(bytes.clone()).unwrap();
        let text = serde_json::to_string_pretty(container.index()).unwrap();
        std::fs::write(&file, bytes).unwrap();
        std::fs::write(&json, text + "\n").unwrap();
    }
    let bytes = std::fs::read(file).unwrap();
    assert_eq!(bytes[8], 2);
    let container = open_and_check(bytes).unwrap();
    assert_eq!(container.version(), 2);
    let expected: Index = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
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
