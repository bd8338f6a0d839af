//! Choosing a model: scales of rows and columns, the distribution of distances, or a palette.
//!
//! All in integers and in sums of a fixed order, so that the choice is the same on every machine.

use std::collections::BTreeMap;

use lagar_codec::exact::{
    ESCAPE, ExactModel, ExactShape, ExactType, KNOTS, MOST_DEPTH, MOST_SPECIAL, Method, PRECISION,
    Palette, Profile, SLOTS, Scaled, Scales, ZERO, clamp_scale, code_number, place,
};

use super::{ExactSource, for_chunks};
use crate::Cpu;
use crate::simd::{Kernel, Simd};

/// Four times the exponent of the step for a standard deviation of 1: a quarter of it, biased.
const UNIT_SCALE: i16 = 4 * 125;

/// The scale, less that of 1, of what has no distance from its prediction.
const FINEST: i16 = -UNIT_SCALE;

/// Chunks surveyed together.
const SURVEY_CHUNKS: usize = 64;

/// Chunks of which distances are counted, at most.
const SAMPLE_CHUNKS: usize = 12;

/// Weights of which distances are counted, about.
const SAMPLE_WEIGHTS: usize = 1 << 17;

/// Values beyond this many times their row's mean say nothing of its scale.
const OUTLIER: f32 = 16.0;

/// The most values of a palette.
const PALETTE: usize = 255;

/// `8 · log2` of the bins' widths in a profile: the first has half of one.
const FIRST_BIN: i64 = 8;

/// Chooses the model of a tensor.
pub(super) fn fit(cpu: &Cpu, shape: &ExactShape, source: &(dyn ExactSource + Sync)) -> ExactModel {
    let raw = ExactModel::raw(*shape, source.predicted());
    let survey = Survey::of(cpu, shape, source);
    let low_bits = survey.low_bits(shape.ty());
    let (rows, cols) = survey.scales(shape);
    let sample = Sample::of(cpu, shape, source, &rows, &cols);
    let palette = survey.palette();
    let scaled = sample.model(shape.ty(), rows, cols, survey.share_of_zeros(shape));
    let weights = (shape.rows() * shape.cols()) as f64;
    let cost = |method: &Method, bits_per_weight: f64| {
        let model = ExactModel::new(*shape, source.predicted(), low_bits, method.clone());
        let model = model.expect("the scales have the shape");
        let bytes = model.to_bytes().len() as f64;
        (bits_per_weight * weights + 8.0 * bytes, model)
    };
    let raw_bits = 8.0 * shape.ty().high_bytes() as f64;
    let mut best = (raw_bits * weights, raw);
    for (method, bits) in [scaled, palette].into_iter().flatten() {
        let found = cost(&method, bits);
        if found.0 < best.0 {
            best = found;
        }
    }
    best.1
}

/// `round(2 · log2(x))` of a positive number.
fn twice_log2(x: f64) -> i16 {
    let bits = x.to_bits();
    let exponent = (bits >> 52) as i16 - 1023;
    let mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    let quarters = [1.189_207_115_002_721, 1.681_792_830_507_429];
    2 * exponent + quarters.iter().filter(|&&q| mantissa >= q).count() as i16
}

/// `256 · log2(n)` of a positive number, rounded down.
fn log2_256(n: u64) -> i64 {
    let whole = n.ilog2();
    let mut mantissa = if whole > 31 {
        n >> (whole - 31)
    } else {
        n << (31 - whole)
    };
    let mut log = i64::from(whole);
    for _ in 0..8 {
        mantissa = (mantissa * mantissa) >> 31;
        log *= 2;
        if mantissa >> 32 != 0 {
            mantissa >>= 1;
            log += 1;
        }
    }
    log
}

/// What an element is worth, NaN for infinities, and its high part.
#[inline(always)]
fn value(ty: ExactType, bytes: &[u8], i: usize) -> (f32, u32, u32) {
    let (high, low) = ty.parts(bytes, i);
    let value = match ty {
        ExactType::Bf16 | ExactType::F32 => f32::from_bits(high << 16),
        _ => ty.fields(high).map_or(0.0, |f| {
            let sign = u32::from(f.negative) << 31;
            let significand = f.significand << (24 - ty.significand_bits());
            f32::from_bits(sign | ((f.exponent - 1) << 23).wrapping_add(significand))
        }),
    };
    (value, high, low)
}

