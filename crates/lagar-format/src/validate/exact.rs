//! The exact section: every source file's bytes are accounted for, and so are every tensor's.

use std::collections::{HashMap, HashSet};

use super::{Check, Checker, at, each, expect, invalid, reference, text};
use crate::exact::{MAX_CODED_COLS, PIECE_BYTES, coded_chunks, coded_matrix};
use crate::{
    Blob, Body, Coding, Exact, ExactBody, FULL_TIER, FormatError, Problem, Segment, SourceFile,
    TensorRecord,
};

impl Checker<'_> {
    /// The tier named `full` is the last, and all that it needs is there if and only if it is.
    pub(super) fn exact(&self) -> Result<(), FormatError> {
        let tiers = &self.index.tiers;
        for (number, tier) in tiers.iter().enumerate() {
            if tier.name == FULL_TIER && number + 1 < tiers.len() {
                let problem = Problem::NotLast { tiers: tiers.len() };
                return Err(invalid(format!("tiers[{number}] {:?}", tier.name), problem));
            }
        }
        let mut stored = HashMap::new();
        for file in &self.index.files {
            stored.insert(file.name.as_str(), file.raw_bytes);
        }
        each(
            "source",
            &self.index.source,
            |file| file.name.as_str(),
            |file| self.source_file(file, &stored),
        )
    }

    /// The segments of a source file add up to it.
    fn source_file(&self, file: &SourceFile, stored: &HashMap<&str, u64>) -> Check {
        match self.index.full_tier() {
            None if file.segments.is_empty() => return Ok(()),
            None => return Err(Problem::NoExactSection { what: "segments" }),
            Some(_) => {}
        }
        let mut total = 0u64;
        for segment in &file.segments {
            let bytes = match segment {
                Segment::Stored(name) => {
                    let unknown = || Problem::Text {
                        text: name.chars().take(80).collect(),
                        reason: "is not the name of a stored file",
                    };
                    *stored.get(name.as_str()).ok_or_else(unknown)?
                }
                Segment::Bytes(blob) => {
                    self.blob(blob)?;
                    blob.bytes
                }
                Segment::Tensor(number) => {
                    let tensors = &self.index.tensors;
                    let tensor = tensors.get(*number);
                    let tensor =
                        tensor.ok_or_else(|| reference("tensor", *number, tensors.len()))?;
                    tensor.bytes()
                }
            };
            total = total.checked_add(bytes).ok_or(Problem::Overflow {
                what: "the length of the segments",
            })?;
        }
        expect("the length of the segments", total, file.bytes)
    }

    /// What a tensor says about its original bytes, of which there are `tensor.bytes()`.
    pub(super) fn tensor_exact(&self, tensor: &TensorRecord) -> Check {
        let exact = match (&tensor.exact, self.index.full_tier()) {
            (None, None) if tensor.body == Body::Exact => {
                return Err(Problem::NoExactSection { what: "body" });
            }
            (None, None) => return Ok(()),
            (Some(_), None) => return Err(Problem::NoExactSection { what: "exact" }),
            (None, Some(_)) => return Err(Problem::Missing),
            (Some(exact), Some(_)) => exact,
        };
        text::hash(&exact.blake3)?;
        match &exact.body {
            ExactBody::Raw => match &tensor.body {
                Body::Raw { dtype, .. } if *dtype == tensor.dtype => Ok(()),
                _ => Err(Problem::ExactBody {
                    problem: "is raw, but the tensor's body is not raw of its own type",
                }),
            },
            ExactBody::Stored(blob) => {
                expect("the length of the original", blob.bytes, tensor.bytes())?;
                self.blob(blob)
            }
            &ExactBody::Coded {
                model,
                lengths,
                codes,
            } => {
                if !tensor.dtype.is_codable() {
                    let problem = "is coded, which tensors of this type cannot be";
                    return Err(Problem::ExactBody { problem });
                }
                let Some((rows, cols)) = coded_matrix(&tensor.shape) else {
                    let problem = "is coded, which tensors of this shape cannot be";
                    return Err(Problem::ExactBody { problem });
                };
                debug_assert!(cols <= MAX_CODED_COLS);
                for part in [model, lengths, codes] {
                    self.in_full(part)?;
                }
                let chunks = u128::from(coded_chunks(rows, cols));
                self.part_bytes("bytes of the chunk lengths", lengths, chunks * 4)
            }
            &ExactBody::Same(other) => self.same(tensor, exact, other),
        }
    }

    fn same(&self, tensor: &TensorRecord, exact: &Exact, other: usize) -> Check {
        let tensors = &self.index.tensors;
        let found = tensors.get(other);
        let found = found.ok_or_else(|| reference("tensor", other, tensors.len()))?;
        // The length of a tensor that comes later has not been checked yet.
        let bytes = found.checked_bytes().ok_or(Problem::Overflow {
            what: "the number of elements",
        })?;
        expect("the length of the original", bytes, tensor.bytes())?;
        match &found.exact {
            Some(Exact {
                body: ExactBody::Same(_),
                ..
            }) => Err(Problem::ExactBody {
                problem: "is that of a tensor which is itself stored elsewhere",
            }),
            Some(found) if found.blake3 == exact.blake3 => Ok(()),
            _ => Err(Problem::ExactBody {
                problem: "is that of a tensor with another hash",
            }),
        }
    }

    fn blob(&self, blob: &Blob) -> Check {
        self.in_full(blob.part)?;
        let stored = self.part(blob.part)?.bytes;
        match blob.coding {
            Coding::Raw => {
                expect("the number of lengths", blob.lengths.len() as u64, 0)?;
                expect("bytes of the part", stored, blob.bytes)
            }
            Coding::Zlib => {
                let pieces = blob.bytes.div_ceil(PIECE_BYTES);
                expect("the number of lengths", blob.lengths.len() as u64, pieces)?;
                let (mut total, mut left) = (0u64, blob.bytes);
                for &length in &blob.lengths {
                    let raw = left.min(PIECE_BYTES);
                    if !crate::zlib::plausible(length, raw) {
                        return Err(Problem::Range {
                            what: "a stored length",
                            value: length,
                            allowed: "enough for the bytes that it stands for",
                        });
                    }
                    left -= raw;
                    total = total.checked_add(length).ok_or(Problem::Overflow {
                        what: "the sum of the lengths",
                    })?;
                }
                expect("bytes of the part", stored, total)
            }
        }
    }

    /// Parts of the exact section lie in its tier.
    fn in_full(&self, part: crate::PartId) -> Check {
        let found = self.part(part)?.tier;
        match self.index.full_tier() {
            Some(full) if full == found => Ok(()),
            Some(full) => Err(Problem::WrongTier {
                part,
                found,
                allowed: format!("{full}, that of the exact section"),
            }),
            None => Err(Problem::NoExactSection { what: "part" }),
        }
    }

    /// Source files can be created in a folder: relative names, none of which is a folder of another.
    pub(super) fn source_names(&self) -> Result<(), FormatError> {
        let mut folders = HashSet::new();
        for file in &self.index.source {
            let slashes = file.name.match_indices('/').map(|(at, _)| at);
            folders.extend(slashes.map(|at| &file.name[..at]));
        }
        match self
            .index
            .source
            .iter()
            .position(|file| folders.contains(file.name.as_str()))
        {
            None => Ok(()),
            Some(number) => {
                let name = &self.index.source[number].name;
                at(&format!("source[{number}] {name:?}"), || {
                    Err(Problem::Text {
                        text: name.chars().take(80).collect(),
                        reason: "is the name of a file and of a folder",
                    })
                })
            }
        }
    }
}
