//! Encoding a chunk.
//!
//! Any encoder will do whose chunks [`decode_chunk`](super::reference::decode_chunk) decodes; a fast one needs no other
//! definition than this.

use super::bits::BitWriter;
use super::chunk::HEAD;
use super::element::Fields;
use super::place::{clamp_scale, place};
use super::profile::{CENTER, ESCAPE, FAR, PRECISION, ZERO};
use super::reference::{GROUP_LANES, LEAST, STATES, check_lengths};
use super::table::{Range, ranges};
use super::{ExactModel, ExactType, Method, Palette, Scaled, Scales};

/// Symbols of all contexts.
const SYMBOLS: usize = 32 * 256;

/// A weight as the encoder codes it: a symbol, then raw bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coded {
    /// The symbol.
    pub symbol: u32,
    /// The number of raw bits, at most 15.
    pub count: u32,
    /// The raw bits.
    pub raw: u32,
}

/// Stands for elements that are stored.
const STORE: Coded = Coded {
    symbol: ESCAPE,
    count: 0,
    raw: 0,
};

/// The symbol and raw bits of a number at a place; that of [`ESCAPE`] if it is too far away.
#[inline(always)]
pub fn code_number(place: u32, fields: Fields, significand_bits: u32) -> Coded {
    let (coded, near) = code_near(place, fields, significand_bits);
    if near { coded } else { STORE }
}

/// The symbol and raw bits of a number at a place, and whether it is not too far away: if it is, they mean nothing.
/// Without branches, so that a compiler finds the vectors in it.
#[inline(always)]
fn code_near(place: u32, fields: Fields, significand_bits: u32) -> (Coded, bool) {
    let Fields {
        negative,
        exponent,
        significand,
    } = fields;
    // Digits of the number in steps of 2^-16, and those of them behind the significand.
    let top = (place >> 23).wrapping_add(143);
    let digits = exponent as i32 + 17 - (top & 255) as i32;
    let behind = digits - significand_bits as i32;
    let reached = behind.clamp(1, 24);
    let left = reached.min(16);
    let count = 16 - left;
    let steps = significand << (reached - left) >> count;
    let other_side = u32::from(negative) ^ (top >> 8 & 1);
    let q = (steps ^ other_side.wrapping_neg()) as i32;
    let distance = q - (place & 255) as i32;
    let coded = Coded {
        symbol: (distance + CENTER as i32) as u32,
        count: count as u32,
        raw: significand & ((1 << count) - 1),
    };
    (coded, (behind == reached) & (distance.abs() <= FAR))
}

/// A weight in one word: its symbol among those of all contexts, the count of its raw bits (bits 13 to 16), and
/// these (from bit 17 on).
type Packed = u32;

#[inline(always)]
fn pack(coded: Coded, context: u32) -> Packed {
    coded.symbol | context << 8 | coded.count << 13 | coded.raw << 17
}

/// Encodes chunks of one tensor.
#[derive(Debug)]
pub struct ChunkEncoder<'a> {
    model: &'a ExactModel,
    /// Of each symbol of each context.
    ranges: Box<[Range; SYMBOLS]>,
    /// Whether each of these has slots, and is not [`ESCAPE`].
    known: Box<[bool; SYMBOLS]>,
    /// The symbol of each high part of a palette.
    symbols: Vec<u8>,
}

impl<'a> ChunkEncoder<'a> {
    /// An encoder for a model.
    pub fn new(model: &'a ExactModel) -> Self {
        let mut all = Box::new([Range::default(); SYMBOLS]);
        let mut symbols = Vec::new();
        match model.method() {
            Method::Raw => {}
            Method::Scaled(scaled) => {
                for (context, all) in all.as_chunks_mut().0.iter_mut().enumerate() {
                    if let Some(frequencies) = scaled.frequencies(context) {
                        *all = ranges(&frequencies);
                    }
                }
            }
            Method::Palette(palette) => {
                all.as_chunks_mut().0[0] = ranges(&palette.all_frequencies());
                symbols = palette_symbols(palette, model.shape().ty().high_bytes());
            }
        }
        let mut known = Box::new([false; SYMBOLS]);
        for (i, (known, range)) in known.iter_mut().zip(&*all).enumerate() {
            *known = range.frequency > 0 && i as u32 % 256 != ESCAPE;
        }
        Self {
            model,
            ranges: all,
            known,
            symbols,
        }
    }

