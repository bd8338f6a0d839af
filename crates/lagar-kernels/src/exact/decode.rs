//! Decoding a chunk: [`reference::decode_chunk`], with 16 weights at a time.
//!
//! Blocks of [`BLOCK`] weights go through three steps while they are in the first-level cache: the scale of
//! each weight, the decoder proper, and the way back from numbers to elements.

use lagar_codec::CodecError;
use lagar_codec::exact::reference::{self, LEAST, STATES, STORED, Words};
use lagar_codec::exact::{
    CENTER, Chunk, ChunkCode, ExactModel, ExactType, Method, PRECISION, Palette, SLOTS, Scaled,
    Scales, ZERO, clamp_scale, place,
};

use crate::Isa;
use crate::simd::{Kernel, LANES, Simd};

/// Weights of a block: a multiple of the states.
const BLOCK: usize = 1024;

/// Words that 16 weights take, at most: each refills its state twice.
const GROUP_WORDS: usize = 2 * LANES;

/// See [`crate::Cpu::exact_decode`].
pub(super) fn decode(
    isa: Isa,
    model: &ExactModel,
    chunk: usize,
    code: &[u8],
    predicted: &[f32],
    out: &mut [u8],
) -> Result<(), CodecError> {
    let shape = model.shape();
    let values = if model.predicted() {
        shape.chunk_weights(chunk)
    } else {
        0
    };
    assert_eq!(out.len(), shape.chunk_bytes(chunk), "bytes of the chunk");
    assert_eq!(predicted.len(), values, "predictions of the chunk");
    match Chunk::parse(model, chunk, code)? {
        Chunk::Raw(raw) => out.copy_from_slice(raw),
        Chunk::Constant(element) => {
            let elements = out.chunks_exact_mut(element.len());
            elements.for_each(|out| out.copy_from_slice(element));
        }
        Chunk::Coded(code) => isa.dispatch(Decode {
            model,
            chunk,
            code,
            predicted,
            out,
        })?,
    }
    Ok(())
}

/// Decodes the codes of one chunk.
struct Decode<'a> {
    model: &'a ExactModel,
    chunk: usize,
    code: ChunkCode<'a>,
    predicted: &'a [f32],
    out: &'a mut [u8],
}

impl Kernel for Decode<'_> {
    type Output = Result<(), CodecError>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Result<(), CodecError> {
        // The type is a constant in each of these.
        match self.model.shape().ty() {
            ExactType::Bf16 => self.run_as(simd, ExactType::Bf16),
            ExactType::F16 => self.run_as(simd, ExactType::F16),
            ExactType::F32 => self.run_as(simd, ExactType::F32),
            ExactType::F8E4M3 => self.run_as(simd, ExactType::F8E4M3),
            ExactType::F8E5M2 => self.run_as(simd, ExactType::F8E5M2),
        }
    }
}

impl Decode<'_> {
    #[inline(always)]
    fn run_as<S: Simd>(self, simd: S, ty: ExactType) -> Result<(), CodecError> {
        let mut states = self.code.states;
        let mut words = Words(self.code.words.as_chunks().0);
        let mut stored = self.code.stored;
        let mut whole = true;
        let mut block = [0; BLOCK];
        let mut places = Places {
            row: self.model.shape().chunk_rows(self.chunk).start,
            col: 0,
        };
        let bytes = ty.bytes();
        for (b, out) in self.out.chunks_mut(BLOCK * bytes).enumerate() {
            let work = &mut block[..out.len() / bytes];
            let first = b * BLOCK;
            let low = Low {
                bytes: self.code.low,
                bits: self.model.low_bits(),
                first,
            };
            let enough = match self.model.method() {
                Method::Scaled(scaled) => {
                    let predicted = match self.predicted {
                        [] => &[],
                        predicted => &predicted[first..first + work.len()],
                    };
                    places.scales(scaled, self.model.shape().cols(), work);
                    whole &=
                        scaled_block(simd, scaled, ty, predicted, &mut states, &mut words, work);
                    from_numbers(ty, work, &low, &mut stored, out)
                }
                Method::Palette(palette) => {
                    whole &= palette_block(simd, palette, &mut states, &mut words, work);
                    from_palette(ty, palette, work, &low, &mut stored, out)
                }
                Method::Raw => unreachable!("such models have no coded chunks"),
            };
            if !enough {
                return Err(CodecError::ExactCode {
                    chunk: self.chunk,
                    what: "more elements are stored than it has",
                });
            }
        }
        let all_words = whole && words.0.is_empty();
        reference::check_end(self.chunk, all_words, stored.is_empty(), &states)
    }
}

