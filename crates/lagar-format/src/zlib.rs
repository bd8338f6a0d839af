//! zlib streams whose length is known beforehand.

use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

/// Deflate cannot expand by more than this (258 bytes from two bits, RFC 1951).
const MAX_RATIO: u64 = 1032;

/// Compresses into a zlib stream, as tightly as the library can: files are written once and read
/// often.
pub fn compress(raw: &[u8]) -> Vec<u8> {
    compress_to_vec_zlib(raw, 9)
}

/// Whether a stream of `stored` bytes can hold `raw` bytes at all.
pub(crate) fn plausible(stored: u64, raw: u64) -> bool {
    raw <= stored.saturating_mul(MAX_RATIO)
}

/// Decompresses a stream that must fill exactly `raw_bytes` and use all of `stored`.
///
/// The caller has held `raw_bytes` against its limits; what is allocated here is that much, and no
/// more than [`MAX_RATIO`] times the input.
pub(crate) fn decompress_exactly(stored: &[u8], raw_bytes: u64) -> Result<Vec<u8>, String> {
    if !plausible(stored.len() as u64, raw_bytes) {
        return Err(format!(
            "{} bytes cannot decompress to {raw_bytes}",
            stored.len()
        ));
    }
    let len = usize::try_from(raw_bytes).map_err(|_| "too long for this machine".to_owned())?;
    let mut raw = vec![0; len];
    let flags = inflate_flags::TINFL_FLAG_PARSE_ZLIB_HEADER
        | inflate_flags::TINFL_FLAG_COMPUTE_ADLER32
        | inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let mut state = Box::<DecompressorOxide>::default();
    let (status, used, written) = decompress(&mut state, stored, &mut raw, 0, flags);
    match status {
        TINFLStatus::Done if used == stored.len() && written == len => Ok(raw),
        TINFLStatus::Done => Err(format!(
            "{used} of {} bytes decompress to {written}, where {raw_bytes} are declared",
            stored.len()
        )),
        TINFLStatus::HasMoreOutput => Err(format!("more than the declared {raw_bytes} bytes")),
        status => Err(format!("damaged zlib stream ({status:?})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_length_and_the_exact_stream_decompress() {
        let raw = vec![7; 100_000];
        let stored = compress(&raw);
        assert_eq!(decompress_exactly(&stored, 100_000).unwrap(), raw);
        for wrong in [0, 99_999, 100_001, 1 << 40, u64::MAX] {
            assert!(decompress_exactly(&stored, wrong).is_err(), "{wrong}");
        }
        let mut longer = stored.clone();
        longer.push(0);
        assert!(decompress_exactly(&longer, 100_000).is_err());
        assert!(decompress_exactly(&stored[..stored.len() - 1], 100_000).is_err());
        assert!(decompress_exactly(&[], 0).is_err());
    }

    #[test]
    fn the_most_that_deflate_can_expand_is_plausible() {
        let raw = vec![0; 10 << 20];
        assert!(plausible(compress(&raw).len() as u64, raw.len() as u64));
    }
}
