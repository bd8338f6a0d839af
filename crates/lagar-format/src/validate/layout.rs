//! The order of tiers and parts in a file.

use super::{Checker, at, each, expect, invalid, reference, unique};
use crate::layout::{PART_ALIGN, SECTION_ALIGN, align_up, chunks};
use crate::{FormatError, Index, Problem};

impl Checker<'_> {
    /// Tiers and parts: order, alignment, no overlap, no hole, ends that fit.
    pub(super) fn layout(&self, data_offset: u64) -> Result<(), FormatError> {
        let Index { tiers, parts, .. } = self.index;
        each(
            "tiers",
            tiers,
            |tier| tier.name.as_str(),
            |tier| self.text(&tier.name),
        )?;
        unique("tiers", tiers.iter().map(|tier| tier.name.as_str()))?;
        at("tiers", || {
            if tiers.is_empty() {
                Err(Problem::Missing)
            } else {
                Ok(())
            }
        })?;

        let overflow = || Problem::Overflow {
            what: "the end of the part",
        };
        let (mut tier, mut free, mut started) = (0, 0u64, false);
        for (id, part) in parts.iter().enumerate() {
            let check = || -> Result<(u64, bool), Problem> {
                let next = part.tier == tier + 1 && started;
                if part.tier != tier && !next {
                    let allowed = format!("{tier} or, once that has parts, {}", tier + 1);
                    return Err(Problem::WrongTier {
                        part: id,
                        found: part.tier,
                        allowed,
                    });
                }
                if part.tier >= tiers.len() {
                    return Err(reference("tier", part.tier, tiers.len()));
                }
                // The first part of a section starts it; others may leave up to a page.
                let first = next || !started;
                let lowest = if first {
                    align_up(free, SECTION_ALIGN)
                } else {
                    Some(free)
                };
                let lowest = lowest.ok_or_else(overflow)?;
                let highest = if first {
                    lowest
                } else {
                    lowest.saturating_add(SECTION_ALIGN - 1)
                };
                let offset = part.offset;
                if offset < lowest {
                    return Err(Problem::Overlap {
                        offset,
                        free: lowest,
                    });
                }
                if offset % PART_ALIGN != 0 {
                    return Err(Problem::Unaligned {
                        offset,
                        align: PART_ALIGN,
                    });
                }
                if offset > highest {
                    return Err(Problem::Hole {
                        offset,
                        free: lowest,
                    });
                }
                let end = offset.checked_add(part.bytes).ok_or_else(overflow)?;
                // Whatever is computed from a checked index stays within 63 bits, and so does the
                // alignment of what may follow.
                let last = end
                    .checked_add(data_offset)
                    .and_then(|end| end.checked_add(SECTION_ALIGN));
                if last.is_none_or(|last| last > i64::MAX as u64) {
                    return Err(overflow());
                }
                let count = part.crc32c.len() as u64;
                expect("the number of checksums", count, chunks(part.bytes))?;
                Ok((end, next))
            };
            let (end, next) =
                check().map_err(|problem| invalid(format!("parts[{id}]"), problem))?;
            if next {
                self.tier_end(tier, free)?;
                tier += 1;
            }
            (free, started) = (end, true);
        }
        if !started || tier + 1 != tiers.len() {
            let place = format!("parts of tiers[{}]", if started { tier + 1 } else { 0 });
            return Err(invalid(place, Problem::Missing));
        }
        self.tier_end(tier, free)
    }

    fn tier_end(&self, tier: usize, end: u64) -> Result<(), FormatError> {
        let record = &self.index.tiers[tier];
        expect("the end", record.end, end)
            .map_err(|problem| invalid(format!("tiers[{tier}] {:?}", record.name), problem))
    }
}