/// Walks over the rows and columns of a chunk.
struct Places {
    row: usize,
    col: usize,
}

impl Places {
    /// Writes the scales of the next `work.len()` weights.
    #[inline(always)]
    fn scales(&mut self, scaled: &Scaled, cols: usize, work: &mut [u32]) {
        let mut done = 0;
        while done < work.len() {
            let count = (cols - self.col).min(work.len() - done);
            let work = &mut work[done..done + count];
            let row = i32::from(scaled.rows.at(self.row));
            match &scaled.cols {
                Scales::Equal(col) => work.fill(clamp_scale(row + i32::from(*col))),
                Scales::Each(scales) => {
                    for (work, &col) in work.iter_mut().zip(&scales[self.col..self.col + count]) {
                        *work = clamp_scale(row + i32::from(col));
                    }
                }
            }
            done += count;
            self.col += count;
            if self.col == cols {
                (self.row, self.col) = (self.row + 1, 0);
            }
        }
    }
}

/// Decodes a block: from scales to numbers. Returns whether there were words enough.
#[inline(always)]
fn scaled_block<S: Simd>(
    simd: S,
    scaled: &Scaled,
    ty: ExactType,
    predicted: &[f32],
    states: &mut [u32; STATES],
    words: &mut Words<'_>,
    work: &mut [u32],
) -> bool {
    let (table, bits, depth) = (
        scaled.table(),
        ty.significand_bits(),
        u32::from(scaled.depth),
    );
    let numbers = Numbers {
        table,
        bits,
        depth,
        predicted,
    };
    let done = if predicted.is_empty() {
        groups(simd, numbers, states, words, work)
    } else {
        groups(simd, Predicted(numbers), states, words, work)
    };
    let mut whole = true;
    for (g, work) in work.chunks_mut(LANES).enumerate().skip(done) {
        for (i, work) in (g * LANES..).zip(&mut *work) {
            let predicted = predicted.get(i).map_or(0, |value| value.to_bits());
            *work = place(*work, predicted, bits, depth);
        }
        let states = &mut states[g % 2 * LANES..][..LANES];
        whole &= reference::decode_scaled(table, bits, states, words, work);
    }
    whole
}

/// Decodes a block of a palette; returns whether there were words enough.
#[inline(always)]
fn palette_block<S: Simd>(
    simd: S,
    palette: &Palette,
    states: &mut [u32; STATES],
    words: &mut Words<'_>,
    work: &mut [u32],
) -> bool {
    let table = palette.table();
    let done = groups(simd, Symbols { table }, states, words, work);
    let mut whole = true;
    for (g, work) in work.chunks_mut(LANES).enumerate().skip(done) {
        let states = &mut states[g % 2 * LANES..][..LANES];
        whole &= reference::decode_palette(table, states, words, work);
    }
    whole
}

/// What is done for a group of 16 weights.
trait Step: Copy {
    /// Decodes weights `first` to `first + 15` of the block, in `work`, and returns the new states and the
    /// words left; nothing if there are fewer words than a group may take.
    fn step<'w, S: Simd>(
        self,
        simd: S,
        first: usize,
        state: S::U32,
        words: &'w [[u8; 2]],
        work: &mut [u32; LANES],
    ) -> Option<(S::U32, &'w [[u8; 2]])>;
}

/// From scales to numbers, without a prediction.
#[derive(Clone, Copy)]
struct Numbers<'a> {
    table: &'a [u32],
    bits: u32,
    depth: u32,
    predicted: &'a [f32],
}

/// From scales to numbers, with a prediction.
#[derive(Clone, Copy)]
struct Predicted<'a>(Numbers<'a>);

