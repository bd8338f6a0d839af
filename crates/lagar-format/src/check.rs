//! Checking the bytes of the parts.

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
        let Some(&stored) = part.crc32c.get(unit.chunk) else {
            return Ok(());
        };
        let start = self.absolute(part.offset + unit.chunk as u64 * CHUNK_BYTES);
        let end = (start + CHUNK_BYTES).min(self.absolute(part.offset + part.bytes));
        let computed = crc32c::crc32c(self.bytes(start, end));
        if stored == computed {
            return Ok(());
        }
        Err(self.inside(FormatError::PartChecksum {
            tier: self.index().tiers[part.tier].name.clone(),
            part: unit.part,
            what: self.index().describe_part(unit.part),
            start,
            end,
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
