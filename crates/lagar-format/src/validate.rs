//! Everything that must hold in an index before anything else looks at it.

use std::collections::{BTreeMap, HashSet};

use serde::Deserializer;
use serde::de::{Error, MapAccess, Visitor};

use crate::layout::{PART_ALIGN, SECTION_ALIGN, align_up, chunks};
use crate::{
    Body, FormatError, Index, Levels, Limits, Part, PartId, Problem, Stage, TableRecord,
    TensorRecord, TransformRecord, WindowStage,
};

type Check = Result<(), Problem>;

/// Columns that share a depth, and rows of a tile.
const GROUP: u64 = 128;
const TILE_ROWS: u64 = 256;
/// Rows are padded to 16, columns to 4.
const ROW_UNIT: u64 = 16;
const BLOCK_COLS: u64 = 4;
/// Zero bytes at the end of the codes, so that vector loads may overrun.
const CODES_TAIL: u128 = 64;

/// Checks a whole index whose sections start at `data_offset`.
pub(crate) fn validate(
    index: &Index,
    data_offset: u64,
    limits: &Limits,
) -> Result<(), FormatError> {
    let checker = Checker { index, limits };
    counts(index, limits)?;
    at("id", || checker.text(&index.id))?;
    at("producer", || checker.text(&index.producer))?;
    at("architecture", || checker.text(&index.architecture))?;
    for (key, value) in &index.settings {
        let place = || format!("settings {key:?}");
        checker
            .text(key)
            .map_err(|problem| invalid(place(), problem))?;
        let value = if value.is_empty() {
            Ok(())
        } else {
            checker.text(value)
        };
        value.map_err(|problem| invalid(place(), problem))?;
    }
    each(
        "source",
        &index.source,
        |file| file.name.as_str(),
        |file| {
            checker.file_name(&file.name)?;
            hash(&file.blake3)
        },
    )?;
    unique("source", index.source.iter().map(|file| file.name.as_str()))?;
    checker.layout(data_offset)?;
    each(
        "files",
        &index.files,
        |file| file.name.as_str(),
        |file| {
            checker.file_name(&file.name)?;
            let stored = checker.part(file.part)?.bytes;
            match file.raw_bytes <= limits.file_raw_bytes
                && crate::zlib::plausible(stored, file.raw_bytes)
            {
                true => Ok(()),
                false => Err(Problem::Range {
                    what: "raw_bytes",
                    value: file.raw_bytes,
                    allowed: "within the reader's limit and what the stored bytes can hold",
                }),
            }
        },
    )?;
    unique("files", index.files.iter().map(|file| file.name.as_str()))?;
    each("tables", &index.tables, |_| "", table)?;
    each(
        "transforms",
        &index.transforms,
        |_| "",
        |record| checker.transform(record),
    )?;
    each(
        "tensors",
        &index.tensors,
        |tensor| tensor.name.as_str(),
        |tensor| checker.tensor(tensor),
    )?;
    unique(
        "tensors",
        index.tensors.iter().map(|tensor| tensor.name.as_str()),
    )
}

fn counts(index: &Index, limits: &Limits) -> Result<(), FormatError> {
    let counts = [
        ("tiers", index.tiers.len(), limits.tiers),
        ("parts", index.parts.len(), limits.parts),
        ("tensors", index.tensors.len(), limits.tensors),
        ("tables", index.tables.len(), limits.tables),
        ("transforms", index.transforms.len(), limits.transforms),
        ("stored files", index.files.len(), limits.files),
        ("source files", index.source.len(), limits.files),
    ];
    match counts.into_iter().find(|(_, count, limit)| count > limit) {
        None => Ok(()),
        Some((what, count, limit)) => Err(FormatError::Limit {
            what,
            value: count as u64,
            limit: limit as u64,
        }),
    }
}

struct Checker<'a> {
    index: &'a Index,
    limits: &'a Limits,
}

