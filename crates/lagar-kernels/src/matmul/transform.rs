//! Input transforms and the rounding of their results to bytes.

use std::ops::Range;

use lagar_codec::{Activations, BLOCK_COLS, GROUP, Transform, hadamard_blocks, hadamard_norm};

use crate::simd::{Kernel, LANES, Simd};
use crate::{Cpu, Disjoint};

/// Vectors are shared out among threads from this many values on; below, waking a thread costs more.
const PARALLEL_FROM: usize = 1 << 13;

impl Cpu {
    /// Transforms `n` vectors: `x` is `n × width`, `out` `n × padded_width`.
    /// [`Transform::apply`] defines the bits.
    ///
    /// # Panics
    ///
    /// If a length does not match.
    pub fn transform(&self, t: &Transform, x: &[f32], n: usize, out: &mut [f32]) {
        let (width, padded) = (t.width(), t.padded_width());
        assert_eq!(x.len(), n * width, "vectors × width");
        assert_eq!(out.len(), n * padded, "vectors × padded width");
        let out = Disjoint::new(out);
        self.vectors(n, padded, &|v| {
            // SAFETY: each vector is one task's.
            let out = unsafe { out.slice(v * padded..(v + 1) * padded) };
            let x = &x[v * width..(v + 1) * width];
            self.isa().dispatch(Apply { t, x, out });
        });
    }

    /// Transforms `n` vectors back: `x` is `n × padded_width`, `out` `n × width`.
    /// [`Transform::apply_transpose`] defines the bits.
    ///
    /// # Panics
    ///
    /// If a length does not match.
    pub fn transform_transpose(&self, t: &Transform, x: &[f32], n: usize, out: &mut [f32]) {
        let (width, padded) = (t.width(), t.padded_width());
        assert_eq!(x.len(), n * padded, "vectors × padded width");
        assert_eq!(out.len(), n * width, "vectors × width");
        let out = Disjoint::new(out);
        self.vectors(n, padded, &|v| {
            // SAFETY: each vector is one task's.
            let out = unsafe { out.slice(v * width..(v + 1) * width) };
            let mut values = x[v * padded..(v + 1) * padded].to_vec();
            self.isa().dispatch(Hadamard(&mut values));
            for (value, &source) in values.into_iter().zip(t.sources()) {
                out[(source & COLUMN) as usize] = signed(value, source);
            }
        });
    }

    /// Rounds `n` transformed vectors of `padded_width` values to bytes, group by group.
    /// [`lagar_codec::reference::quantize_activations`] defines the bits.
    ///
    /// # Panics
    ///
    /// If `x` does not have `n · padded_width` values or `padded_width` is not a multiple of 4.
    pub fn quantize(&self, x: &[f32], n: usize, padded_width: usize, out: &mut Activations) {
        assert_eq!(x.len(), n * padded_width, "vectors × padded width");
        self.to_bytes(None, x, n, padded_width, out);
    }

    /// Transforms `n` vectors and rounds the results to bytes: [`Cpu::transform`], then [`Cpu::quantize`], in one pass.
    ///
    /// # Panics
    ///
    /// If `x` is not `n × width`.
    pub fn transform_to_bytes(&self, t: &Transform, x: &[f32], n: usize, out: &mut Activations) {
        assert_eq!(x.len(), n * t.width(), "vectors × width");
        self.to_bytes(Some(t), x, n, t.padded_width(), out);
    }

    /// Rounds `n` vectors to bytes, transformed before or here.
    fn to_bytes(
        &self,
        t: Option<&Transform>,
        x: &[f32],
        n: usize,
        padded_width: usize,
        out: &mut Activations,
    ) {
        out.resize(n, padded_width);
        let width = t.map_or(padded_width, Transform::width);
        let q = Disjoint::new(&mut out.q);
        let (scale, sum) = (Disjoint::new(&mut out.scale), Disjoint::new(&mut out.sum));
        self.vectors(n, padded_width, &|v| {
            let x = &x[v * width..(v + 1) * width];
            // SAFETY: each vector is one task's.
            let q = unsafe { q.slice(v * padded_width..(v + 1) * padded_width) };
            let place = Place { v, n, scale, sum };
            self.isa().dispatch(ToBytes { t, x, q, place });
        });
    }

    /// Calls `function` for each of `n` vectors, on all threads if they are many values together.
    fn vectors(&self, n: usize, width: usize, function: &(dyn Fn(usize) + Sync)) {
        if n * width < PARALLEL_FROM {
            (0..n).for_each(function);
        } else {
            self.pool().run(n, function);
        }
    }
}

/// The transform of one vector.
struct Apply<'a> {
    t: &'a Transform,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (g, out) in self.out.chunks_mut(GROUP).enumerate() {
            let group = transformed(s, self.t, self.x, g);
            for (v, out) in group.into_iter().zip(out.chunks_mut(LANES)) {
                s.store_partial(v, out);
            }
        }
    }
}

/// The values of a group, zeros behind those of a last one that is narrower.
type Group<S> = [<S as Simd>::F32; GROUP / LANES];

