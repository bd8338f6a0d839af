//! The fixed 64 bytes at the start of a file.

use crate::layout::{SECTION_ALIGN, align_up};
use crate::{FormatError, Limits};

/// The newest version of the format. A file is written in the oldest one that has all it uses.
pub const VERSION: u32 = 3;
/// The oldest version that is read.
pub const OLDEST_VERSION: u32 = 1;

pub(crate) const HEADER_BYTES: u64 = 64;
/// The first byte is not text and the line end catches transfers that rewrite line ends.
const MAGIC: [u8; 8] = *b"\x89LAGAR\r\n";

/// Where the index is and where the first section starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) index_stored: u64,
    pub(crate) index_raw: u64,
    pub(crate) index_crc32c: u32,
    pub(crate) data_offset: u64,
}

impl Header {
    /// The header that goes before a compressed index.
    pub(crate) fn new(version: u32, stored_index: &[u8], index_raw: u64) -> Option<Self> {
        let index_stored = stored_index.len() as u64;
        Some(Self {
            version,
            index_stored,
            index_raw,
            index_crc32c: crc32c::crc32c(stored_index),
            data_offset: align_up(HEADER_BYTES.checked_add(index_stored)?, SECTION_ALIGN)?,
        })
    }

    pub(crate) fn to_bytes(&self) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = [0; HEADER_BYTES as usize];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[16..24].copy_from_slice(&HEADER_BYTES.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.index_stored.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.index_raw.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.data_offset.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.index_crc32c.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads and checks the header of a file.
    pub(crate) fn read(file: &[u8], limits: &Limits) -> Result<Self, FormatError> {
        let magic = &file[..file.len().min(MAGIC.len())];
        if magic != &MAGIC[..magic.len()] {
            return Err(FormatError::NotLagar {
                found: magic.to_vec(),
            });
        }
        let Some((bytes, _)) = file.split_first_chunk::<{ HEADER_BYTES as usize }>() else {
            let (needed, len) = (HEADER_BYTES, file.len() as u64);
            return Err(FormatError::Truncated {
                what: "header",
                needed,
                len,
            });
        };
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        // The version first: a later one may lay the rest out differently.
        let version = u32_at(8);
        if !(OLDEST_VERSION..=VERSION).contains(&version) {
            return Err(FormatError::Version {
                found: version,
                oldest: OLDEST_VERSION,
                newest: VERSION,
            });
        }
        let (stored, computed) = (u32_at(60), crc32c::crc32c(&bytes[..60]));
        if stored != computed {
            return Err(FormatError::HeaderChecksum { stored, computed });
        }
        let zero = |field, value: u64| match value {
            0 => Ok(()),
            value => Err(FormatError::HeaderField {
                field,
                value,
                expected: 0,
            }),
        };
        zero("flags", u32_at(12).into())?;
        zero("reserved field", u64_at(52))?;
        if u64_at(16) != HEADER_BYTES {
            let (field, value, expected) = ("index offset", u64_at(16), HEADER_BYTES);
            return Err(FormatError::HeaderField {
                field,
                value,
                expected,
            });
        }
        let header = Self {
            version,
            index_stored: u64_at(24),
            index_raw: u64_at(32),
            data_offset: u64_at(40),
            index_crc32c: u32_at(48),
        };
        let limit = |what, value, limit| match value <= limit {
            true => Ok(()),
            false => Err(FormatError::Limit { what, value, limit }),
        };
        limit(
            "compressed index bytes",
            header.index_stored,
            limits.index_stored_bytes,
        )?;
        limit("index bytes", header.index_raw, limits.index_raw_bytes)?;
        let index_end = HEADER_BYTES.checked_add(header.index_stored);
        let expected = index_end
            .and_then(|end| align_up(end, SECTION_ALIGN))
            .unwrap_or(u64::MAX);
        if header.data_offset != expected {
            let (field, value) = ("data offset", header.data_offset);
            return Err(FormatError::HeaderField {
                field,
                value,
                expected,
            });
        }
        Ok(header)
    }

    /// End of the compressed index. Fits: the data offset, which is not less, was checked.
    pub(crate) fn index_end(&self) -> u64 {
        HEADER_BYTES + self.index_stored
    }
}
