//! Products with a dense weight matrix, straight from its stored bytes.

use std::ops::Range;

use crate::simd::{Kernel, LANES, Simd};
use crate::{Cpu, Disjoint};

/// Weight rows of a task.
const TASK_ROWS: usize = 48;
/// Tokens whose vectors stay in the cache while the rows of a task pass by.
const TOKENS: usize = 64;
/// From this many tokens on, weights are widened once to `f32` instead of at every use.
const WIDEN: usize = 8;
/// Vectors of a widened row that stay in the first cache while a block of tokens passes by.
const DEPTH: usize = 64;

/// A dense weight matrix as it is stored: little-endian bytes, row-major, out x in, at any
/// alignment.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum DenseWeight<'a> {
    /// IEEE single precision.
    F32(&'a [u8]),
    /// The upper half of IEEE single precision.
    Bf16(&'a [u8]),
    /// IEEE half precision.
    F16(&'a [u8]),
}

impl Cpu {
    /// `y[t, o] = Σᵢ x[t, i] · w[o, i]`, where `x` is n × cols, `w` rows × cols, `y` n × rows.
    ///
    /// Element `i` of the sum is in lane `i % 16`.
    ///
    /// # Panics
    /// If a length is wrong.
    pub fn dense_matmul(
        &self,
        weight: DenseWeight<'_>,
        rows: usize,
        cols: usize,
        x: &[f32],
        n: usize,
        y: &mut [f32],
    ) {
        match weight {
            DenseWeight::F32(bytes) => self.dense(F32(bytes), rows, cols, x, n, y),
            DenseWeight::Bf16(bytes) => self.dense(Bf16(bytes), rows, cols, x, n, y),
            DenseWeight::F16(bytes) => self.dense(F16(bytes), rows, cols, x, n, y),
        }
    }

    fn dense<W: Weights>(
        &self,
        w: W,
        rows: usize,
        cols: usize,
        x: &[f32],
        n: usize,
        y: &mut [f32],
    ) {
        assert_eq!(w.bytes().len(), rows * cols * W::SIZE, "w is rows x cols");
        assert_eq!(x.len(), n * cols, "x is n x cols");
        assert_eq!(y.len(), n * rows, "y is n x rows");
        if cols == 0 {
            y.fill(0.0);
            return;
        }
        let y = Disjoint::new(y);
        self.pool().run_alike(rows.div_ceil(TASK_ROWS), &|task| {
            let first = task * TASK_ROWS;
            self.isa().dispatch(Strip {
                w,
                first,
                end: rows.min(first + TASK_ROWS),
                rows,
                cols,
                x,
                n,
                y,
            });
        });
    }
}

/// Stored weights of one format.
trait Weights: Copy + Sync {
    const SIZE: usize;
    fn bytes(&self) -> &[u8];
    /// Up to 16 of them; the lanes beyond are 0.
    fn load<S: Simd>(s: S, from: &[u8]) -> S::F32;
}

#[derive(Clone, Copy)]
struct F32<'a>(&'a [u8]);
#[derive(Clone, Copy)]
struct Bf16<'a>(&'a [u8]);
#[derive(Clone, Copy)]
struct F16<'a>(&'a [u8]);

macro_rules! weights {
    ($type:ident, $size:literal, $load:ident) => {
        impl Weights for $type<'_> {
            const SIZE: usize = $size;
            #[inline(always)]
            fn bytes(&self) -> &[u8] {
                self.0
            }
            #[inline(always)]
            fn load<S: Simd>(s: S, from: &[u8]) -> S::F32 {
                if let Ok(whole) = from.try_into() {
                    return s.$load(whole);
                }
                let mut buffer = [0; $size * LANES];
                buffer[..from.len()].copy_from_slice(from);
                s.$load(&buffer)
            }
        }
    };
}
weights!(F32, 4, load_f32_bytes);
weights!(Bf16, 2, load_bf16);
weights!(F16, 2, load_f16);

/// Some rows of the weight with all tokens.
struct Strip<'a, W> {
    w: W,
    first: usize,
    end: usize,
    rows: usize,
    cols: usize,
    x: &'a [f32],
    n: usize,
    y: Disjoint<'a, f32>,
}

