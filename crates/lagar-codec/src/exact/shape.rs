//! What is coded: the type of the elements, the shape, the cut into chunks.

use std::ops::Range;

use crate::{CodecError, ROW_UNIT};

/// Weights that a chunk holds if rows are short; one of wide rows holds one band of 16 rows.
const CHUNK_WEIGHTS: usize = 1 << 16;

/// An element type that the exact coder knows. Elements are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExactType {
    /// The upper half of an f32.
    Bf16,
    /// IEEE binary16.
    F16,
    /// IEEE binary32.
    F32,
    /// 8 bits: 4 of exponent, 3 of mantissa, no infinities (OCP `E4M3`, in safetensors `F8_E4M3`).
    F8E4M3,
    /// 8 bits: 5 of exponent, 2 of mantissa (OCP `E5M2`, in safetensors `F8_E5M2`).
    F8E5M2,
}

impl ExactType {
    /// All types.
    pub const ALL: [Self; 5] = [Self::Bf16, Self::F16, Self::F32, Self::F8E4M3, Self::F8E5M2];

    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F8E4M3 | Self::F8E5M2 => 1,
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

/// The shape of a coded tensor, seen as a matrix, and its chunks: bands of 16 whole rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExactShape {
    rows: usize,
    cols: usize,
    ty: ExactType,
    /// Rows of every chunk but the last.
    rows_per_chunk: usize,
}

impl ExactShape {
    /// A matrix of `rows × cols` elements of type `ty`.
    ///
    /// # Errors
    ///
    /// An empty matrix, or one that no machine of this kind can hold.
    pub fn new(rows: usize, cols: usize, ty: ExactType) -> Result<Self, CodecError> {
        if rows == 0 || cols == 0 {
            return Err(CodecError::ExactEmpty { rows, cols });
        }
        // Also room for whole bands, and for 4 bytes of every weight.
        rows.checked_next_multiple_of(ROW_UNIT)
            .and_then(|rows| rows.checked_mul(cols))
            .and_then(|weights| weights.checked_mul(8))
            .filter(|&bytes| isize::try_from(bytes).is_ok())
            .ok_or(CodecError::ExactTooLarge { rows, cols })?;
        let bands = (CHUNK_WEIGHTS / cols.saturating_mul(ROW_UNIT)).max(1);
        Ok(Self {
            rows,
            cols,
            ty,
            rows_per_chunk: bands * ROW_UNIT,
        })
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The type of the elements.
    pub fn ty(&self) -> ExactType {
        self.ty
    }

    /// Bytes of an element.
    pub fn element_bytes(&self) -> usize {
        self.ty.bytes()
    }

    /// The number of chunks.
    pub fn chunks(&self) -> usize {
        self.rows.div_ceil(self.rows_per_chunk)
    }

    /// The rows of a chunk.
    ///
    /// # Panics
    ///
    /// If there is no such chunk.
    pub fn chunk_rows(&self, chunk: usize) -> Range<usize> {
        assert!(chunk < self.chunks(), "chunk {chunk} of {}", self.chunks());
        let start = chunk * self.rows_per_chunk;
        start..self.rows.min(start + self.rows_per_chunk)
    }

    /// Weights of a chunk.
    ///
    /// # Panics
    ///
    /// If there is no such chunk.
    pub fn chunk_weights(&self, chunk: usize) -> usize {
        self.chunk_rows(chunk).len() * self.cols
    }

    /// Bytes of a chunk's elements.
    ///
    /// # Panics
    ///
    /// If there is no such chunk.
    pub fn chunk_bytes(&self, chunk: usize) -> usize {
        self.chunk_weights(chunk) * self.element_bytes()
    }
}