impl Checker<'_> {
    /// Tiers and parts: order, alignment, no overlap, no hole, ends that fit.
    fn layout(&self, data_offset: u64) -> Result<(), FormatError> {
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

    /// A text for people: not empty, not long, no control characters.
    fn text(&self, text: &str) -> Check {
        let reason = match text {
            "" => "is empty",
            _ if text.len() > self.limits.text_bytes => "is longer than the reader's limit",
            _ if text.chars().any(char::is_control) => "has control characters",
            _ => return Ok(()),
        };
        // Not the whole of an overlong text, and never raw control characters: it is printed with
        // escapes.
        let text = text.chars().take(80).collect();
        Err(Problem::Text { text, reason })
    }

    /// A name that is safe to create in a folder on any system.
    fn file_name(&self, name: &str) -> Check {
        self.text(name)?;
        let plain = !name.contains(['/', '\\', ':']) && !name.ends_with(['.', ' ']);
        match plain && name.len() <= 255 {
            true => Ok(()),
            false => {
                let text = name.chars().take(80).collect();
                Err(Problem::Text {
                    text,
                    reason: "is not a plain file name",
                })
            }
        }
    }

    fn part(&self, id: PartId) -> Result<&Part, Problem> {
        let parts = &self.index.parts;
        parts
            .get(id)
            .ok_or_else(|| reference("part", id, parts.len()))
    }

    fn part_bytes(&self, what: &'static str, id: PartId, expected: u128) -> Check {
        let expected = u64::try_from(expected).map_err(|_| Problem::Overflow { what })?;
        expect(what, self.part(id)?.bytes, expected)
    }

    /// Parts of strictly ascending tiers, each of the same length.
    fn by_tier(&self, what: &'static str, ids: &[PartId], bytes: u128) -> Check {
        if ids.is_empty() {
            return Err(Problem::Missing);
        }
        for (at, &id) in ids.iter().enumerate() {
            self.part_bytes(what, id, bytes)?;
            let found = self.part(id)?.tier;
            if at > 0 && found <= self.part(ids[at - 1])?.tier {
                let allowed = "above the tier of the part listed before it".to_owned();
                return Err(Problem::WrongTier {
                    part: id,
                    found,
                    allowed,
                });
            }
        }
        Ok(())
    }

    fn transform(&self, record: &TransformRecord) -> Check {
        let width = record.width;
        if width == 0 || width > self.limits.width.min(u32::MAX.into()) {
            let allowed = "at least 1 and within the reader's limit";
            return Err(Problem::Range {
                what: "width",
                value: width,
                allowed,
            });
        }
        let entry = if width <= 1 << 16 { 2 } else { 4 };
        let permutation = u128::from(width) * entry;
        self.part_bytes("bytes of the permutation", record.permutation, permutation)?;
        self.part_bytes("bytes of the signs", record.signs, width.div_ceil(8).into())
    }

    fn tensor(&self, tensor: &TensorRecord) -> Check {
        self.text(&tensor.name)?;
        if tensor.shape.len() > self.limits.dimensions {
            let (what, value) = ("number of dimensions", tensor.shape.len() as u64);
            return Err(Problem::Range {
                what,
                value,
                allowed: "within the reader's limit",
            });
        }
        // Zeros first: `[huge, huge, 0]` is as empty as `[0, huge, huge]`.
        let elements = match tensor.shape.contains(&0) {
            true => Some(0),
            false => tensor
                .shape
                .iter()
                .try_fold(1u64, |n, &size| n.checked_mul(size)),
        };
        let elements = elements.ok_or(Problem::Overflow {
            what: "the number of elements",
        })?;
        if elements > self.limits.elements {
            let (what, allowed) = ("number of elements", "within the reader's limit");
            return Err(Problem::Range {
                what,
                value: elements,
                allowed,
            });
        }
        match &tensor.body {
            Body::Raw { dtype, parts } => {
                let bytes = u128::from(elements) * u128::from(dtype.bytes());
                self.by_tier("bytes of the elements", parts, bytes)
            }
            Body::Linear { transform, stages } => {
                let &[rows, cols] = &tensor.shape[..] else {
                    let value = tensor.shape.len() as u64;
                    let what = "number of dimensions of a linear";
                    return Err(Problem::Mismatch {
                        what,
                        value,
                        expected: 2,
                    });
                };
                self.linear(rows, cols, *transform, stages)
            }
        }
    }

    fn linear(&self, rows: u64, cols: u64, transform: usize, stages: &[Stage]) -> Check {
        if rows == 0 || cols == 0 {
            let what = "a dimension of a linear";
            return Err(Problem::Range {
                what,
                value: 0,
                allowed: "at least 1",
            });
        }
        let transforms = &self.index.transforms;
        let Some(record) = transforms.get(transform) else {
            return Err(reference("transform", transform, transforms.len()));
        };
        expect("the width of its transform", record.width, cols)?;
        if stages.is_empty() || stages.len() > self.limits.stages {
            let (what, value) = ("number of stages", stages.len() as u64);
            let allowed = "at least 1 and within the reader's limit";
            return Err(Problem::Range {
                what,
                value,
                allowed,
            });
        }
        let mut lowest = self
            .part(record.permutation)?
            .tier
            .max(self.part(record.signs)?.tier);
        for Stage::Window(stage) in stages {
            if stage.tier < lowest {
                return Err(Problem::WrongTier {
                    part: stage.codes,
                    found: stage.tier,
                    allowed: format!("{lowest} or more, after its transform and earlier stages"),
                });
            }
            lowest = stage.tier;
            self.window(rows, cols, stage)?;
        }
        Ok(())
    }

    fn window(&self, rows: u64, cols: u64, stage: &WindowStage) -> Check {
        let tables = &self.index.tables;
        let Some(table) = tables.get(stage.table) else {
            return Err(reference("table", stage.table, tables.len()));
        };
        let row_scales = stage.row_scales.first().ok_or(Problem::Missing)?;
        for id in [stage.codes, stage.scales, *row_scales] {
            let found = self.part(id)?.tier;
            if found != stage.tier {
                let allowed = format!("{}, that of its stage", stage.tier);
                return Err(Problem::WrongTier {
                    part: id,
                    found,
                    allowed,
                });
            }
        }
        // Fits: rows × cols is within 64 bits.
        let padded_rows = u128::from(rows.div_ceil(ROW_UNIT)) * u128::from(ROW_UNIT);
        let padded_cols = u128::from(cols.div_ceil(BLOCK_COLS)) * u128::from(BLOCK_COLS);
        let groups = padded_cols.div_ceil(GROUP.into());
        if stage.depths.len() as u128 != groups {
            let (what, value) = ("number of depths", stage.depths.len() as u64);
            return Err(Problem::Mismatch {
                what,
                value,
                expected: groups as u64,
            });
        }
        let (mut used, mut coded_cols) = (0u128, 0u128);
        for (group, &depth) in stage.depths.iter().enumerate() {
            if depth == 0 {
                continue;
            }
            if depth != table.depth {
                let allowed = "0 or the depth of the stage's table";
                return Err(Problem::Range {
                    what: "a depth",
                    value: depth.into(),
                    allowed,
                });
            }
            used += 1;
            coded_cols += (padded_cols - group as u128 * u128::from(GROUP)).min(GROUP.into());
        }
        let tiles = padded_rows.div_ceil(TILE_ROWS.into()) * used;
        let streams = padded_rows * coded_cols / 8 * u128::from(table.depth);
        self.part_bytes(
            "bytes of the codes",
            stage.codes,
            tiles + streams + CODES_TAIL,
        )?;
        self.part_bytes("bytes of the scales", stage.scales, padded_rows * used)?;
        self.by_tier(
            "bytes of the row scales",
            &stage.row_scales,
            padded_rows * 2,
        )
    }
}