/// Group `g` of a transformed vector.
#[inline(always)]
fn transformed<S: Simd>(s: S, t: &Transform, x: &[f32], g: usize) -> Group<S> {
    assert!(x.len() == t.width());
    let sources = &t.sources()[g * GROUP..t.width().min((g + 1) * GROUP)];
    let mut group = zeros(s);
    let (whole, rest) = sources.as_chunks();
    for (v, sources) in group.iter_mut().zip(whole) {
        *v = permuted(s, x, sources);
    }
    if whole.len() == group.len() {
        return butterflies(s, GROUP, group);
    }
    let mut values = [0.0; GROUP];
    for (v, values) in group.into_iter().zip(values.as_chunks_mut().0) {
        s.store(v, values);
    }
    for (value, &source) in values[LANES * whole.len()..].iter_mut().zip(rest) {
        *value = signed(x[(source & COLUMN) as usize], source);
    }
    let padded = sources.len().next_multiple_of(BLOCK_COLS);
    Hadamard(&mut values[..padded]).run(s);
    loaded(s, &values)
}

/// A group of zeros.
#[inline(always)]
fn zeros<S: Simd>(s: S) -> Group<S> {
    [s.splat(0.0); GROUP / LANES]
}

/// The values of a group.
#[inline(always)]
fn loaded<S: Simd>(s: S, values: &[f32]) -> Group<S> {
    let mut group = zeros(s);
    for (v, values) in group.iter_mut().zip(values.chunks(LANES)) {
        *v = s.load_partial(values);
    }
    group
}

/// Values of `x`, which is as long as the transform is wide, from these columns and with these signs.
#[inline(always)]
fn permuted<S: Simd>(s: S, x: &[f32], sources: &[u32; LANES]) -> S::F32 {
    let mut values = [0.0; LANES];
    for (value, &source) in values.iter_mut().zip(sources) {
        // SAFETY: columns are below the width, which is the length of `x`.
        *value = unsafe { *x.get_unchecked((source & COLUMN) as usize) };
    }
    let signs = s.and(s.load_u32(sources), s.splat_u32(!COLUMN));
    s.of_bits(s.xor(s.load_f32_bits(&values), signs))
}

/// A value with the sign of a source.
#[inline(always)]
pub(super) fn signed(value: f32, source: u32) -> f32 {
    f32::from_bits(value.to_bits() ^ source & !COLUMN)
}

/// The column of a source.
const COLUMN: u32 = Transform::COLUMN;

/// The Hadamard transform of a vector, block by block, in place.
pub(crate) struct Hadamard<'a>(pub(crate) &'a mut [f32]);

impl Kernel for Hadamard<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for Range { start, end } in hadamard_blocks(self.0.len()) {
            let block = &mut self.0[start..end];
            match block.len() {
                128 => hadamard::<S, 8>(s, block),
                64 => hadamard::<S, 4>(s, block),
                32 => hadamard::<S, 2>(s, block),
                _ => hadamard::<S, 1>(s, block),
            }
        }
    }
}

/// A block of up to `16 · V` values in `V` vectors.
#[inline(always)]
fn hadamard<S: Simd, const V: usize>(s: S, block: &mut [f32]) {
    let size = block.len();
    let mut v = [s.splat(0.0); V];
    for (v, block) in v.iter_mut().zip(block.chunks(LANES)) {
        *v = s.load_partial(block);
    }
    let v = butterflies(s, size, v);
    for (v, block) in v.into_iter().zip(block.chunks_mut(LANES)) {
        s.store_partial(v, block);
    }
}

/// The Hadamard transform of a block of `size` values: butterflies at distance 1, 2, 4, …, then the norm.
#[inline(always)]
fn butterflies<S: Simd, const V: usize>(s: S, size: usize, mut v: [S::F32; V]) -> [S::F32; V] {
    for v in &mut v {
        // `low + high` in the low lanes, `low − high` in the high ones: each lane adds its own value
        // or takes it from the other's. (The product with ±1 is exact.)
        if size >= 2 {
            *v = s.fma(*v, signs(s, 1), s.swap::<1>(*v));
        }
        if size >= 4 {
            *v = s.fma(*v, signs(s, 2), s.swap::<2>(*v));
        }
        if size >= 8 {
            *v = s.fma(*v, signs(s, 4), s.swap::<4>(*v));
        }
        if size >= 16 {
            *v = s.fma(*v, signs(s, 8), s.swap::<8>(*v));
        }
    }
    let mut distance = 1;
    while distance < V {
        for i in 0..V {
            if i & distance == 0 {
                let (low, high) = (v[i], v[i + distance]);
                v[i] = s.add(low, high);
                v[i + distance] = s.sub(low, high);
            }
        }
        distance *= 2;
    }
    let norm = s.splat(hadamard_norm(size));
    for v in &mut v {
        *v = s.mul(*v, norm);
    }
    v
}

