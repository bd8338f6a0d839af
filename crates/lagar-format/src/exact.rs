//! The exact section's records: where every byte of the checkpoint's files is.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{Dtype, PartId};

/// Bytes that each zlib stream of a [`Blob`] holds; the last one holds what is left.
pub const PIECE_BYTES: u64 = 4 << 20;
/// Most columns of a coded tensor, so that a chunk's size is bounded.
pub const MAX_CODED_COLS: u64 = 1 << 20;

/// What a run of bytes of a source file is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Segment {
    /// The whole content of the stored file of this name, in [`crate::Index::files`].
    Stored(String),
    /// Bytes kept in the exact section: the header of a safetensors file, or any other file.
    Bytes(Blob),
    /// The original bytes of a tensor, given by its position in [`crate::Index::tensors`].
    Tensor(usize),
}

/// A run of bytes in one part of the exact section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blob {
    /// The part that holds them.
    pub part: PartId,
    /// Length of the original bytes.
    pub bytes: u64,
    /// How the part holds them.
    pub coding: Coding,
    /// With [`Coding::Zlib`] the stored length of each stream; else empty.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "not_empty"
    )]
    pub lengths: Vec<u64>,
}

/// How a part holds the bytes of a [`Blob`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Coding {
    /// The part is the bytes.
    Raw,
    /// Each [`PIECE_BYTES`] of the original are a zlib stream of their own; the part is the streams
    /// one after the other.
    Zlib,
}

/// How a tensor's original bytes come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exact {
    /// BLAKE3 hash of the original bytes, 64 lower-case hexadecimal digits.
    pub blake3: String,
    /// Where they are.
    pub body: ExactBody,
}

/// Where a tensor's original bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum ExactBody {
    /// The tensor's body is raw and of the checkpoint's type, and what a model of the tier `full`
    /// uses is the original.
    Raw,
    /// As they are.
    Stored(Blob),
    /// Coded against what the tiers below predict.
    Coded {
        /// The coder's tables.
        model: PartId,
        /// One u32 for each chunk: the bytes it has in `codes`.
        lengths: PartId,
        /// The chunks, one after the other.
        codes: PartId,
    },
    /// Those of another tensor, given by its position in [`crate::Index::tensors`], which is not
    /// itself a `Same`: tied tensors are stored once.
    Same(usize),
}

impl Dtype {
    /// Whether tensors of this type can be [`ExactBody::Coded`].
    pub const fn is_codable(self) -> bool {
        matches!(
            self,
            Self::BF16 | Self::F16 | Self::F32 | Self::F8E4M3 | Self::F8E5M2
        )
    }
}

/// A coded tensor's shape as a matrix: the last dimension is the columns, the product of the others
/// the rows. `None` for tensors that cannot be coded: of fewer than two dimensions, empty, or of
/// more than [`MAX_CODED_COLS`] columns.
pub fn coded_matrix(shape: &[u64]) -> Option<(u64, u64)> {
    let (&cols, outer) = shape.split_last()?;
    if outer.is_empty() || shape.contains(&0) || cols > MAX_CODED_COLS {
        return None;
    }
    let rows = outer.iter().try_fold(1u64, |n, &d| n.checked_mul(d))?;
    Some((rows, cols))
}

/// Chunks of a coded matrix: bands of 16 rows, as many of them as hold 65,536 elements, at least one.
pub(crate) fn coded_chunks(rows: u64, cols: u64) -> u64 {
    let bands = (65_536 / (16 * cols)).max(1);
    rows.div_ceil(16 * bands)
}

/// Optional fields are left out rather than empty, so that each index has one text.
pub(crate) fn not_empty<'de, D, T>(json: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let list = Vec::deserialize(json)?;
    match list.is_empty() {
        true => Err(D::Error::custom("an optional list is there but empty")),
        false => Ok(list),
    }
}

/// See [`not_empty`].
pub(crate) fn not_null<'de, D, T>(json: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(json).map(Some)
}