/// The places of 16 weights ([`place()`]), in three parts.
struct PlaceParts<V> {
    c: V,
    context: V,
    top: V,
}

impl Numbers<'_> {
    /// The numbers of 16 weights at their places, as [`mod@reference`] defines them.
    #[inline(always)]
    fn decode<'w, S: Simd>(
        self,
        simd: S,
        place: PlaceParts<S::U32>,
        state: S::U32,
        words: &'w [[u8; 2]],
        work: &mut [u32; LANES],
    ) -> Option<(S::U32, &'w [[u8; 2]])> {
        let (symbol, state) = pop(simd, self.table, simd.left(place.context, PRECISION), state);
        let (state, used) = simd.refill(state, words.first_chunk()?);
        let words = &words[used..];

        let q = simd.plus(
            simd.plus(place.c, symbol),
            simd.splat_u32(CENTER.wrapping_neg()),
        );
        let steps = simd.xor(q, simd.spread_sign(q));
        let half = simd.and(state, simd.splat_u32(0xfffe));
        let digits = simd.as_f32_bits(simd.or(simd.left(steps, 16), half));
        let (zero, all) = (simd.splat_u32(ZERO), simd.splat_u32(16));
        let special = simd.at_least(symbol, zero);
        let left = simd.minus_saturating(simd.right(digits, 23), simd.splat_u32(126 + self.bits));
        let left = simd.choose(special, all, simd.smaller(left, all));
        let ones = simd.splat_u32(u32::MAX);
        let below = simd.and(state, simd.xor(simd.left_each(ones, left), ones));
        let state = simd.or(simd.left_each(simd.right(state, 16), left), below);

        let kept = simd.and(digits, simd.splat_u32(u32::MAX << (24 - self.bits)));
        let sign = simd.and(q, simd.splat_u32(1 << 31));
        let number = simd.plus(kept, simd.xor(place.top, sign));
        simd.store_u32(simd.choose(special, simd.minus(symbol, zero), number), work);
        let (state, used) = simd.refill(state, words.first_chunk()?);
        Some((state, &words[used..]))
    }
}

impl Step for Numbers<'_> {
    #[inline(always)]
    fn step<'w, S: Simd>(
        self,
        simd: S,
        _first: usize,
        state: S::U32,
        words: &'w [[u8; 2]],
        work: &mut [u32; LANES],
    ) -> Option<(S::U32, &'w [[u8; 2]])> {
        let scale = simd.load_u32(work);
        let step = simd.minus(simd.right(scale, 2), simd.splat_u32(143));
        let place = PlaceParts {
            c: simd.splat_u32(0),
            context: simd.and(scale, simd.splat_u32(3)),
            top: simd.left(step, 23),
        };
        self.decode(simd, place, state, words, work)
    }
}

impl Step for Predicted<'_> {
    #[inline(always)]
    fn step<'w, S: Simd>(
        self,
        simd: S,
        first: usize,
        state: S::U32,
        words: &'w [[u8; 2]],
        work: &mut [u32; LANES],
    ) -> Option<(S::U32, &'w [[u8; 2]])> {
        let bits = self.0.bits;
        let scale = simd.load_u32(work);
        let predicted = simd.load_f32_bits(self.0.predicted.get(first..)?.first_chunk()?);
        let sign = simd.and(predicted, simd.splat_u32(1 << 31));
        let rounded = simd.plus(simd.xor(predicted, sign), simd.splat_u32(1 << (23 - bits)));
        let exponent = simd.right(rounded, 23);
        let hidden = 1 << (bits - 1);
        let significand = simd.and(simd.right(rounded, 24 - bits), simd.splat_u32(hidden - 1));
        let significand = simd.or(significand, simd.splat_u32(hidden));
        let step_digit = simd.plus(simd.right(scale, 2), simd.splat_u32(bits - 1));
        let above = simd.minus_saturating(step_digit, exponent);
        let above = simd.smaller(above, simd.splat_u32(31));
        let below = simd.minus_saturating(exponent, step_digit);
        let deep = simd.smaller(below, simd.splat_u32(self.0.depth));
        let quarter = simd.and(scale, simd.splat_u32(3));
        // The step digit is `bits - 1` above the step.
        let step = simd.minus(simd.plus(step_digit, below), simd.splat_u32(143 + bits - 1));
        let place = PlaceParts {
            c: simd.right_each(significand, above),
            context: simd.plus(quarter, simd.left(deep, 2)),
            top: simd.xor(simd.left(step, 23), sign),
        };
        self.0.decode(simd, place, state, words, work)
    }
}

