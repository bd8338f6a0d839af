//! Alignments of the file and the arithmetic on them.

/// Sections start at multiples of this, counted from the start of the file.
pub const SECTION_ALIGN: u64 = 4096;
/// Parts start at multiples of this.
pub const PART_ALIGN: u64 = 64;
/// One CRC32C covers this many bytes of a part; the last one of a part covers what is left.
pub const CHUNK_BYTES: u64 = 4 << 20;

/// The smallest multiple of `align` (a power of two) that is at least `offset`.
pub(crate) fn align_up(offset: u64, align: u64) -> Option<u64> {
    Some(offset.checked_add(align - 1)? & !(align - 1))
}

/// Number of CRC32C values of a part.
pub(crate) fn chunks(bytes: u64) -> u64 {
    bytes.div_ceil(CHUNK_BYTES)
}