/// What one look at all of a tensor tells.
struct Survey {
    predicted: bool,
    /// Mean square of each row's distances; 0 where there is none.
    rows: Vec<f64>,
    /// The same of each column, in units of its rows'.
    cols: Vec<f64>,
    /// All low bits, or-ed.
    low: u32,
    zeros: u64,
    /// How often each high part occurs, unless they are too many.
    values: Option<BTreeMap<u16, u64>>,
}

/// A survey of one chunk.
struct ChunkSurvey {
    rows: Vec<f64>,
    /// Of each column, the sum of squares in units of the rows', and how many they are.
    sums: Vec<f32>,
    counts: Vec<f32>,
    low: u32,
    zeros: u64,
    values: Option<BTreeMap<u16, u64>>,
}

impl Survey {
    fn of(cpu: &Cpu, shape: &ExactShape, source: &(dyn ExactSource + Sync)) -> Self {
        let all: Vec<usize> = (0..shape.chunks()).collect();
        let mut survey = Self {
            predicted: source.predicted(),
            rows: Vec::new(),
            cols: Vec::new(),
            low: 0,
            zeros: 0,
            values: Some(BTreeMap::new()),
        };
        let mut cols = vec![(0.0, 0.0); shape.cols()];
        // Some at a time: what a chunk tells of its columns may take half its size.
        for chunk in all.chunks(SURVEY_CHUNKS).flat_map(|chunks| {
            for_chunks(cpu.pool(), source, chunks, |_, original, predicted| {
                cpu.isa().dispatch(SurveyChunk {
                    shape,
                    original,
                    predicted,
                })
            })
        }) {
            survey.rows.extend(chunk.rows);
            let more = chunk.sums.iter().zip(chunk.counts);
            for ((sum, count), (&more, n)) in cols.iter_mut().zip(more) {
                *sum += f64::from(more);
                *count += f64::from(n);
            }
            survey.low |= chunk.low;
            survey.zeros += chunk.zeros;
            survey.values = survey.values.zip(chunk.values).and_then(|(mut all, more)| {
                for (value, count) in more {
                    *all.entry(value).or_default() += count;
                }
                (all.len() <= 1 << 10).then_some(all)
            });
        }
        let mean = |(sum, count): (f64, f64)| if count > 0.0 { sum / count } else { 0.0 };
        survey.cols = cols.into_iter().map(mean).collect();
        survey
    }

    /// How many of the bits below the high part have to be stored.
    fn low_bits(&self, ty: ExactType) -> u8 {
        let none = self.low.trailing_zeros().min(ty.low_bits());
        (ty.low_bits() - none) as u8
    }

    fn share_of_zeros(&self, shape: &ExactShape) -> u16 {
        let weights = (shape.rows() * shape.cols()) as u128;
        let slots = (u128::from(self.zeros) * u128::from(SLOTS) + weights / 2) / weights;
        slots.min(u128::from(MOST_SPECIAL)) as u16
    }

    /// Scales of rows and columns, one for all where more would cost more than they gain.
    fn scales(&self, shape: &ExactShape) -> (Scales, Scales) {
        let mean = |squares: &[f64]| {
            let known = squares.iter().filter(|&&square| square > 0.0);
            let sum: f64 = known.clone().sum();
            sum / known.count().max(1) as f64
        };
        let unit = mean(&self.cols);
        let log = |square: f64| (square > 0.0 && square.is_finite()).then(|| twice_log2(square));
        let cols: Vec<_> = self.cols.iter().map(|&c| log(c / unit)).collect();
        // Rows that are predicted exactly ask for the finest step.
        let exact = self.predicted.then_some(FINEST);
        let rows: Vec<_> = self.rows.iter().map(|&r| log(r).or(exact)).collect();
        let row_for_all = log(mean(&self.rows)).or(exact).unwrap_or(0);
        let col_for_all = 0;
        let rows = worthwhile(&rows, row_for_all, shape.cols());
        let cols = worthwhile(&cols, col_for_all, shape.rows());
        let shift = |scale: &i16| (scale + UNIT_SCALE).clamp(0, 1023);
        let rows = match rows {
            Scales::Equal(scale) => Scales::Equal(shift(&scale)),
            Scales::Each(scales) => Scales::Each(scales.iter().map(shift).collect()),
        };
        (rows, cols)
    }