/// Symbols alone.
#[derive(Clone, Copy)]
struct Symbols<'a> {
    table: &'a [u32],
}

impl Step for Symbols<'_> {
    #[inline(always)]
    fn step<'w, S: Simd>(
        self,
        simd: S,
        _first: usize,
        state: S::U32,
        words: &'w [[u8; 2]],
        work: &mut [u32; LANES],
    ) -> Option<(S::U32, &'w [[u8; 2]])> {
        let (symbols, state) = pop(simd, self.table, simd.splat_u32(0), state);
        let (state, used) = simd.refill(state, words.first_chunk()?);
        simd.store_u32(symbols, work);
        Some((state, &words[used..]))
    }
}

/// Decodes one group of 16 weights after the other, as long as there are whole pairs of groups and words
/// enough; returns the number of groups.
#[inline(always)]
fn groups<S: Simd>(
    simd: S,
    step: impl Step,
    states: &mut [u32; STATES],
    words: &mut Words<'_>,
    work: &mut [u32],
) -> usize {
    let ([even, odd], []) = states.as_chunks_mut::<LANES>() else {
        unreachable!("32 states are two groups");
    };
    let (mut first, mut second) = (simd.load_u32(even), simd.load_u32(odd));
    let mut done = 0;
    for (pair, work) in work.as_chunks_mut::<STATES>().0.iter_mut().enumerate() {
        let ([even, odd], []) = work.as_chunks_mut::<LANES>() else {
            unreachable!("32 weights are two groups");
        };
        if words.0.len() < 2 * GROUP_WORDS {
            break;
        }
        // With words for both there are words for each.
        let Some((state, left)) = step.step(simd, pair * STATES, first, words.0, even) else {
            break;
        };
        (first, words.0) = (state, left);
        let Some((state, left)) = step.step(simd, pair * STATES + LANES, second, words.0, odd)
        else {
            break;
        };
        (second, words.0) = (state, left);
        done += 2;
    }
    simd.store_u32(first, even);
    simd.store_u32(second, odd);
    done
}

/// The symbols of 16 states, in tables that begin at `base`, and the states without them.
#[inline(always)]
fn pop<S: Simd>(simd: S, table: &[u32], base: S::U32, state: S::U32) -> (S::U32, S::U32) {
    let slots = simd.splat_u32(SLOTS - 1);
    let entry = simd.look_up(table, simd.or(base, simd.and(state, slots)));
    let product = simd.times(simd.right(entry, 20), simd.right(state, PRECISION));
    let state = simd.plus(product, simd.and(simd.right(entry, 8), slots));
    (simd.and(entry, simd.splat_u32(255)), state)
}

/// The low bits of a block's elements.
struct Low<'a> {
    bytes: &'a [u8],
    bits: u32,
    /// The block's first weight.
    first: usize,
}

impl Low<'_> {
    /// Those of weights `8 g` to `8 g + 7` of the block; past the end, anything.
    #[inline(always)]
    fn group(&self, g: usize, to: &mut [u32; 8]) {
        let from = &self.bytes[(self.first / 8 + g) * self.bits as usize..];
        let word = match from.first_chunk() {
            Some(&word) => u128::from_le_bytes(word),
            None => {
                let mut word = [0; 16];
                word[..from.len()].copy_from_slice(from);
                u128::from_le_bytes(word)
            }
        };
        let mask = (1 << self.bits) - 1;
        if self.bits <= 4 {
            // The rule: an f16's three.
            let word = word as u32;
            for (i, to) in (0..).zip(to) {
                *to = word >> (i * self.bits) & mask;
            }
        } else {
            for (i, to) in (0..).zip(to) {
                *to = (word >> (i * self.bits)) as u32 & mask;
            }
        }
    }

    /// Those of weight `i` of the block.
    #[inline(always)]
    fn at(&self, i: usize) -> u32 {
        if self.bits == 0 {
            return 0;
        }
        let bit = (self.first + i) * self.bits as usize;
        let from = &self.bytes[bit / 8..];
        let word = match from.first_chunk() {
            Some(&word) => u32::from_le_bytes(word),
            None => {
                let mut word = [0; 4];
                word[..from.len()].copy_from_slice(from);
                u32::from_le_bytes(word)
            }
        };
        word >> (bit % 8) & ((1 << self.bits) - 1)
    }
}