impl<W: Weights> Kernel for Strip<'_, W> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // 24 + 1 + 6 of 32 registers, or 6 + 1 of 8.
        if S::REGISTERS >= 32 {
            self.blocks::<S, 4, 6>(s);
        } else {
            self.blocks::<S, 2, 3>(s);
        }
    }
}

impl<W: Weights> Strip<'_, W> {
    #[inline(always)]
    fn blocks<S: Simd, const T: usize, const R: usize>(&self, s: S) {
        let bytes = self.cols * W::SIZE;
        let mut panel = Vec::new();
        let mut sums = Vec::new();
        for tokens in (0..self.n).step_by(TOKENS) {
            let tokens_end = self.n.min(tokens + TOKENS);
            for row in (self.first..self.end).step_by(R) {
                let count = R.min(self.end - row);
                let weights = &self.w.bytes()[row * bytes..][..count * bytes];
                if self.n >= WIDEN {
                    widen::<S, W, R>(s, weights, self.cols, &mut panel);
                    let tokens = tokens..tokens_end;
                    self.wide_tokens::<S, T, R>(s, &panel, row, count, tokens, &mut sums);
                } else {
                    self.tokens::<S, W, T, R>(s, weights, row, tokens, tokens_end);
                }
            }
        }
    }

    /// Up to `R` widened rows with a range of tokens.
    #[inline(always)]
    fn wide_tokens<S: Simd, const T: usize, const R: usize>(
        &self,
        s: S,
        panel: &[Aligned<R>],
        row: usize,
        count: usize,
        tokens: Range<usize>,
        sums: &mut Vec<[[S::F32; R]; T]>,
    ) {
        sums.clear();
        sums.resize(tokens.len().div_ceil(T), [[s.splat(0.0); R]; T]);
        for (i, panel) in panel.chunks(DEPTH).enumerate() {
            let first = i * DEPTH * LANES;
            let width = (panel.len() * LANES).min(self.cols - first);
            for (group, sums) in sums.iter_mut().enumerate() {
                let mut x = [&self.x[..0]; T];
                for (t, x) in x.iter_mut().enumerate() {
                    // Tokens that are absent repeat the last one and are not written.
                    let token = (tokens.start + group * T + t).min(tokens.end - 1);
                    *x = &self.x[token * self.cols + first..][..width];
                }
                add_dots(s, panel, &x, sums);
            }
        }
        for (group, sums) in sums.iter().enumerate() {
            for (t, sums) in sums.iter().enumerate() {
                let token = tokens.start + group * T + t;
                if token < tokens.end {
                    let mut dots = [0.0; R];
                    for r in 0..R {
                        dots[r] = s.sum(sums[r]);
                    }
                    self.write(token, row, count, &[dots]);
                }
            }
        }
    }

    /// Up to `R` weight rows with a range of tokens.
    #[inline(always)]
    fn tokens<S: Simd, V: Weights, const T: usize, const R: usize>(
        &self,
        s: S,
        weights: &[u8],
        row: usize,
        tokens: usize,
        tokens_end: usize,
    ) {
        let cols = self.cols;
        let count = weights.len() / (cols * V::SIZE);
        // Rows that are absent repeat the first one and are not written.
        let mut w = [&weights[..cols * V::SIZE]; R];
        for (w, row) in w.iter_mut().zip(weights.chunks_exact(cols * V::SIZE)) {
            *w = row;
        }
        let mut token = tokens;
        while token + T <= tokens_end {
            let mut x = [&self.x[..0]; T];
            for (i, x) in x.iter_mut().enumerate() {
                *x = &self.x[(token + i) * cols..][..cols];
            }
            let dots = dots::<S, V, T, R>(s, &w, &x);
            self.write(token, row, count, &dots);
            token += T;
        }
        while token < tokens_end {
            let x = [&self.x[token * cols..][..cols]];
            let dots = dots::<S, V, 1, R>(s, &w, &x);
            self.write(token, row, count, &dots);
            token += 1;
        }
    }

    #[inline(always)]
    fn write<const R: usize>(&self, token: usize, row: usize, count: usize, dots: &[[f32; R]]) {
        for (i, dots) in dots.iter().enumerate() {
            let start = (token + i) * self.rows + row;
            // SAFETY: every weight row is in one task, and so are its results.
            let y = unsafe { self.y.slice(start..start + count) };
            y.copy_from_slice(&dots[..count]);
        }
    }
}