fn table(table: &TableRecord) -> Check {
    let &TableRecord { depth, window, .. } = table;
    if !(1..=8).contains(&depth) {
        return Err(Problem::Range {
            what: "depth",
            value: depth.into(),
            allowed: "1 to 8",
        });
    }
    if window != depth && window != 8 {
        let allowed = "the depth or 8";
        return Err(Problem::Range {
            what: "window",
            value: window.into(),
            allowed,
        });
    }
    match &table.levels {
        Levels::Free(levels) => expect("the number of levels", levels.len() as u64, 1 << window),
        Levels::Split {
            a,
            b,
            a_sign_bit,
            b_sign_bit,
        } => {
            expect("the window of a split table", window.into(), 8)?;
            if !(4..=7).contains(a_sign_bit) {
                let value = (*a_sign_bit).into();
                return Err(Problem::Range {
                    what: "a_sign_bit",
                    value,
                    allowed: "4 to 7",
                });
            }
            if *b_sign_bit > 3 {
                let value = (*b_sign_bit).into();
                return Err(Problem::Range {
                    what: "b_sign_bit",
                    value,
                    allowed: "0 to 3",
                });
            }
            for w in 0..=255u8 {
                let negate = |value: i8, bit| match w >> bit & 1 {
                    0 => i32::from(value),
                    _ => -i32::from(value),
                };
                let low = negate(a[usize::from(w & 15)], *a_sign_bit);
                let level = low + negate(b[usize::from(w >> 4)], *b_sign_bit);
                if level.abs() > 63 {
                    let value = level.unsigned_abs().into();
                    let what = "the size of a level of a split table";
                    return Err(Problem::Range {
                        what,
                        value,
                        allowed: "at most 63",
                    });
                }
            }
            Ok(())
        }
    }
}

