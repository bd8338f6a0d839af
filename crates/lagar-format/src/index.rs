//! The index: what is in a file and where.
//!
//! Field order here is field order in the JSON. Enums are externally tagged, so that a hostile
//! index is parsed straight into these types, without an intermediate tree.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::exact::{not_empty, not_null};
use crate::{Exact, ExactBody, FormatError, Limits, Segment, validate};

/// Number of a part: its position in [`Index::parts`].
pub type PartId = usize;

/// Name of the tier that holds the exact section.
pub const FULL_TIER: &str = "full";

/// Everything about a file except the bytes of its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// Identity of this press: the same input, settings and version give the same id.
    pub id: String,
    /// Program and version that wrote the file.
    pub producer: String,
    /// Architecture as the checkpoint's `config.json` names it.
    pub architecture: String,
    /// Parameters of the checkpoint, tied tensors counted once.
    pub parameters: u64,
    /// Settings of the press, for people and for reports.
    #[serde(deserialize_with = "crate::validate::unique_keys")]
    pub settings: BTreeMap<String, String>,
    /// The checkpoint's own files.
    pub source: Vec<SourceFile>,
    /// Tiers in file order; each one includes those before it.
    pub tiers: Vec<Tier>,
    /// Byte ranges in file order.
    pub parts: Vec<Part>,
    /// Small files carried along (configuration, tokenizer, chat template).
    pub files: Vec<StoredFile>,
    /// Level tables of window stages.
    pub tables: Vec<TableRecord>,
    /// Input transforms.
    pub transforms: Vec<TransformRecord>,
    /// Tensors of the model.
    pub tensors: Vec<TensorRecord>,
}

/// A file of the original checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceFile {
    /// Name within the checkpoint folder; `/` separates it from the folders it lies in.
    pub name: String,
    /// Length of the file.
    pub bytes: u64,
    /// BLAKE3 hash, 64 lower-case hexadecimal digits.
    pub blake3: String,
    /// What the file is made of, from front to back. Empty where the index has no tier `full`, and
    /// for files of no bytes.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "not_empty"
    )]
    pub segments: Vec<Segment>,
}

/// A cumulative quality level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// `R`, `RG`, `RGB` or `full`.
    pub name: String,
    /// End of the tier's section, counted from the header's `data_offset`.
    pub end: u64,
}

/// A range of bytes in one tier's section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The tier whose section holds the part.
    pub tier: usize,
    /// Where it starts, counted from the header's `data_offset`.
    pub offset: u64,
    /// Length without padding.
    pub bytes: u64,
    /// One CRC32C for each 4 MiB.
    pub crc32c: Vec<u32>,
}

/// A small file, stored as a zlib stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredFile {
    /// File name, without any folder.
    pub name: String,
    /// The part that holds the zlib stream.
    pub part: PartId,
    /// Length after decompression.
    pub raw_bytes: u64,
}

/// A table of 2^window signed 8-bit levels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableRecord {
    /// Bits per weight, K: 1 to 8.
    pub depth: u8,
    /// Bits of a window, L: equal to the depth, or 8.
    pub window: u8,
    /// The levels.
    pub levels: Levels,
}

/// The levels of a table, indexed by window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Levels {
    /// Each level by itself, 2^window of them.
    Free(Vec<i8>),
    /// `level(w) = ±a[w & 15] ± b[w >> 4]`, window 8 only; each level lies within ±63.
    Split {
        /// Indexed by the low four bits.
        a: [i8; 16],
        /// Indexed by the high four bits.
        b: [i8; 16],
        /// Bit of the window, 4 to 7, that negates `a`.
        a_sign_bit: u8,
        /// Bit of the window, 0 to 3, that negates `b`.
        b_sign_bit: u8,
    },
}

/// An input transform: `x' = H(signs ⊙ x[permutation])`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformRecord {
    /// Length of the vectors it takes.
    pub width: u64,
    /// The permutation: `width` little-endian u16, or u32 where the width is above 65536.
    pub permutation: PartId,
    /// One bit per column, lowest bit first, 1 for negative.
    pub signs: PartId,
}

/// A tensor of the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorRecord {
    /// Name as in the checkpoint.
    pub name: String,
    /// Shape as in the checkpoint, outermost dimension first.
    pub shape: Vec<u64>,
    /// Element type in the checkpoint.
    pub dtype: Dtype,
    /// How a model uses it.
    pub body: Body,
    /// How its original bytes come back: there if and only if the index has a tier `full`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "not_null"
    )]
    pub exact: Option<Exact>,
}