/// Products of each of `T` vectors with each of `R` rows.
#[inline(always)]
fn dots<S: Simd, V: Weights, const T: usize, const R: usize>(
    s: S,
    w: &[&[u8]; R],
    x: &[&[f32]; T],
) -> [[f32; R]; T] {
    let cols = x[0].len();
    let (whole, step) = (cols / LANES, LANES * V::SIZE);
    let mut sums = [[s.splat(0.0); R]; T];
    // Slices of one known length, so that their bounds are checked once.
    let (mut x_whole, mut w_whole) = ([&[] as &[[f32; LANES]]; T], [&[] as &[u8]; R]);
    for t in 0..T {
        x_whole[t] = &x[t].as_chunks::<LANES>().0[..whole];
    }
    for r in 0..R {
        w_whole[r] = &w[r][..whole * step];
    }
    for i in 0..whole {
        let mut row = [s.splat(0.0); R];
        for r in 0..R {
            row[r] = V::load(s, &w_whole[r][i * step..(i + 1) * step]);
        }
        for t in 0..T {
            let x = s.load(&x_whole[t][i]);
            for r in 0..R {
                sums[t][r] = s.fma(x, row[r], sums[t][r]);
            }
        }
    }
    if whole * LANES < cols {
        for r in 0..R {
            let row = V::load(s, &w[r][whole * step..]);
            for t in 0..T {
                let x = s.load_partial(&x[t][whole * LANES..]);
                sums[t][r] = s.fma(x, row, sums[t][r]);
            }
        }
    }
    let mut dots = [[0.0; R]; T];
    for t in 0..T {
        for r in 0..R {
            dots[t][r] = s.sum(sums[t][r]);
        }
    }
    dots
}

/// One vector of each of `R` rows.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Aligned<const R: usize>([[f32; LANES]; R]);

/// Stored weights of up to `R` rows as `f32`, vector by vector, padded with zeros.
#[inline(always)]
fn widen<S: Simd, W: Weights, const R: usize>(
    s: S,
    from: &[u8],
    cols: usize,
    to: &mut Vec<Aligned<R>>,
) {
    to.resize(cols.div_ceil(LANES), Aligned([[0.0; LANES]; R]));
    for (r, row) in from.chunks_exact(cols * W::SIZE).enumerate() {
        for (from, to) in row.chunks(LANES * W::SIZE).zip(to.iter_mut()) {
            s.store(W::load(s, from), &mut to.0[r]);
        }
    }
}

/// Adds the products of each of `T` vectors with each of `R` rows, lane by lane.
#[inline(always)]
fn add_dots<S: Simd, const T: usize, const R: usize>(
    s: S,
    w: &[Aligned<R>],
    x: &[&[f32]; T],
    sums: &mut [[S::F32; R]; T],
) {
    let whole = x[0].len() / LANES;
    let mut x_whole = [&[] as &[[f32; LANES]]; T];
    for t in 0..T {
        x_whole[t] = &x[t].as_chunks::<LANES>().0[..whole];
    }
    let mut totals = *sums;
    for (i, w) in w[..whole].iter().enumerate() {
        let mut row = [s.splat(0.0); R];
        for (row, w) in row.iter_mut().zip(&w.0) {
            *row = s.load(w);
        }
        for t in 0..T {
            let x = s.load(&x_whole[t][i]);
            for (total, &row) in totals[t].iter_mut().zip(&row) {
                *total = s.fma(x, row, *total);
            }
        }
    }
    if let Some(w) = w.get(whole) {
        for t in 0..T {
            let x = s.load_partial(&x[t][whole * LANES..]);
            for (total, w) in totals[t].iter_mut().zip(&w.0) {
                *total = s.fma(x, s.load(w), *total);
            }
        }
    }
    *sums = totals;
}