/// −1 in the lanes whose number has the bit `distance`, 1 elsewhere.
#[inline(always)]
fn signs<S: Simd>(s: S, distance: usize) -> S::F32 {
    let mut signs = [1.0; LANES];
    for (i, sign) in signs.iter_mut().enumerate() {
        if i & distance != 0 {
            *sign = -1.0;
        }
    }
    s.load(&signs)
}

/// The largest absolute value; NaN where a value is not finite.
#[inline(always)]
pub(crate) fn largest<S: Simd>(s: S, x: &[f32]) -> f32 {
    let zero = s.splat(0.0);
    let (mut largest, mut finite) = (zero, zero);
    for x in x.chunks(LANES) {
        let x = s.load_partial(x);
        largest = s.max(s.abs(x), largest);
        // 0 as long as all are finite, NaN afterwards.
        finite = s.fma(x, zero, finite);
    }
    if_finite(s, largest, finite)
}

/// The largest absolute value of some vectors; NaN where a value is not finite.
#[inline(always)]
fn largest_of<S: Simd, const V: usize>(s: S, x: [S::F32; V]) -> f32 {
    let zero = s.splat(0.0);
    let (mut largest, mut finite) = (x, x);
    for (largest, finite) in largest.iter_mut().zip(&mut finite) {
        *largest = s.abs(*largest);
        // NaN for what is not finite.
        *finite = s.mul(*finite, zero);
    }
    // Halves are joined, so that no vector waits for all before it.
    let mut half = V / 2;
    while half > 0 {
        for i in 0..half {
            largest[i] = s.max(largest[i], largest[i + half]);
            finite[i] = s.add(finite[i], finite[i + half]);
        }
        half /= 2;
    }
    if_finite(s, largest[0], finite[0])
}

/// The largest lane if all lanes of `finite`, which are 0 or NaN, are 0, else NaN.
#[inline(always)]
fn if_finite<S: Simd>(s: S, largest: S::F32, finite: S::F32) -> f32 {
    if s.mask_bits(s.less(finite, s.splat(1.0))) == u16::MAX {
        s.largest(largest)
    } else {
        f32::NAN
    }
}

/// The rounding of one vector, before which it may be transformed.
struct ToBytes<'a> {
    t: Option<&'a Transform>,
    x: &'a [f32],
    q: &'a mut [i8],
    place: Place<'a>,
}

/// Where the scales and sums of vector `v` of `n` go.
struct Place<'a> {
    v: usize,
    n: usize,
    scale: Disjoint<'a, f32>,
    sum: Disjoint<'a, i32>,
}

impl Kernel for ToBytes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Place { v, n, scale, sum } = self.place;
        // A permutation comes to them in no order, and another thread may have them.
        if self.t.is_some() {
            for x in self.x.chunks(LANES) {
                s.prefetch(&x[0], 0);
            }
        }
        for (chunk, q) in self.q.chunks_mut(TOGETHER * GROUP).enumerate() {
            let first = chunk * TOGETHER;
            let (mut groups, mut most) = ([zeros(s); TOGETHER], [0.0; TOGETHER]);
            for (i, q) in q.chunks(GROUP).enumerate() {
                groups[i] = match self.t {
                    Some(t) => transformed(s, t, self.x, first + i),
                    None => loaded(s, &self.x[(first + i) * GROUP..][..q.len()]),
                };
                most[i] = largest_of(s, groups[i]);
            }
            for (i, q) in q.chunks_mut(GROUP).enumerate() {
                let (group_scale, group_sum) = round_group(s, groups[i], most[i], q);
                let own = (first + i) * n + v..(first + i) * n + v + 1;
                // SAFETY: each vector is one task's, and this is its place in the group.
                unsafe {
                    scale.slice(own.clone())[0] = group_scale;
                    sum.slice(own)[0] = group_sum;
                }
            }
        }
    }
}

/// Groups that are transformed before the first of them is rounded, so that the processor need not wait for one's largest value.
const TOGETHER: usize = 4;

/// Rounds a group with this largest value, as many values of it as `q` has; returns its scale and sum.
#[inline(always)]
fn round_group<S: Simd>(s: S, group: Group<S>, most: f32, q: &mut [i8]) -> (f32, i32) {
    let factor = 127.0 / most;
    if !factor.is_finite() {
        q.fill(0);
        return (if most.is_nan() { most } else { 0.0 }, 0);
    }
    let (factor, limit) = (s.splat(factor), s.splat(127.0));
    let least = s.splat(-127.0);
    let mut sum = s.splat(0.0);
    let mut bytes = [0; GROUP];
    let whole = q.len() == GROUP;
    let to = if whole { &mut *q } else { &mut bytes };
    for (x, to) in group.into_iter().zip(to.as_chunks_mut().0) {
        let rounded = s.round(s.mul(x, factor));
        let rounded = s.max(s.min(rounded, limit), least);
        // Integers far below 2²⁴: the sum is exact.
        sum = s.add(sum, rounded);
        s.store_i8(rounded, to);
    }
    if !whole {
        q.copy_from_slice(&bytes[..q.len()]);
    }
    (most / 127.0, s.sum(sum) as i32)
}
