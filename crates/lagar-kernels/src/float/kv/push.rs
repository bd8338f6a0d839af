//! Storing keys and values.

use half::bf16;

use super::stored::{LARGEST, groups, value_units};
use super::{Head, LANES, Scales, Stored};
use crate::Cpu;
use crate::matmul::{Hadamard, largest};
use crate::simd::{Kernel, Simd};

/// Appends the keys and values of `n` positions, n × heads × head_dim, to those of the first `len`.
pub(super) fn push<U: Stored<V>, const V: usize>(
    cpu: &Cpu,
    heads: &mut [Head<U>],
    head_dim: usize,
    len: usize,
    keys: &[f32],
    values: &[f32],
    n: usize,
) {
    let kv_heads = heads.len();
    let share = kv_heads.div_ceil(cpu.threads()).max(1);
    cpu.pool().chunks(heads, share, |task, heads| {
        for (i, head) in heads.iter_mut().enumerate() {
            cpu.isa().dispatch(Push {
                head,
                head_dim,
                len,
                keys,
                values,
                n,
                index: task * share + i,
                kv_heads,
            });
        }
    });
}

/// The same for one head.
struct Push<'a, U, const V: usize> {
    head: &'a mut Head<U>,
    head_dim: usize,
    len: usize,
    keys: &'a [f32],
    values: &'a [f32],
    n: usize,
    index: usize,
    kv_heads: usize,
}

impl<U: Stored<V>, const V: usize> Kernel for Push<'_, U, V> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (head, head_dim, len) = (self.head, self.head_dim, self.len);
        let (rows, units) = (head_dim.div_ceil(V), value_units::<V>(head_dim));
        let groups = groups::<U, V>(head_dim);
        let end = len + self.n;
        let blocks = end.div_ceil(LANES);
        head.keys.resize(blocks * rows, U::default());
        head.values.resize(end * units, U::default());
        for scales in [&mut head.key_scales, &mut head.value_scales] {
            scales.resize(blocks * groups, Scales::default());
        }
        let mut rotated = vec![0.0; head_dim];
        let mut codes = vec![U::Code::default(); units * V * LANES];
        for t in 0..self.n {
            let (block, lane) = ((len + t) / LANES, (len + t) % LANES);
            let from = (t * self.kv_heads + self.index) * head_dim;
            let scales = block * groups..(block + 1) * groups;

            rotated.copy_from_slice(&self.keys[from..][..head_dim]);
            let to = &mut head.key_scales[scales.clone()];
            encode::<S, U, V>(s, &mut rotated, &mut codes, to, lane);
            let to = &mut head.keys[block * rows..][..rows];
            for (unit, codes) in to.iter_mut().zip(codes.as_chunks::<V>().0) {
                unit.set(lane, *codes);
            }

            rotated.copy_from_slice(&self.values[from..][..head_dim]);
            let to = &mut head.value_scales[scales];
            encode::<S, U, V>(s, &mut rotated, &mut codes, to, lane);
            let to = &mut head.values[(len + t) * units..][..units];
            let vectors = codes.as_chunks::<LANES>().0;
            for (unit, vectors) in to.iter_mut().zip(vectors.as_chunks::<V>().0) {
                for lane in 0..LANES {
                    unit.set(lane, vectors.map(|vector| vector[lane]));
                }
            }
        }
    }
}

/// The codes of a head's numbers, padded to whole vectors, and their scales at one position of 16.
#[inline(always)]
fn encode<S: Simd, U: Stored<V>, const V: usize>(
    s: S,
    numbers: &mut [f32],
    codes: &mut [U::Code],
    scales: &mut [Scales],
    position: usize,
) {
    let Some(group) = U::GROUP else {
        for (x, codes) in numbers.chunks(LANES).zip(codes.as_chunks_mut().0) {
            *codes = U::encode(s, s.load_partial(x));
        }
        return;
    };
    Hadamard(numbers).run(s);
    let (least, most) = (s.splat(-LARGEST), s.splat(LARGEST));
    let groups = numbers.chunks(group).zip(codes.chunks_mut(group));
    for ((x, codes), scales) in groups.zip(scales) {
        let scale = rounded_up(largest(s, x) / LARGEST);
        scales[position] = scale.to_le_bytes();
        let scale = s.splat(scale.to_f32());
        for (x, codes) in x.chunks(LANES).zip(codes.as_chunks_mut().0) {
            let level = s.div(s.load_partial(x), scale);
            // What is not a number, as 0 / 0, becomes one; its scale is 0 or NaN.
            *codes = U::encode(s, s.max(s.min(level, most), least));
        }
    }
}

/// The least bf16 that is not below a scale, so that no number lies beyond the largest code.
fn rounded_up(scale: f32) -> bf16 {
    if scale.is_nan() {
        return bf16::NAN;
    }
    bf16::from_bits((scale.to_bits().saturating_add(0xffff) >> 16) as u16)
}
