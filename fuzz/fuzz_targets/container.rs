//! Opens and walks files made of any bytes, and files with correct checksums around any index.
//!
//! The input is read as a file, and then once more as `INDEX \0 SECTIONS`, where the index is JSON:
//! without that the checksums would keep the fuzzer out of everything behind the header.
#![no_main]

use lagar_format::{Blob, Container, Exact, ExactBody, Limits, PIECE_BYTES, Region, Segment};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    read(input.to_vec());
    let end = input
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(input.len());
    let sections = input.get(end + 1..).unwrap_or_default();
    read(encode(&input[..end], sections));
});

/// Reads all that a file lets a reader see.
fn read(file: Vec<u8>) {
    let len = file.len();
    let Ok(container) = Container::from_region(Region::from_vec(file), &Limits::default()) else {
        return;
    };
    let index = container.index();
    let complete = container.tiers_complete();
    assert!((1..=index.tiers.len()).contains(&complete));
    assert!(container.tier_bytes(complete - 1).unwrap() + container.partial_bytes() == len as u64);
    for (id, part) in index.parts.iter().enumerate() {
        match container.part(id) {
            Ok(region) => assert_eq!(region.len() as u64, part.bytes),
            Err(_) => assert!(part.tier >= complete),
        }
        index.describe_part(id);
    }
    for file in &index.files {
        if let Ok(content) = container.file(&file.name) {
            assert_eq!(content.len() as u64, file.raw_bytes);
        }
    }
    let blob = |blob: &Blob| {
        for piece in 0..blob.bytes.div_ceil(PIECE_BYTES).min(8) {
            let _ = container.blob_piece(blob, piece);
        }
    };
    for file in &index.source {
        for segment in &file.segments {
            if let Segment::Bytes(bytes) = segment {
                blob(bytes);
            }
        }
    }
    for tensor in &index.tensors {
        tensor.bytes();
        if let Some(Exact {
            body: ExactBody::Stored(bytes),
            ..
        }) = &tensor.exact
        {
            blob(bytes);
        }
        assert_eq!(container.tensor(&tensor.name), Some(tensor));
    }
    if let Err(error) = container.check(complete - 1, |done, total| assert!(done <= total)) {
        let message = error.to_string();
        assert!(!message.chars().any(char::is_control), "{message:?}");
    }
}

/// A file of this index and these sections, as FORMAT.md describes it.
fn encode(json: &[u8], sections: &[u8]) -> Vec<u8> {
    let stored = miniz_oxide::deflate::compress_to_vec_zlib(json, 1);
    let data_offset = (64 + stored.len()).next_multiple_of(4096);
    let mut file = b"\x89LAGAR\r\n\x03\0\0\0\0\0\0\0".to_vec();
    for field in [64, stored.len(), json.len(), data_offset] {
        file.extend((field as u64).to_le_bytes());
    }
    file.extend(crc32c::crc32c(&stored).to_le_bytes());
    file.extend([0; 8]);
    file.extend(crc32c::crc32c(&file).to_le_bytes());
    file.extend(stored);
    file.resize(data_offset, 0);
    file.extend(sections);
    file
}
