//! The parts of a chunk's code.

use super::reference::STATES;
use super::{ExactModel, Method};
use crate::CodecError;

/// Bytes in front of the stored high parts of a coded chunk: the head and the states.
pub(super) const HEAD: usize = 4 + 4 * STATES;

/// The parts of a coded chunk.
#[derive(Clone, Copy, Debug)]
pub struct ChunkCode<'a> {
    /// The states before the first weight.
    pub states: [u32; STATES],
    /// High parts that are stored, 1 or 2 bytes each.
    pub stored: &'a [u8],
    /// Low bits of all weights.
    pub low: &'a [u8],
    /// Words of 2 bytes.
    pub words: &'a [u8],
}

/// What a chunk is.
#[derive(Clone, Copy, Debug)]
pub enum Chunk<'a> {
    /// The elements as they are.
    Raw(&'a [u8]),
    /// One element, repeated.
    Constant(&'a [u8]),
    /// Codes.
    Coded(ChunkCode<'a>),
}

impl<'a> Chunk<'a> {
    /// Takes the code of a chunk apart.
    ///
    /// # Errors
    ///
    /// Lengths that do not fit together.
    ///
    /// # Panics
    ///
    /// If there is no such chunk.
    pub fn parse(model: &ExactModel, chunk: usize, code: &'a [u8]) -> Result<Self, CodecError> {
        let shape = model.shape();
        let damaged = |what| CodecError::ExactCode { chunk, what };
        let weights = shape.chunk_weights(chunk);
        let Some((&kind, rest)) = code.split_first() else {
            return Err(damaged("it is empty"));
        };
        match kind {
            0 if rest.len() == shape.chunk_bytes(chunk) => Ok(Self::Raw(rest)),
            1 if rest.len() == shape.element_bytes() => Ok(Self::Constant(rest)),
            0 | 1 => Err(damaged("its length is not that of its elements")),
            2 if *model.method() != Method::Raw => {
                let (head, rest) = code
                    .split_first_chunk::<HEAD>()
                    .ok_or_else(|| damaged("it ends within its states"))?;
                let number = |i: usize| u32::from_le_bytes(head.as_chunks().0[i]);
                let stored = (number(0) >> 8) as usize;
                let low = (weights * model.low_bits() as usize).div_ceil(8);
                let sizes = stored * shape.ty().high_bytes();
                if stored > weights || sizes + low > rest.len() {
                    return Err(damaged("it ends within its stored elements"));
                }
                let (stored, rest) = rest.split_at(sizes);
                let (low, words) = rest.split_at(low);
                if !words.len().is_multiple_of(2) {
                    return Err(damaged("it ends within a word"));
                }
                Ok(Self::Coded(ChunkCode {
                    states: std::array::from_fn(|i| number(i + 1)),
                    stored,
                    low,
                    words,
                }))
            }
            _ => Err(damaged("its kind is unknown")),
        }
    }
}
