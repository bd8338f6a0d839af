//! The input transform: a permutation, signs, and a Hadamard transform inside each column group.

use std::ops::Range;

use crate::{BLOCK_COLS, CodecError, GROUP};

/// `1 / sqrt(2^i)`, rounded to the nearest f32.
const NORM: [f32; 8] = [
    1.0,
    0.70710677,
    0.5,
    0.35355338,
    0.25,
    0.17677669,
    0.125,
    0.088388346,
];

/// `1 / sqrt(size)` of a Hadamard block of `size` columns, a power of two up to 128, as f32.
///
/// # Panics
///
/// If `size` is 0 or above 255.
#[inline]
pub fn hadamard_norm(size: usize) -> f32 {
    NORM[size.ilog2() as usize]
}

/// The Hadamard blocks of a padded width: blocks of 128, then the remainder as descending powers of
/// two (172 = 128 + 32 + 8 + 4).
pub fn hadamard_blocks(padded_width: usize) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let left = padded_width - start;
        let size = if left >= GROUP {
            GROUP
        } else {
            1 << left.checked_ilog2()?
        };
        let block = start..start + size;
        start = block.end;
        Some(block)
    })
}

/// An orthogonal transform of input vectors: `x' = H (signs ⊙ x[perm])`, padded with zeros.
///
/// `H` is the orthonormal Sylvester–Hadamard matrix on each block of [`hadamard_blocks`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transform {
    /// See [`Transform::sources`].
    sources: Vec<u32>,
}

impl Transform {
    /// The bits of a [source](Transform::sources) that are its column; the one above them is its sign.
    pub const COLUMN: u32 = u32::MAX >> 1;

    /// A transform of vectors of `width` columns: transformed column `i` before the Hadamard is
    /// `x[perm[i]]`, negated where `signs[i]` is set.
    ///
    /// # Errors
    ///
    /// If `width` is 0 or too large, `perm` is not a permutation of the columns, or `signs` does not
    /// have one entry per column.
    pub fn new(width: usize, perm: Vec<u32>, signs: Vec<bool>) -> Result<Self, CodecError> {
        check_width(width)?;
        for (what, found) in [("permutation", perm.len()), ("signs", signs.len())] {
            if found != width {
                return Err(CodecError::TransformLength { what, width, found });
            }
        }
        let mut seen = vec![false; width];
        for (position, &column) in perm.iter().enumerate() {
            match seen.get_mut(column as usize) {
                None => {
                    return Err(CodecError::PermutationRange {
                        position,
                        column,
                        width,
                    });
                }
                Some(true) => return Err(CodecError::PermutationRepeat { position, column }),
                Some(seen) => *seen = true,
            }
        }
        let sources = perm.into_iter().zip(signs);
        let sources = sources.map(|(column, negative)| column | u32::from(negative) << 31);
        Ok(Self {
            sources: sources.collect(),
        })
    }

    /// The Hadamard alone: columns in their order, no signs.
    ///
    /// # Errors
    ///
    /// If `width` is 0 or too large.
    pub fn identity(width: usize) -> Result<Self, CodecError> {
        check_width(width)?;
        Self::new(width, (0..width as u32).collect(), vec![false; width])
    }

    /// Columns before the transform.
    pub fn width(&self) -> usize {
        self.sources.len()
    }

    /// Columns after the transform: `width` padded to a multiple of 4.
    pub fn padded_width(&self) -> usize {
        self.width().next_multiple_of(BLOCK_COLS)
    }

    /// The column that each transformed position takes.
    pub fn columns(&self) -> impl Iterator<Item = u32> {
        self.sources.iter().map(|source| source & Self::COLUMN)
    }

    /// Whether each position is negated after the permutation.
    pub fn signs(&self) -> impl Iterator<Item = bool> {
        self.sources
            .iter()
            .map(|source| source & !Self::COLUMN != 0)
    }

    /// What each transformed position is before the Hadamard: its column, which is below [`Transform::width`], in the bits of
    /// [`Transform::COLUMN`], and the bit above them set if it is negated.
    pub fn sources(&self) -> &[u32] {
        &self.sources
    }

    /// Transforms one vector; the definition that fast paths must match bit for bit.
    ///
    /// # Panics
    ///
    /// If `x` does not have `width` values or `out` not `padded_width`.
    pub fn apply(&self, x: &[f32], out: &mut [f32]) {
        assert_eq!(x.len(), self.width());
        assert_eq!(out.len(), self.padded_width());
        out[x.len()..].fill(0.0);
        for ((out, column), negative) in out.iter_mut().zip(self.columns()).zip(self.signs()) {
            let value = x[column as usize];
            *out = if negative { -value } else { value };
        }
        hadamard(out);
    }

    /// Transforms one vector back: `apply_transpose(apply(x)) = x` up to rounding.
    ///
    /// # Panics
    ///
    /// If `x` does not have `padded_width` values or `out` not `width`.
    pub fn apply_transpose(&self, x: &[f32], out: &mut [f32]) {
        assert_eq!(x.len(), self.padded_width());
        assert_eq!(out.len(), self.width());
        let mut values = x.to_vec();
        hadamard(&mut values);
        for ((value, column), negative) in values.into_iter().zip(self.columns()).zip(self.signs())
        {
            out[column as usize] = if negative { -value } else { value };
        }
    }
}

/// The most columns that a [source](Transform::sources) can name.
pub(crate) const MAX_WIDTH: usize = Transform::COLUMN as usize + 1;

fn check_width(width: usize) -> Result<(), CodecError> {
    if width == 0 || width > MAX_WIDTH {
        return Err(CodecError::TransformWidth { width });
    }
    Ok(())
}

/// Multiplies by the orthonormal Sylvester–Hadamard matrix in place, block by block: butterflies at
/// distance 1, 2, 4, …, then one multiplication by `1 / sqrt(size)`.
fn hadamard(x: &mut [f32]) {
    for block in hadamard_blocks(x.len()) {
        let block = &mut x[block];
        let mut distance = 1;
        while distance < block.len() {
            for pair in block.chunks_exact_mut(2 * distance) {
                let (low, high) = pair.split_at_mut(distance);
                for (a, b) in low.iter_mut().zip(high) {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            distance *= 2;
        }
        let norm = hadamard_norm(block.len());
        for value in block {
            *value *= norm;
        }
    }
}
