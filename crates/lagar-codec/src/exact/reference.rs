//! The plain definition of decoding a chunk.

use super::bits::BitReader;
use super::place::{clamp_scale, place};
use super::profile::{CENTER, ESCAPE, PRECISION, SLOTS, ZERO};
use super::table::Entry;
use super::{Chunk, ExactModel, Method, Scaled};
use crate::CodecError;

/// Lanes that are refilled together.
pub const GROUP_LANES: usize = 16;

/// States of a chunk: weight `i` belongs to state `i % 32`.
pub const STATES: usize = 32;

/// The least value of a state, and its value behind the last weight.
pub const LEAST: u32 = 1 << 16;

/// What a result is for a high part that is stored: no pattern of a number.
pub const STORED: u32 = ESCAPE - ZERO;

/// Words that are still to be read.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a>(pub &'a [[u8; 2]]);

impl Words<'_> {
    /// Brings a state back to at least [`LEAST`]. Past the last word, zeros come.
    #[inline(always)]
    fn refill(&mut self, state: &mut u32, missing: &mut bool) {
        if *state < LEAST {
            let word = match self.0.split_first() {
                Some((word, rest)) => {
                    self.0 = rest;
                    u16::from_le_bytes(*word)
                }
                None => {
                    *missing = true;
                    0
                }
            };
            *state = *state << 16 | u32::from(word);
        }
    }
}

/// Takes the entry of a state's slot, and the symbol's share out of the state. `base` is the first slot of
/// the context.
#[inline(always)]
fn pop(table: &[Entry], base: u32, state: &mut u32) -> u32 {
    let slot = *state & (SLOTS - 1);
    let entry = table[(base + slot) as usize];
    *state = (entry >> 20)
        .wrapping_mul(*state >> PRECISION)
        .wrapping_add(entry >> 8 & (SLOTS - 1));
    entry & 255
}

/// What a symbol stands for at the place `place` ([`place()`]), with the raw bits that follow in the state:
/// the bits of the number as f32, or [`STORED`].
#[inline(always)]
fn number(place: u32, symbol: u32, significand_bits: u32, state: &mut u32) -> u32 {
    if symbol >= ZERO {
        return symbol - ZERO;
    }
    let q = (place & 255) as i32 + symbol as i32 - CENTER as i32;
    // Steps count from zero on both sides: −1 is the first below.
    let steps = (q ^ (q >> 31)) as u32;
    // Behind the point come the lower half of the state, without its last bit: at most 24 digits, exactly
    // an f32. The leading digits are the number; those behind them stay in the state.
    let digits = ((steps << 16 | *state & 0xfffe) as f32).to_bits();
    let left = (digits >> 23)
        .saturating_sub(126 + significand_bits)
        .min(16);
    *state = (*state >> 16) << left | *state & ((1 << left) - 1);
    (digits >> (24 - significand_bits) << (24 - significand_bits))
        .wrapping_add(place & 0xff80_0000)
        .wrapping_add(q as u32 & 1 << 31)
}

/// Decodes up to 16 weights with as many states: `work` holds their places, and then their numbers as bits
/// of f32, or [`STORED`]. Returns whether there were words enough.
#[inline(always)]
pub fn decode_scaled(
    table: &[Entry],
    significand_bits: u32,
    states: &mut [u32],
    words: &mut Words<'_>,
    work: &mut [u32],
) -> bool {
    let (mut symbols, mut missing) = ([0; GROUP_LANES], false);
    for ((state, place), symbol) in states.iter_mut().zip(&*work).zip(&mut symbols) {
        *symbol = pop(table, place & (31 << PRECISION), state);
        words.refill(state, &mut missing);
    }
    for ((state, place), symbol) in states.iter_mut().zip(work).zip(symbols) {
        *place = number(*place, symbol, significand_bits, state);
        words.refill(state, &mut missing);
    }
    !missing
}

/// Decodes up to 16 weights of a palette with as many states: `work` receives their symbols. Returns
/// whether there were words enough.
#[inline(always)]
pub fn decode_palette(
    table: &[Entry],
    states: &mut [u32],
    words: &mut Words<'_>,
    work: &mut [u32],
) -> bool {
    let mut missing = false;
    for (state, symbol) in states.iter_mut().zip(work) {
        *symbol = pop(table, 0, state);
        words.refill(state, &mut missing);
    }
    !missing
}