fn hash(text: &str) -> Check {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() == 64 && text.bytes().all(digit) {
        return Ok(());
    }
    let text = text.chars().take(80).collect();
    Err(Problem::Text {
        text,
        reason: "is not a hash of 64 lower-case hexadecimal digits",
    })
}

fn expect(what: &'static str, value: u64, expected: u64) -> Check {
    match value == expected {
        true => Ok(()),
        false => Err(Problem::Mismatch {
            what,
            value,
            expected,
        }),
    }
}

fn reference(what: &'static str, value: usize, count: usize) -> Problem {
    Problem::Reference { what, value, count }
}

fn invalid(place: String, problem: Problem) -> FormatError {
    FormatError::Index { place, problem }
}

fn at(place: &str, check: impl FnOnce() -> Check) -> Result<(), FormatError> {
    check().map_err(|problem| invalid(place.to_owned(), problem))
}

fn each<T>(
    list: &str,
    items: &[T],
    name: impl Fn(&T) -> &str,
    check: impl Fn(&T) -> Check,
) -> Result<(), FormatError> {
    for (at, item) in items.iter().enumerate() {
        check(item).map_err(|problem| {
            let name: String = name(item).chars().take(80).collect();
            let place = match name.is_empty() {
                true => format!("{list}[{at}]"),
                false => format!("{list}[{at}] {name:?}"),
            };
            invalid(place, problem)
        })?;
    }
    Ok(())
}

fn unique<'a>(list: &str, names: impl Iterator<Item = &'a str>) -> Result<(), FormatError> {
    let mut seen = HashSet::new();
    for (at, name) in names.enumerate() {
        if !seen.insert(name) {
            return Err(invalid(
                format!("{list}[{at}] {name:?}"),
                Problem::DuplicateName,
            ));
        }
    }
    Ok(())
}

/// A map that refuses a key which occurs twice.
pub(crate) fn unique_keys<'de, D>(json: D) -> Result<BTreeMap<String, String>, D::Error>
where
    D: Deserializer<'de>,
{
    struct Unique;
    impl<'de> Visitor<'de> for Unique {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object of strings")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((key, value)) = entries.next_entry::<String, String>()? {
                if map.insert(key, value).is_some() {
                    return Err(A::Error::custom("a setting occurs twice"));
                }
            }
            Ok(map)
        }
    }
    json.deserialize_map(Unique)
}