    /// A palette of all values, or of the most frequent ones, and its bits per weight.
    fn palette(&self) -> Option<(Method, f64)> {
        let values = self.values.as_ref()?;
        let mut by_count: Vec<_> = values.iter().map(|(&v, &n)| (n, v)).collect();
        by_count.sort_unstable_by_key(|&(n, v)| (std::cmp::Reverse(n), v));
        let mut kept: Vec<_> = by_count[..by_count.len().min(PALETTE)].to_vec();
        kept.sort_unstable_by_key(|&(_, v)| v);
        let total: u64 = by_count.iter().map(|&(n, _)| n).sum();
        let escaped = total - kept.iter().map(|&(n, _)| n).sum::<u64>();
        let slots = |n: u64, most: u64| {
            let slots = u128::from(n) * u128::from(SLOTS) / u128::from(total.max(1));
            (slots as u64).clamp(1, most) as u16
        };
        let escape = slots(escaped, u64::from(MOST_SPECIAL));
        let mut frequencies: Vec<u16> = kept.iter().map(|&(n, _)| slots(n, 4095)).collect();
        // What is too much or left over goes to the most frequent ones.
        let sum = |f: &[u16]| f.iter().map(|&f| i64::from(f)).sum::<i64>() + i64::from(escape);
        while sum(&frequencies) != i64::from(SLOTS) {
            let over = sum(&frequencies) - i64::from(SLOTS);
            let largest = frequencies.iter_mut().max()?;
            let less = over.min(i64::from(*largest / 2));
            *largest = u16::try_from(i64::from(*largest) - less).ok()?;
            if less == 0 {
                return None;
            }
        }
        let bits = |n: u64, f: u16| n as f64 * (12.0 - log2_256(f.into()) as f64 / 256.0);
        let cost: f64 = kept
            .iter()
            .zip(&frequencies)
            .map(|(&(n, _), &f)| bits(n, f))
            .sum();
        let cost = (cost + bits(escaped, escape) + 16.0 * escaped as f64) / total.max(1) as f64;
        let values = kept.iter().map(|&(_, v)| v).collect();
        let palette = Palette::new(values, frequencies, escape).ok()?;
        Some((Method::Palette(palette), cost))
    }
}

/// Surveys one chunk, with the vectors of the instruction set.
struct SurveyChunk<'a> {
    shape: &'a ExactShape,
    original: &'a [u8],
    predicted: &'a [f32],
}

impl Kernel for SurveyChunk<'_> {
    type Output = ChunkSurvey;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> ChunkSurvey {
        survey_chunk(self.shape, self.original, self.predicted)
    }
}

#[inline(always)]
fn survey_chunk(shape: &ExactShape, original: &[u8], predicted: &[f32]) -> ChunkSurvey {
    let (ty, cols) = (shape.ty(), shape.cols());
    let mut survey = ChunkSurvey {
        rows: Vec::new(),
        sums: vec![0.0; cols],
        counts: vec![0.0; cols],
        low: 0,
        zeros: 0,
        values: few_values(ty, original),
    };
    let mut distances = vec![0.0f32; cols];
    for (r, bytes) in original.chunks_exact(cols * ty.bytes()).enumerate() {
        let predicted = match predicted {
            [] => predicted,
            _ => &predicted[r * cols..(r + 1) * cols],
        };
        // The type is a constant in each of these.
        let (low, zeros) = match ty {
            ExactType::Bf16 => row_distances::<0>(bytes, predicted, &mut distances),
            ExactType::F16 => row_distances::<1>(bytes, predicted, &mut distances),
            ExactType::F32 => row_distances::<2>(bytes, predicted, &mut distances),
            ExactType::F8E4M3 => row_distances::<3>(bytes, predicted, &mut distances),
            ExactType::F8E5M2 => row_distances::<4>(bytes, predicted, &mut distances),
        };
        survey.low |= low;
        survey.zeros += u64::from(zeros);
        let square = mean_square(&distances);
        if square > 0.0 {
            let unit = (1.0 / square.sqrt()) as f32;
            let columns = survey.sums.iter_mut().zip(&mut survey.counts);
            for (distance, (sum, count)) in distances.iter().zip(columns) {
                let d = (distance * unit).abs();
                let counts = d > 0.0 && d < OUTLIER;
                *sum += if counts { d * d } else { 0.0 };
                *count += if counts { 1.0 } else { 0.0 };
            }
        }
        survey.rows.push(square);
    }
    survey
}