/// How a tensor is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Body {
    /// Elements as they are, little-endian, row-major.
    Raw {
        /// Element type of the stored values, which need not be that of the checkpoint.
        dtype: Dtype,
        /// One part or more, of strictly ascending tiers. Each replaces the one before it from its
        /// own tier on; see [`Index::latest`].
        parts: Vec<PartId>,
    },
    /// A pressed linear of shape out × in: the sum of its stages after the transform.
    Linear {
        /// Position in [`Index::transforms`]; its width is the tensor's second dimension.
        transform: usize,
        /// Stages of ascending tiers; the first is a window stage.
        stages: Vec<Stage>,
    },
    /// In the exact section only.
    Exact,
}

/// One additive term of a pressed linear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Stage {
    /// A dense window code.
    Window(WindowStage),
    /// A few weights by themselves, in the space of the input.
    Sparse(SparseStage),
    /// A product of two thin matrices.
    LowRank(LowRankStage),
}

impl Stage {
    /// The tier that the stage belongs to.
    pub fn tier(&self) -> usize {
        match self {
            Self::Window(stage) => stage.tier,
            Self::Sparse(stage) => stage.tier,
            Self::LowRank(stage) => stage.v.tier,
        }
    }

    /// The window codes that it is made of.
    pub fn windows(&self) -> impl Iterator<Item = &WindowStage> {
        let [first, second] = match self {
            Self::Window(stage) => [Some(stage), None],
            Self::Sparse(_) => [None, None],
            Self::LowRank(stage) => [Some(&stage.v), Some(&stage.u)],
        };
        first.into_iter().chain(second)
    }

    /// All its parts, those included that replace one another from tier to tier.
    pub fn parts(&self) -> Vec<PartId> {
        let mut parts = Vec::new();
        for window in self.windows() {
            parts.extend([window.codes, window.scales]);
            parts.extend(&window.row_scales);
        }
        if let Self::Sparse(stage) = self {
            parts.extend([stage.counts, stage.gaps, stage.values]);
        }
        parts
    }

    /// What a part is to the stage; `None` if it is not one of its parts.
    fn role(&self, id: PartId) -> Option<&'static str> {
        let window = |stage: &WindowStage, roles: [&'static str; 3]| match id {
            _ if id == stage.codes => Some(roles[0]),
            _ if id == stage.scales => Some(roles[1]),
            _ if stage.row_scales.contains(&id) => Some(roles[2]),
            _ => None,
        };
        match self {
            Self::Window(stage) => window(stage, ["codes", "scales", "row scales"]),
            Self::Sparse(stage) if id == stage.counts => Some("counts"),
            Self::Sparse(stage) if id == stage.gaps => Some("gaps"),
            Self::Sparse(stage) if id == stage.values => Some("values"),
            Self::Sparse(_) => None,
            Self::LowRank(LowRankStage { v, u, .. }) => {
                let found = window(v, ["codes of v", "scales of v", "row scales of v"]);
                found.or_else(|| window(u, ["codes of u", "scales of u", "row scales of u"]))
            }
        }
    }
}

/// A dense window code of a whole matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowStage {
    /// The tier that this stage belongs to; its codes and scales lie in that tier's section.
    pub tier: usize,
    /// Position in [`Index::tables`].
    pub table: usize,
    /// Bits per weight of each group of 128 columns: the table's depth, or 0 where the stage adds
    /// nothing.
    pub depths: Vec<u8>,
    /// Tile streams.
    pub codes: PartId,
    /// One byte per padded row and group of nonzero depth.
    pub scales: PartId,
    /// One bf16 per padded row. One part or more, of strictly ascending tiers, the first in the
    /// stage's own; each replaces the one before it from its own tier on; see [`Index::latest`].
    pub row_scales: Vec<PartId>,
}

/// A few weights of a matrix by themselves: columns and values, row by row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SparseStage {
    /// The tier that this stage belongs to; its parts lie in that tier's section.
    pub tier: usize,
    /// Bytes of a gap: 1 or 2.
    pub gap_bytes: u8,
    /// One u16 per padded row: its number of entries.
    pub counts: PartId,
    /// For each entry, how many columns lie between it and the one before it in its row.
    pub gaps: PartId,
    /// For each entry, its value as a half-precision float.
    pub values: PartId,
}

/// A product `U V` of a matrix of out × rank and one of rank × in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LowRankStage {
    /// Rows of `v` and columns of `u`: a multiple of 16.
    pub rank: u64,
    /// A window code of rank × in.
    pub v: WindowStage,
    /// A window code of out × rank, of the same tier.
    pub u: WindowStage,
}

/// Element types, by the names that safetensors gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum Dtype {
    BOOL,
    U8,
    I8,
    #[serde(rename = "F8_E5M2")]
    F8E5M2,
    #[serde(rename = "F8_E4M3")]
    F8E4M3,
    U16,
    I16,
    F16,
    BF16,
    U32,
    I32,
    F32,
    U64,
    I64,
    F64,
}

