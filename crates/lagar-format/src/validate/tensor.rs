//! Tables, transforms and tensors: shapes, references and the lengths of their parts.

use super::{Check, Checker, expect, reference};
use crate::index::elements;
use crate::{Body, Levels, PartId, Problem, Stage, TableRecord, TensorRecord, TransformRecord};

impl Checker<'_> {
    pub(super) fn transform(&self, record: &TransformRecord) -> Check {
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

    pub(super) fn tensor(&self, tensor: &TensorRecord) -> Check {
        self.text(&tensor.name)?;
        if tensor.shape.len() > self.limits.dimensions {
            let (what, value) = ("number of dimensions", tensor.shape.len() as u64);
            return Err(Problem::Range {
                what,
                value,
                allowed: "within the reader's limit",
            });
        }
        let elements = elements(&tensor.shape).ok_or(Problem::Overflow {
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
        tensor.checked_bytes().ok_or(Problem::Overflow {
            what: "the length of the tensor",
        })?;
        self.body(tensor, elements)?;
        self.tensor_exact(tensor)
    }

    fn body(&self, tensor: &TensorRecord, elements: u64) -> Check {
        match &tensor.body {
            Body::Exact => Ok(()),
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
        if !matches!(stages[0], Stage::Window(_)) {
            return Err(Problem::FirstStage);
        }
        for stage in stages {
            let tier = stage.tier();
            let wrong = |allowed| {
                Err(Problem::WrongTier {
                    part: stage.parts()[0],
                    found: tier,
                    allowed,
                })
            };
            if tier < lowest {
                let after = "or more, after its transform and earlier stages";
                return wrong(format!("{lowest} {after}"));
            }
            // The exact section refines nothing: it replaces.
            if self.index.full_tier() == Some(tier) {
                return wrong("below the exact section's tier".to_owned());
            }
            lowest = tier;
            self.stage(rows, cols, stage)?;
        }
        Ok(())
    }

    pub(super) fn part_bytes(&self, what: &'static str, id: PartId, expected: u128) -> Check {
        let expected = u64::try_from(expected).map_err(|_| Problem::Overflow { what })?;
        expect(what, self.part(id)?.bytes, expected)
    }

    /// Parts of strictly ascending tiers, each of the same length.
    pub(super) fn by_tier(&self, what: &'static str, ids: &[PartId], bytes: u128) -> Check {
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
}

/// Checks a table and, where it is split, every level that it stands for.
pub(super) fn table(table: &TableRecord) -> Check {
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
