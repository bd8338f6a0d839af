//! Files made from any index at all, as FORMAT.md describes them and without the crate's writer.

use lagar_format::Index;
use proptest::prelude::*;

/// A place among the numbers of an index, and what to write there.
pub(crate) type NewNumber = (prop::sample::Index, u64);

/// A file of this JSON text and these sections, with every checksum in order.
pub(crate) fn encode(json: &[u8], data: &[u8]) -> Vec<u8> {
    encode_version(lagar_format::VERSION as u8, json, data)
}

/// A file of this version.
pub(crate) fn encode_version(version: u8, json: &[u8], data: &[u8]) -> Vec<u8> {
    let stored = miniz_oxide::deflate::compress_to_vec_zlib(json, 1);
    let data_offset = (64 + stored.len()).next_multiple_of(4096);
    let mut file = b"\x89LAGAR\r\n\x02\0\0\0\0\0\0\0".to_vec();
    file[8] = version;
    for field in [64, stored.len(), json.len(), data_offset] {
        file.extend((field as u64).to_le_bytes());
    }
    file.extend(crc32c::crc32c(&stored).to_le_bytes());
    file.extend([0; 8]);
    file.extend(crc32c::crc32c(&file).to_le_bytes());
    file.extend(stored);
    file.resize(data_offset, 0);
    file.extend(data);
    file
}

/// A file of this index and its sections' bytes.
pub(crate) fn encode_index(index: &Index, data: &[u8]) -> Vec<u8> {
    encode(&serde_json::to_vec(index).unwrap(), data)
}

/// A few numbers at the edges of what fits, each for a place in an index.
pub(crate) fn new_numbers() -> impl Strategy<Value = Vec<NewNumber>> {
    let number = prop_oneof![
        0..10u64,
        any::<u64>(),
        (0..64u32).prop_map(|bit| 1 << bit),
        Just(u64::MAX)
    ];
    prop::collection::vec((any::<prop::sample::Index>(), number), 1..4)
}

/// The JSON of an index in which these numbers have replaced others.
pub(crate) fn with_numbers(index: &Index, numbers: &[NewNumber]) -> String {
    let mut pieces: Vec<String> = Vec::new();
    let starts_with_digit = |piece: &str| piece.starts_with(|c: char| c.is_ascii_digit());
    for c in serde_json::to_string(index).unwrap().chars() {
        match pieces.last_mut() {
            Some(last) if c.is_ascii_digit() == starts_with_digit(last) => last.push(c),
            _ => pieces.push(c.to_string()),
        }
    }
    let places: Vec<usize> = (0..pieces.len())
        .filter(|&i| starts_with_digit(&pieces[i]))
        .collect();
    for (at, number) in numbers {
        pieces[*at.get(&places)] = number.to_string();
    }
    pieces.concat()
}