impl Dtype {
    /// Bytes of one element.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::BOOL | Self::U8 | Self::I8 | Self::F8E5M2 | Self::F8E4M3 => 1,
            Self::U16 | Self::I16 | Self::F16 | Self::BF16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// The name in safetensors and in the index.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BOOL => "BOOL",
            Self::U8 => "U8",
            Self::I8 => "I8",
            Self::F8E5M2 => "F8_E5M2",
            Self::F8E4M3 => "F8_E4M3",
            Self::U16 => "U16",
            Self::I16 => "I16",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::U32 => "U32",
            Self::I32 => "I32",
            Self::F32 => "F32",
            Self::U64 => "U64",
            Self::I64 => "I64",
            Self::F64 => "F64",
        }
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Index {
    /// Checks the texts and the source files as a reader will, so that a long piece of work can
    /// fail at its start over a name that it could not store at its end.
    ///
    /// # Errors
    /// [`FormatError::Index`].
    pub fn check_description(&self, limits: &Limits) -> Result<(), FormatError> {
        validate::describe(self, limits)
    }

    /// The last of `parts` that a model of `tier` may use; `None` where all belong to later tiers.
    pub fn latest(&self, parts: &[PartId], tier: usize) -> Option<PartId> {
        let in_tier = |id: &&PartId| self.parts.get(**id).is_some_and(|part| part.tier <= tier);
        parts.iter().rfind(in_tier).copied()
    }

    /// Position of the tier that holds the exact section: the last one, if it is there at all.
    pub fn full_tier(&self) -> Option<usize> {
        let last = self.tiers.len().checked_sub(1)?;
        (self.tiers[last].name == FULL_TIER).then_some(last)
    }

    /// Position of the tier of this name.
    pub fn tier(&self, name: &str) -> Option<usize> {
        self.tiers.iter().position(|tier| tier.name == name)
    }

    /// What a part is for, such as `codes of model.norm.weight, stage 0`: for messages.
    pub fn describe_part(&self, id: PartId) -> String {
        for tensor in &self.tensors {
            match &tensor.body {
                Body::Raw { parts, .. } if parts.contains(&id) => {
                    return format!("tensor {:?}", tensor.name);
                }
                Body::Raw { .. } | Body::Exact => {}
                Body::Linear { stages, .. } => {
                    for (number, stage) in stages.iter().enumerate() {
                        if let Some(role) = stage.role(id) {
                            return format!("{role} of tensor {:?}, stage {number}", tensor.name);
                        }
                    }
                }
            }
            let role = match tensor.exact.as_ref().map(|exact| &exact.body) {
                Some(ExactBody::Stored(blob)) if blob.part == id => "exact bytes",
                Some(ExactBody::Coded { model, .. }) if *model == id => "exact tables",
                Some(ExactBody::Coded { lengths, .. }) if *lengths == id => "exact chunk lengths",
                Some(ExactBody::Coded { codes, .. }) if *codes == id => "exact codes",
                _ => continue,
            };
            return format!("{role} of tensor {:?}", tensor.name);
        }
        for (number, transform) in self.transforms.iter().enumerate() {
            if transform.permutation == id {
                return format!("permutation of transform {number}");
            }
            if transform.signs == id {
                return format!("signs of transform {number}");
            }
        }
        if let Some(file) = self.files.iter().find(|file| file.part == id) {
            return format!("stored file {:?}", file.name);
        }
        let holds = |segment: &Segment| matches!(segment, Segment::Bytes(blob) if blob.part == id);
        match self
            .source
            .iter()
            .find(|file| file.segments.iter().any(holds))
        {
            Some(file) => format!("bytes of the source file {:?}", file.name),
            None => "not used by any tensor".to_owned(),
        }
    }
}

impl TensorRecord {
    /// Number of elements: the product of the shape.
    ///
    /// # Panics
    /// If it does not fit 64 bits, which an opened file's tensors do.
    pub fn elements(&self) -> u64 {
        elements(&self.shape).expect("the shape was checked")
    }

    /// Length of the original bytes.
    ///
    /// # Panics
    /// As [`TensorRecord::elements`].
    pub fn bytes(&self) -> u64 {
        self.checked_bytes().expect("the shape was checked")
    }

    pub(crate) fn checked_bytes(&self) -> Option<u64> {
        elements(&self.shape)?.checked_mul(self.dtype.bytes())
    }
}

/// Number of elements of a tensor; `None` beyond 64 bits.
pub(crate) fn elements(shape: &[u64]) -> Option<u64> {
    // Zeros first: `[huge, huge, 0]` is as empty as `[0, huge, huge]`.
    match shape.contains(&0) {
        true => Some(0),
        false => shape.iter().try_fold(1u64, |n, &size| n.checked_mul(size)),
    }
}