/// Writes how far each weight of a row, of type `ExactType::ALL[TYPE]`, is from its prediction: 0 for those
/// that are 0. Returns all low bits, or-ed, and the count of zeros.
#[inline(always)]
fn row_distances<const TYPE: usize>(
    bytes: &[u8],
    predicted: &[f32],
    distances: &mut [f32],
) -> (u32, u32) {
    let ty = ExactType::ALL[TYPE];
    let (mut all_low, mut zeros) = (0, 0);
    for (i, distance) in distances.iter_mut().enumerate() {
        let (value, high, low) = value(ty, bytes, i);
        *distance = if high == 0 { 0.0 } else { value };
        all_low |= low;
        zeros += u32::from(high == 0);
    }
    for (distance, prediction) in distances.iter_mut().zip(predicted) {
        *distance = if *distance == 0.0 {
            0.0
        } else {
            *distance - prediction
        };
    }
    (all_low, zeros)
}

/// How often each high part occurs, unless more than 256 do.
fn few_values(ty: ExactType, bytes: &[u8]) -> Option<BTreeMap<u16, u64>> {
    if ty.bytes() == 1 {
        let mut counts = [0u64; 256];
        for &byte in bytes {
            counts[usize::from(byte)] += 1;
        }
        let counts = (0u16..).zip(counts).filter(|&(_, count)| count > 0);
        return Some(counts.collect());
    }
    let mut counts = BTreeMap::new();
    for i in 0..bytes.len() / ty.bytes() {
        *counts.entry(ty.parts(bytes, i).0 as u16).or_default() += 1;
        if counts.len() > 256 {
            return None;
        }
    }
    Some(counts)
}

/// Lanes of a sum.
const LANES: usize = 16;

/// The mean square of those numbers that are neither 0, nor far out, nor infinite.
#[inline(always)]
fn mean_square(distances: &[f32]) -> f64 {
    // The rule, in f32: no number is far out.
    let (mut sums, mut counts, mut largest) = ([0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES]);
    for distances in distances.chunks(LANES) {
        for (lane, d) in distances.iter().enumerate() {
            let d = d.abs();
            sums[lane] += d;
            counts[lane] += if d > 0.0 { 1.0 } else { 0.0 };
            // Also true of NaN.
            largest[lane] = if d <= largest[lane] { largest[lane] } else { d };
        }
    }
    let sum = |lanes: &[f32; LANES]| lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
    let count = sum(&counts);
    let mean = sum(&sums) / count.max(1.0);
    let limit = f64::from(OUTLIER) * mean;
    if mean == 0.0 || !largest.iter().all(|&d| f64::from(d) <= limit) || mean < 1e-30 {
        return mean_square_of_most(distances);
    }
    let unit = (1.0 / mean) as f32;
    let mut squares = [0.0f32; LANES];
    for distances in distances.chunks(LANES) {
        for (square, d) in squares.iter_mut().zip(distances) {
            let d = d * unit;
            *square += d * d;
        }
    }
    sum(&squares) / count.max(1.0) * mean * mean
}

/// [`mean_square`] where some may be far out.
fn mean_square_of_most(distances: &[f32]) -> f64 {
    let mut limit = f32::MAX;
    for _ in 0..8 {
        let (mut sum, mut squares, mut count, mut largest) = (0.0, 0.0, 0u32, 0.0f32);
        for d in distances.iter().map(|d| d.abs()) {
            if d > 0.0 && d <= limit {
                sum += f64::from(d);
                squares += f64::from(d) * f64::from(d);
                count += 1;
                largest = largest.max(d);
            }
        }
        let mean = sum / f64::from(count.max(1));
        if f64::from(largest) <= f64::from(OUTLIER) * mean {
            return squares / f64::from(count.max(1));
        }
        limit = (f64::from(OUTLIER) * mean) as f32;
    }
    0.0
}