    /// Encodes a chunk, given its elements and, if the model is predicted, its prediction.
    ///
    /// # Panics
    ///
    /// If there is no such chunk, or `original` or `predicted` has another length, or an element has low bits
    /// that the model denies.
    #[inline(always)]
    pub fn encode(&self, chunk: usize, original: &[u8], predicted: &[f32]) -> Vec<u8> {
        let shape = self.model.shape();
        let weights = check_lengths(self.model, chunk, original.len(), predicted);
        let size = shape.element_bytes();
        if original[size..] == original[..original.len() - size] {
            return [&[1], &original[..size]].concat();
        }
        let mut stored = Vec::new();
        let mut all = Vec::with_capacity(weights);
        let ty = shape.ty();
        match self.model.method() {
            Method::Raw => return [&[0], original].concat(),
            Method::Scaled(scaled) => {
                let first_row = shape.chunk_rows(chunk).start;
                let cols = shape.cols();
                for (r, row) in original.chunks_exact(cols * size).enumerate() {
                    let predicted = match predicted {
                        [] => predicted,
                        _ => &predicted[r * cols..(r + 1) * cols],
                    };
                    let code = CodeRow {
                        encoder: self,
                        scaled,
                        row: first_row + r,
                        original: row,
                        predicted,
                    };
                    // The type is a constant in each of these.
                    match ty {
                        ExactType::Bf16 => code.run(ExactType::Bf16, &mut all, &mut stored),
                        ExactType::F16 => code.run(ExactType::F16, &mut all, &mut stored),
                        ExactType::F32 => code.run(ExactType::F32, &mut all, &mut stored),
                        ExactType::F8E4M3 => code.run(ExactType::F8E4M3, &mut all, &mut stored),
                        ExactType::F8E5M2 => code.run(ExactType::F8E5M2, &mut all, &mut stored),
                    }
                }
            }
            Method::Palette(_) => {
                for i in 0..weights {
                    let (high, _) = ty.parts(original, i);
                    let coded = Coded {
                        symbol: self.symbols[high as usize].into(),
                        ..Coded::default()
                    };
                    store_escaped(coded, high, ty, &mut stored);
                    all.push(pack(coded, 0));
                }
            }
        }
        let low = self.low(original, weights);
        let (states, words) = self.push_all(&all);
        let count = stored.len() / ty.high_bytes();
        let length = HEAD + stored.len() + low.len() + 2 * words.len();
        if length > original.len() || count >= 1 << 24 {
            return [&[0], original].concat();
        }
        let mut code = Vec::with_capacity(length);
        code.extend(((count as u32) << 8 | 2).to_le_bytes());
        code.extend(states.iter().flat_map(|state| state.to_le_bytes()));
        code.extend(stored);
        code.extend(low);
        code.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        code
    }

    /// The low bits of all elements.
    #[inline(always)]
    fn low(&self, original: &[u8], weights: usize) -> Vec<u8> {
        let ty = self.model.shape().ty();
        if ty == ExactType::F32 && self.model.low_bits() == 16 {
            let elements = original.as_chunks().0.iter();
            return elements
                .flat_map(|&[a, b, _, _]: &[u8; 4]| [a, b])
                .collect();
        }
        let none = ty.low_bits() - self.model.low_bits();
        let mut low = BitWriter::default();
        if ty.low_bits() > 0 {
            for i in 0..weights {
                let (_, rest) = ty.parts(original, i);
                assert_eq!(rest & ((1 << none) - 1), 0, "low bits of element {i}");
                low.push(rest >> none, self.model.low_bits());
            }
        }
        low.finish()
    }

