//! Files made from any index at all, as FORMAT.md describes them and without the crate's writer.

use lagar_format::Index;

/// A file of this JSON text and these sections, with every checksum in order.
pub(crate) fn encode(json: &[u8], data: &[u8]) -> Vec<u8> {
    encode_version(2, json, data)
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