/// Each scale where that gains more bits than it costs; else one for all. `length` is the number of weights
/// that each applies to.
fn worthwhile(logs: &[Option<i16>], for_all: i16, length: usize) -> Scales {
    let mut last = logs.iter().flatten().next().copied().unwrap_or(for_all);
    let filled: Vec<i16> = logs
        .iter()
        .map(|log| {
            last = log.unwrap_or(last);
            last
        })
        .collect();
    // A standard deviation that is off by a factor of e^x costs about x² nats; a quarter of a power of two
    // is .173, so n quarters cost .0433 n² bits.
    let gain: f64 = filled
        .iter()
        .map(|&log| 0.0433 * f64::from(log - for_all).powi(2))
        .sum();
    // About 3 bits for each, as such lists turn out.
    if gain * length as f64 > 3.0 * filled.len() as f64 {
        filled.into()
    } else {
        Scales::Equal(for_all)
    }
}

/// Counts over some chunks.
struct Sample {
    /// Distances by their distance from 0, in quarters of a standard deviation.
    knots: [u64; KNOTS],
    /// How far predictions are coarser than the step their scale asks for.
    above: [u64; MOST_DEPTH as usize + 1],
    /// For each depth of prediction: how often each symbol occurs, by context.
    symbols: Vec<[u64; 256]>,
    /// Raw bits.
    raw: u64,
    weights: u64,
}

impl Sample {
    fn of(
        cpu: &Cpu,
        shape: &ExactShape,
        source: &(dyn ExactSource + Sync),
        rows: &Scales,
        cols: &Scales,
    ) -> Self {
        let count = shape.chunks().min(SAMPLE_CHUNKS);
        let chunks: Vec<_> = (0..count).map(|i| i * shape.chunks() / count).collect();
        let samples = for_chunks(cpu.pool(), source, &chunks, |chunk, original, predicted| {
            let mut sample = Self::new();
            sample.count(shape, chunk, original, predicted, rows, cols);
            sample
        });
        let mut all = Self::new();
        for sample in samples {
            all.add(&sample);
        }
        all
    }

    fn new() -> Self {
        Self {
            knots: [0; KNOTS],
            above: [0; MOST_DEPTH as usize + 1],
            symbols: vec![[0; 256]; 4 + 4 * usize::from(MOST_DEPTH)],
            raw: 0,
            weights: 0,
        }
    }

    fn add(&mut self, other: &Self) {
        let add = |to: &mut [u64], from: &[u64]| to.iter_mut().zip(from).for_each(|(a, b)| *a += b);
        add(&mut self.knots, &other.knots);
        add(&mut self.above, &other.above);
        for (to, from) in self.symbols.iter_mut().zip(&other.symbols) {
            add(to, from);
        }
        self.raw += other.raw;
        self.weights += other.weights;
    }

    fn count(
        &mut self,
        shape: &ExactShape,
        chunk: usize,
        original: &[u8],
        predicted: &[f32],
        rows: &Scales,
        cols: &Scales,
    ) {
        let (ty, bits) = (shape.ty(), shape.ty().significand_bits());
        // Knots per unit, for a scale of 0 to 3.
        let knots = [4.0, 3.363_586, 2.828_427, 2.378_414].map(|k: f64| k);
        let chunks = shape.chunks().min(SAMPLE_CHUNKS);
        let every = (shape.chunk_weights(0) * chunks).div_ceil(SAMPLE_WEIGHTS);
        for (r, row) in shape.chunk_rows(chunk).enumerate().step_by(every) {
            for col in 0..shape.cols() {
                let i = r * shape.cols() + col;
                let (value, high, _) = value(ty, original, i);
                let prediction = predicted.get(i).copied().unwrap_or(0.0);
                let scale = i32::from(rows.at(row)) + i32::from(cols.at(col));
                let place = place(
                    clamp_scale(scale),
                    prediction.to_bits(),
                    bits,
                    MOST_DEPTH.into(),
                );
                let context = (place >> PRECISION & 31) as usize;
                self.weights += 1;
                if high == 0 {
                    self.symbols[context][ZERO as usize] += 1;
                    continue;
                }
                let Some(fields) = ty.fields(high) else {
                    self.symbols[context][ESCAPE as usize] += 1;
                    continue;
                };
                let coded = code_number(place, fields, bits);
                self.symbols[context][coded.symbol as usize] += 1;
                self.raw += u64::from(coded.count);
                self.above[context / 4] += 1;
                let scale = scale - i32::from(UNIT_SCALE);
                let exponent = (1023 - (scale >> 2)).clamp(1, 2046) as u64;
                let unit = knots[(scale & 3) as usize] * f64::from_bits(exponent << 52);
                let knot = (f64::from(value - prediction).abs() * unit + 0.5) as usize;
                if let Some(count) = self.knots.get_mut(knot) {
                    *count += 1;
                }
            }
        }
    }