    /// Puts all weights into the states, the last one first, and returns the states and the words.
    #[inline(always)]
    fn push_all(&self, coded: &[Packed]) -> ([u32; STATES], Vec<u16>) {
        let mut states = [LEAST; STATES];
        // From its end on; a weight needs two words at most. Every step writes a word, needed or not, because
        // nothing could guess which are.
        let mut words = vec![0; 2 * coded.len() + 1];
        let mut at = words.len() - 1;
        for (g, group) in coded.chunks(GROUP_LANES).enumerate().rev() {
            let states = &mut states[g * GROUP_LANES % STATES..][..group.len()];
            for (state, packed) in states.iter_mut().zip(group).rev() {
                let count = packed >> 13 & 15;
                words[at] = *state as u16;
                let full = u64::from(*state) >> (32 - count) != 0;
                at -= usize::from(full);
                let x = *state >> (16 * u32::from(full));
                let left = 16 - count;
                let below = x & ((1 << left) - 1);
                *state = (x >> left) << 16 | (packed >> 17) << left | below;
            }
            for (state, packed) in states.iter_mut().zip(group).rev() {
                let range = &self.ranges[*packed as usize % SYMBOLS];
                words[at] = *state as u16;
                let full = *state >> (32 - PRECISION) >= u32::from(range.frequency);
                at -= usize::from(full);
                *state = range.push(*state >> (16 * u32::from(full)));
            }
        }
        words.drain(..=at);
        (states, words)
    }
}

/// What a row is coded from.
struct CodeRow<'a> {
    encoder: &'a ChunkEncoder<'a>,
    scaled: &'a Scaled,
    row: usize,
    original: &'a [u8],
    predicted: &'a [f32],
}

/// Weights of a row that are coded together, within the first-level cache.
const BLOCK: usize = 512;

impl CodeRow<'_> {
    /// Appends the row's weights, of type `ty`, to `all`, and the high parts that have no symbol to `stored`.
    #[inline(always)]
    fn run(self, ty: ExactType, all: &mut Vec<Packed>, stored: &mut Vec<u8>) {
        let row_scale = i32::from(self.scaled.rows.at(self.row));
        let mut scales = [0; BLOCK];
        for (b, original) in self.original.chunks(BLOCK * ty.bytes()).enumerate() {
            let range = b * BLOCK..b * BLOCK + original.len() / ty.bytes();
            let scales = &mut scales[..range.len()];
            match &self.scaled.cols {
                Scales::Equal(col) => scales.fill(clamp_scale(row_scale + i32::from(*col))),
                Scales::Each(cols) => {
                    for (scale, &col) in scales.iter_mut().zip(&cols[range.clone()]) {
                        *scale = clamp_scale(row_scale + i32::from(col));
                    }
                }
            }
            let before = all.len();
            all.resize(before + scales.len(), 0);
            let block = &mut all[before..];
            if self.predicted.is_empty() {
                self.pack_block(ty, original, scales, &[0.0; BLOCK], block);
            } else {
                self.pack_block(ty, original, scales, &self.predicted[range], block);
            }
            // Few weights have no symbol.
            for (i, packed) in block.iter_mut().enumerate() {
                if !self.encoder.known[*packed as usize % SYMBOLS] {
                    *packed = pack(STORE, *packed >> 8 & 31);
                    let (high, _) = ty.parts(original, i);
                    store_escaped(STORE, high, ty, stored);
                }
            }
        }
    }

    /// Packs a block as if there were slots for every symbol.
    #[inline(always)]
    fn pack_block(
        &self,
        ty: ExactType,
        original: &[u8],
        scales: &[u32],
        predicted: &[f32],
        block: &mut [Packed],
    ) {
        let (bits, depth) = (ty.significand_bits(), self.scaled.depth.into());
        let weights = block.iter_mut().zip(scales).zip(predicted).enumerate();
        for (i, ((packed, &scale), predicted)) in weights {
            let place = place(scale, predicted.to_bits(), bits, depth);
            let (high, _) = ty.parts(original, i);
            let (fields, number) = ty.any_fields(high);
            let (coded, near) = code_near(place, fields, bits);
            let context = (place >> PRECISION & 31) << 8;
            let special = if high == 0 { ZERO } else { ESCAPE };
            *packed = if number & near {
                pack(coded, 0)
            } else {
                special
            } | context;
        }
    }
}

/// Keeps the high part of a weight that has no symbol of its own.
#[inline(always)]
fn store_escaped(coded: Coded, high: u32, ty: ExactType, stored: &mut Vec<u8>) {
    if coded.symbol == ESCAPE {
        stored.extend(&(high as u16).to_le_bytes()[..ty.high_bytes()]);
    }
}

/// The symbol of each high part.
fn palette_symbols(palette: &Palette, high_bytes: usize) -> Vec<u8> {
    let mut symbols = vec![ESCAPE as u8; 1 << (8 * high_bytes)];
    for (symbol, &value) in palette.values.iter().enumerate() {
        symbols[usize::from(value)] = symbol as u8;
    }
    symbols
}