/// Decodes a chunk: `predicted` has a value for each weight if the model is predicted, else none; `out`
/// receives the elements.
///
/// # Errors
///
/// Codes that no encoder wrote; not all such codes.
///
/// # Panics
///
/// If there is no such chunk, or `predicted` or `out` has another length.
pub fn decode_chunk(
    model: &ExactModel,
    chunk: usize,
    code: &[u8],
    predicted: &[f32],
    out: &mut [u8],
) -> Result<(), CodecError> {
    let shape = model.shape();
    let weights = check_lengths(model, chunk, out.len(), predicted);
    let code = match Chunk::parse(model, chunk, code)? {
        Chunk::Raw(raw) => {
            out.copy_from_slice(raw);
            return Ok(());
        }
        Chunk::Constant(element) => {
            let elements = out.chunks_exact_mut(element.len());
            elements.for_each(|out| out.copy_from_slice(element));
            return Ok(());
        }
        Chunk::Coded(code) => code,
    };
    let ty = shape.ty();
    let (first_row, cols) = (shape.chunk_rows(chunk).start, shape.cols());
    let mut states = code.states;
    let mut words = Words(code.words.as_chunks().0);
    let mut stored = code.stored.chunks_exact(ty.high_bytes());
    let mut low = BitReader::new(code.low);
    let mut whole = true;
    for start in (0..weights).step_by(GROUP_LANES) {
        let range = start..weights.min(start + GROUP_LANES);
        let mut work = [0; GROUP_LANES];
        let work = &mut work[..range.len()];
        let lanes = &mut states[start % STATES..][..GROUP_LANES];
        match model.method() {
            Method::Scaled(scaled) => {
                for (i, place) in range.clone().zip(&mut *work) {
                    let (row, col) = (first_row + i / cols, i % cols);
                    *place = scaled.place(row, col, predicted.get(i), ty.significand_bits());
                }
                whole &= decode_scaled(
                    scaled.table(),
                    ty.significand_bits(),
                    lanes,
                    &mut words,
                    work,
                );
            }
            Method::Palette(palette) => {
                whole &= decode_palette(palette.table(), lanes, &mut words, work);
            }
            Method::Raw => unreachable!("such models have no coded chunks"),
        }
        for (i, &result) in range.zip(&*work) {
            let high = match model.method() {
                Method::Palette(palette) => palette.values.get(result as usize).copied(),
                _ if result == STORED => None,
                _ => Some(ty.high_of_pattern(result) as u16),
            };
            let high = high.or_else(|| match *stored.next()? {
                [byte] => Some(byte.into()),
                [a, b] => Some(u16::from_le_bytes([a, b])),
                _ => None,
            });
            let Some(high) = high else {
                return Err(damaged(chunk, "more elements are stored than it has"));
            };
            let rest = low.number(model.low_bits()).unwrap_or(0);
            ty.join(high.into(), rest, model.low_bits(), i, out);
        }
    }
    check_end(
        chunk,
        whole && words.0.is_empty(),
        stored.len() == 0,
        &states,
    )
}

fn damaged(chunk: usize, what: &'static str) -> CodecError {
    CodecError::ExactCode { chunk, what }
}

/// Whether a chunk ended as the encoder began it.
///
/// # Errors
///
/// If it did not.
pub fn check_end(
    chunk: usize,
    all_words: bool,
    all_stored: bool,
    states: &[u32; STATES],
) -> Result<(), CodecError> {
    if !all_words {
        return Err(damaged(chunk, "it has more or fewer words than it needs"));
    }
    if !all_stored {
        return Err(damaged(chunk, "it has more stored elements than it needs"));
    }
    if states.iter().any(|&state| state != LEAST) {
        return Err(damaged(chunk, "it does not end where it began"));
    }
    Ok(())
}

pub(super) fn check_lengths(
    model: &ExactModel,
    chunk: usize,
    bytes: usize,
    predicted: &[f32],
) -> usize {
    let weights = model.shape().chunk_weights(chunk);
    assert_eq!(
        bytes,
        model.shape().chunk_bytes(chunk),
        "bytes of the chunk"
    );
    let values = if model.predicted() { weights } else { 0 };
    assert_eq!(predicted.len(), values, "predictions of the chunk");
    weights
}

impl Scaled {
    /// The place of a weight.
    #[inline]
    fn place(&self, row: usize, col: usize, predicted: Option<&f32>, significand_bits: u32) -> u32 {
        let scale = clamp_scale(i32::from(self.rows.at(row)) + i32::from(self.cols.at(col)));
        let predicted = predicted.map_or(0, |value| value.to_bits());
        place(scale, predicted, significand_bits, self.depth.into())
    }
}