    /// The best model of this kind, and its bits per weight.
    fn model(&self, ty: ExactType, rows: Scales, cols: Scales, zero: u16) -> Option<(Method, f64)> {
        let depth = self.depth();
        let mut best: Option<(u64, Scaled)> = None;
        for (profile, bits) in [(Profile::normal(), 0), (self.profile(), 8 * KNOTS as u64)] {
            let mut escape = 1;
            // The slots of an escape depend on the escapes, and these on which symbols have slots.
            for _ in 0..2 {
                let scaled =
                    Scaled::new(rows.clone(), cols.clone(), depth, profile, zero, escape).ok()?;
                let (cost, escapes) = self.cost(&scaled, ty.high_bytes());
                // The sample stands for all.
                let cost = cost + 256 * bits;
                if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                    best = Some((cost, scaled));
                }
                let share = escapes * u64::from(SLOTS) / self.weights.max(1);
                escape = share.clamp(1, u64::from(MOST_SPECIAL)) as u16;
            }
        }
        let (cost, scaled) = best?;
        let bits = cost as f64 / 256.0 / self.weights.max(1) as f64;
        Some((Method::Scaled(scaled), bits))
    }

    /// The least depth that tells apart all but few.
    fn depth(&self) -> u8 {
        let all: u64 = self.above.iter().sum();
        let beyond = |depth: usize| self.above[depth + 1..].iter().sum::<u64>();
        let depth = (0..usize::from(MOST_DEPTH)).find(|&depth| beyond(depth) * 512 <= all);
        depth.unwrap_or(MOST_DEPTH.into()) as u8
    }

    /// The distribution that was counted.
    fn profile(&self) -> Profile {
        // In eighths of a bit. Counts are smoothed, and made to fall.
        let log = |i: usize| log2_256(8 * self.knots[i] + 1) / 32;
        let top = log(0) + FIRST_BIN;
        let mut least = 0;
        Profile(std::array::from_fn(|i| {
            let fall = if i == 0 { 0 } else { top - log(i) };
            least = fall.clamp(least, 255);
            least as u8
        }))
    }

    /// What the counted symbols cost, in 256ths of a bit, and how many of them are stored.
    fn cost(&self, scaled: &Scaled, high_bytes: usize) -> (u64, u64) {
        let deepest = 4 * usize::from(scaled.depth);
        let (mut cost, mut escapes) = (256 * self.raw, 0);
        let frequencies: Vec<[u32; 256]> = scaled
            .table()
            .chunks_exact(SLOTS as usize)
            .map(|table| {
                let mut frequencies = [0; 256];
                for entry in table {
                    frequencies[(entry & 255) as usize] = entry >> 20;
                }
                frequencies
            })
            .collect();
        for (context, symbols) in self.symbols.iter().enumerate() {
            let frequencies = &frequencies[context.min(deepest + context % 4)];
            for (symbol, (&count, &frequency)) in symbols.iter().zip(frequencies).enumerate() {
                let escape = symbol == ESCAPE as usize || frequency == 0;
                let frequency = if escape {
                    escapes += count;
                    frequencies[ESCAPE as usize]
                } else {
                    frequency
                };
                let bits = 12 * 256 - log2_256(u64::from(frequency));
                let stored = if escape { 256 * 8 * high_bytes } else { 0 };
                cost += count * (bits as u64 + stored as u64);
            }
        }
        (cost, escapes)
    }
}
