//! Checking the bytes of the parts.

use std::ops::Range;

use crate::layout::{CHUNK_BYTES, chunks};
use crate::{Container, FormatError, PartId};

/// A piece of a file that is checked by itself: at most 4 MiB of one part, and for the first piece
/// of a part also the padding before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckUnit {
    part: PartId,
    chunk: usize,
    bytes: u64,
}

impl CheckUnit {
    /// Bytes that the checksum covers.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its number within the part.
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    /// The part it belongs to.
    pub fn part(&self) -> PartId {
        self.part
    }
}

impl Container {
    /// Checks every byte of a tier and of those it includes, padding too; `progress` is called
    /// with the bytes done and the bytes in all. To check on several threads, share out
    /// [`Container::check_units`] instead.
    ///
    /// # Errors
    /// The first damage found: [`FormatError::PartChecksum`] or [`FormatError::Padding`]. Also
    /// [`FormatError::NoSuchTier`] and [`FormatError::TierIncomplete`].
    pub fn check(
        &self,
        tier: usize,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<(), FormatError> {
        let units = self.check_units(tier)?;
        let total = units.iter().map(CheckUnit::bytes).sum();
        let mut done = 0;
        for unit in units {
            self.check_unit(unit)?;
            done += unit.bytes;
            progress(done, total);
        }
        Ok(())
    }

    /// All that is to be checked before a tier is used, in file order: the units of the tier and
    /// of those it includes.
    ///
    /// # Errors
    /// [`FormatError::NoSuchTier`] and [`FormatError::TierIncomplete`].
    pub fn check_units(&self, tier: usize) -> Result<Vec<CheckUnit>, FormatError> {
        self.require(tier)?;
        let parts = self.index().parts.iter().enumerate();
        let parts = parts.take_while(|(_, part)| part.tier <= tier);
        let units = parts.flat_map(|(id, part)| {
            (0..chunks(part.bytes).max(1)).map(move |chunk| CheckUnit {
                part: id,
                chunk: chunk as usize,
                bytes: CHUNK_BYTES.min(part.bytes - chunk * CHUNK_BYTES),
            })
        });
        Ok(units.collect())
    }

    /// Checks one unit.
    ///
    /// # Errors
    /// [`FormatError::PartChecksum`] or [`FormatError::Padding`].
    pub fn check_unit(&self, unit: CheckUnit) -> Result<(), FormatError> {
        let parts = &self.index().parts;
        let Some(part) = parts.get(unit.part) else {
            let (part, parts) = (unit.part, parts.len());
            return Err(FormatError::NoSuchPart { part, parts });
        };
        self.require(part.tier)?;
        if unit.chunk == 0 && unit.part > 0 {
            let before = &parts[unit.part - 1];
            let free = self.absolute(before.offset + before.bytes);
            let gap = self.bytes(free, self.absolute(part.offset));
            let name = || {
                format!(
                    "part {} ({})",
                    unit.part,
                    self.index().describe_part(unit.part)
                )
            };
            padding(gap, free, name).map_err(|error| self.inside(error))?;
        }
        let start = self.absolute(part.offset + unit.chunk as u64 * CHUNK_BYTES);
        let end = (start + CHUNK_BYTES).min(self.absolute(part.offset + part.bytes));
        self.check_chunk(unit.part, unit.chunk, self.bytes(start, end))
    }

    /// The units that cover some bytes of a part, for checking only what is about to be used.
    ///
    /// # Errors
    /// [`FormatError::NoSuchPart`] and [`FormatError::TierIncomplete`].
    pub fn check_units_of(
        &self,
        part: PartId,
        bytes: Range<u64>,
    ) -> Result<Vec<CheckUnit>, FormatError> {
        let range = self.part_range(part)?;
        let len = range.end - range.start;
        let chunks = bytes.start / CHUNK_BYTES..chunks(bytes.end.min(len));
        let units = chunks.map(|chunk| CheckUnit {
            part,
            chunk: chunk as usize,
            bytes: CHUNK_BYTES.min(len - chunk * CHUNK_BYTES),
        });
        Ok(units.collect())
    }

    /// Checks bytes that were read as those of a part, from a chunk's start on, to the end of
    /// another chunk.
    pub(crate) fn check_chunks(
        &self,
        id: PartId,
        first: u64,
        bytes: &[u8],
    ) -> Result<(), FormatError> {
        let first = (first / CHUNK_BYTES) as usize;
        let mut chunks = bytes.chunks(CHUNK_BYTES as usize).enumerate();
        chunks.try_for_each(|(chunk, bytes)| self.check_chunk(id, first + chunk, bytes))
    }

    fn check_chunk(&self, id: PartId, chunk: usize, bytes: &[u8]) -> Result<(), FormatError> {
        let part = &self.index().parts[id];
        let Some(&stored) = part.crc32c.get(chunk) else {
            return Ok(());
        };
        let computed = crc32c::crc32c(bytes);
        if stored == computed {
            return Ok(());
        }
        let start = self.absolute(part.offset + chunk as u64 * CHUNK_BYTES);
        Err(self.inside(FormatError::PartChecksum {
            tier: self.index().tiers[part.tier].name.clone(),
            part: id,
            what: self.index().describe_part(id),
            start,
            end: start + bytes.len() as u64,
            stored,
            computed,
        }))
    }
}

/// Fails at the first byte that is not zero; `offset` is where the bytes lie in the file.
pub(crate) fn padding(
    bytes: &[u8],
    offset: u64,
    before: impl FnOnce() -> String,
) -> Result<(), FormatError> {
    match bytes.iter().enumerate().find(|(_, byte)| **byte != 0) {
        None => Ok(()),
        Some((at, &value)) => Err(FormatError::Padding {
            offset: offset + at as u64,
            value,
            before: before(),
        }),
    }
}