/// The next stored high part, 0 if there is none, and whether there was one.
#[inline(always)]
fn take_stored(ty: ExactType, stored: &mut &[u8]) -> (u32, bool) {
    match *stored {
        [byte, rest @ ..] if ty.high_bytes() == 1 => {
            *stored = rest;
            (u32::from(*byte), true)
        }
        [a, b, rest @ ..] => {
            *stored = rest;
            (u32::from(u16::from_le_bytes([*a, *b])), true)
        }
        _ => (0, false),
    }
}

/// Writes elements from numbers as bits of f32, or [`STORED`]. Returns whether enough are stored.
#[inline(always)]
fn from_numbers(
    ty: ExactType,
    work: &[u32],
    low: &Low<'_>,
    stored: &mut &[u8],
    out: &mut [u8],
) -> bool {
    // First as if all were numbers, in loops without branches.
    if ty == ExactType::F32 && low.bits == 16 {
        let low = &low.bytes[2 * low.first..][..2 * work.len()];
        let low = low.as_chunks().0.iter();
        for ((out, low), &result) in out.as_chunks_mut().0.iter_mut().zip(low).zip(work) {
            let bits = result | u32::from(u16::from_le_bytes(*low));
            *out = bits.to_le_bytes();
        }
    } else if low.bits == 0 {
        match ty.bytes() {
            1 => {
                for (out, &result) in out.iter_mut().zip(work) {
                    *out = ty.high_of_pattern(result) as u8;
                }
            }
            2 => {
                for (out, &result) in out.as_chunks_mut().0.iter_mut().zip(work) {
                    *out = (ty.high_of_pattern(result) as u16).to_le_bytes();
                }
            }
            _ => {
                for (out, &result) in out.as_chunks_mut().0.iter_mut().zip(work) {
                    *out = result.to_le_bytes();
                }
            }
        }
    } else {
        // Groups of 8 begin at whole bytes.
        let mut rest = [0; 8];
        for (g, work) in work.chunks(8).enumerate() {
            low.group(g, &mut rest);
            let out = &mut out[8 * g * ty.bytes()..][..work.len() * ty.bytes()];
            for (i, (&result, &rest)) in work.iter().zip(&rest).enumerate() {
                ty.join(ty.high_of_pattern(result), rest, low.bits, i, out);
            }
        }
    }
    // Then what is stored, which is rare.
    let mut enough = true;
    for (g, group) in work.chunks(LANES).enumerate() {
        if group.iter().fold(0, |any, &result| any | result) & STORED == 0 {
            continue;
        }
        for (i, &result) in (g * LANES..).zip(group) {
            if result == STORED {
                let (high, found) = take_stored(ty, stored);
                enough &= found;
                ty.join(high, low.at(i), low.bits, i, out);
            }
        }
    }
    enough
}

/// Writes elements from positions in a palette. Returns whether enough are stored.
#[inline(always)]
fn from_palette(
    ty: ExactType,
    palette: &Palette,
    work: &[u32],
    low: &Low<'_>,
    stored: &mut &[u8],
    out: &mut [u8],
) -> bool {
    let mut enough = true;
    for (i, &symbol) in work.iter().enumerate() {
        let high = match palette.values.get(symbol as usize) {
            Some(&value) => value.into(),
            None => {
                let (high, found) = take_stored(ty, stored);
                enough &= found;
                high
            }
        };
        ty.join(high, low.at(i), low.bits, i, out);
    }
    enough
}

const _: () = assert!(BLOCK.is_multiple_of(STATES) && LEAST == 1 << 16);
