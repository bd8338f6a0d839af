//! Storing keys and values.

use half::bf16;

use super::stored::{Bytes, Halves, LARGEST, Nibbles, Singles, groups, value_units};
use super::{Head, KvCache, LANES, Scales, Store, Stored};
use crate::matmul::{Hadamard, largest};
use crate::simd::{Kernel, Simd};
use crate::{Cpu, Isa};

/// Numbers that are worth a task of their own: below, waking a thread costs more.
const TASK: usize = 1 << 10;

/// The keys and values of positions that follow those in a cache.
#[derive(Debug)]
pub struct KvPush<'a> {
    /// Where they are stored.
    pub cache: &'a mut KvCache,
    /// n × kv_heads × head_dim.
    pub keys: &'a [f32],
    /// n × kv_heads × head_dim.
    pub values: &'a [f32],
    /// The number of positions.
    pub n: usize,
}

impl<'a> KvPush<'a> {
    /// # Panics
    /// If a length is wrong.
    fn rows(&self) -> Rows<'a> {
        let (cache, n) = (&*self.cache, self.n);
        let numbers = n * cache.kv_heads * cache.head_dim;
        assert_eq!(self.keys.len(), numbers, "keys are n x kv_heads x head_dim");
        let found = self.values.len();
        assert_eq!(found, numbers, "values are n x kv_heads x head_dim");
        Rows {
            keys: self.keys,
            values: self.values,
            n,
            kv_heads: cache.kv_heads,
            head_dim: cache.head_dim,
            len: cache.len,
        }
    }
}

impl Cpu {
    /// Appends to several caches, as one piece of work: threads wait for each other once.
    ///
    /// # Panics
    /// If a length is wrong.
    pub fn push_kv(&self, of: &mut [KvPush<'_>]) {
        let (mut heads, mut numbers) = (Vec::new(), 0);
        for push in &mut *of {
            let rows = push.rows();
            numbers += 2 * rows.keys.len();
            let own = any_heads(&mut push.cache.store).into_iter().enumerate();
            heads.extend(own.map(|(index, head)| (index, head, rows)));
        }
        let tasks = numbers.div_ceil(TASK).clamp(1, self.threads());
        let share = heads.len().div_ceil(tasks).max(1);
        self.pool().chunks(&mut heads, share, |_, heads| {
            let mut rotated = Vec::new();
            for (index, head, rows) in heads {
                head.push(self.isa(), *index, *rows, &mut rotated);
            }
        });
        for push in of {
            push.cache.len += push.n;
        }
    }
}

/// The rows of a [`KvPush`], of all heads.
#[derive(Clone, Copy)]
struct Rows<'a> {
    keys: &'a [f32],
    values: &'a [f32],
    n: usize,
    kv_heads: usize,
    head_dim: usize,
    /// Positions before them.
    len: usize,
}

/// A head in one of the formats.
enum AnyHead<'a> {
    F32(&'a mut Head<Singles>),
    F16(&'a mut Head<Halves>),
    Q8(&'a mut Head<Bytes>),
    Q4(&'a mut Head<Nibbles>),
}

/// The heads of a cache.
fn any_heads(store: &mut Store) -> Vec<AnyHead<'_>> {
    match store {
        Store::F32(heads) => heads.iter_mut().map(AnyHead::F32).collect(),
        Store::F16(heads) => heads.iter_mut().map(AnyHead::F16).collect(),
        Store::Q8(heads) => heads.iter_mut().map(AnyHead::Q8).collect(),
        Store::Q4(heads) => heads.iter_mut().map(AnyHead::Q4).collect(),
    }
}

impl AnyHead<'_> {
    /// Appends its rows, as head `index`.
    fn push(&mut self, isa: Isa, index: usize, rows: Rows<'_>, rotated: &mut Vec<f32>) {
        macro_rules! push {
            ($head:expr) => {
                isa.dispatch(Push {
                    head: $head,
                    index,
                    rows,
                    rotated,
                })
            };
        }
        match self {
            Self::F32(head) => push!(head),
            Self::F16(head) => push!(head),
            Self::Q8(head) => push!(head),
            Self::Q4(head) => push!(head),
        }
    }
}

/// The same for one head.
struct Push<'a, U, const V: usize> {
    head: &'a mut Head<U>,
    index: usize,
    rows: Rows<'a>,
    /// Room for numbers of the head.
    rotated: &'a mut Vec<f32>,
}

impl<U: Stored<V>, const V: usize> Kernel for Push<'_, U, V> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Rows { head_dim, len, .. } = self.rows;
        let head = self.head;
        let (rows, units) = (head_dim.div_ceil(V), value_units::<V>(head_dim));
        let groups = groups::<U, V>(head_dim);
        let end = len + self.rows.n;
        let blocks = end.div_ceil(LANES);
        head.keys.resize(blocks * rows, U::default());
        head.values.resize(end * units, U::default());
        for scales in [&mut head.key_scales, &mut head.value_scales] {
            scales.resize(blocks * groups, Scales::default());
        }
        for t in 0..self.rows.n {
            let (block, lane) = ((len + t) / LANES, (len + t) % LANES);
            let from = (t * self.rows.kv_heads + self.index) * head_dim;
            let scales = block * groups..(block + 1) * groups;

            let x = &self.rows.keys[from..][..head_dim];
            let x = rotated::<S, U, V>(s, x, self.rotated);
            let own = &mut head.key_scales[scales.clone()];
            let to = &mut head.keys[block * rows..][..rows];
            for (piece, to) in to.chunks_mut(PIECE / V).enumerate() {
                let codes = encode::<S, U, V>(s, x, piece, own, lane);
                for (unit, codes) in to.iter_mut().zip(codes.as_chunks::<V>().0) {
                    unit.set(lane, *codes);
                }
            }

            let x = &self.rows.values[from..][..head_dim];
            let x = rotated::<S, U, V>(s, x, self.rotated);
            let own = &mut head.value_scales[scales];
            let to = &mut head.values[(len + t) * units..][..units];
            for (piece, to) in to.chunks_mut(PIECE / (V * LANES)).enumerate() {
                let codes = encode::<S, U, V>(s, x, piece, own, lane);
                let vectors = codes.as_chunks::<LANES>().0;
                for (unit, vectors) in to.iter_mut().zip(vectors.as_chunks::<V>().0) {
                    for lane in 0..LANES {
                        unit.set(lane, vectors.map(|vector| vector[lane]));
                    }
                }
            }
        }
    }
}

/// The numbers of a head as they are encoded: rotated if they are to have scales.
#[inline(always)]
fn rotated<'a, S: Simd, U: Stored<V>, const V: usize>(
    s: S,
    x: &'a [f32],
    room: &'a mut Vec<f32>,
) -> &'a [f32] {
    if U::GROUP.is_none() {
        return x;
    }
    room.clear();
    room.extend_from_slice(x);
    Hadamard(room).run(s);
    room
}

/// Numbers of a head that are encoded at a time: whole groups and units of every format.
const PIECE: usize = 128;

/// The codes of a piece of a head's numbers, padded; writes their scales at one position of 16, among those of the head.
#[inline(always)]
fn encode<S: Simd, U: Stored<V>, const V: usize>(
    s: S,
    x: &[f32],
    piece: usize,
    scales: &mut [Scales],
    position: usize,
) -> [U::Code; PIECE] {
    let x = &x[piece * PIECE..x.len().min((piece + 1) * PIECE)];
    let mut codes = [U::Code::default(); PIECE];
    let Some(group) = U::GROUP else {
        for (x, codes) in x.chunks(LANES).zip(codes.as_chunks_mut().0) {
            *codes = U::encode(s, s.load_partial(x));
        }
        return codes;
    };
    let (least, most) = (s.splat(-LARGEST), s.splat(LARGEST));
    let groups = x.chunks(group).zip(codes.chunks_mut(group));
    for ((x, codes), scales) in groups.zip(&mut scales[piece * PIECE / group..]) {
        let scale = rounded_up(largest(s, x) / LARGEST);
        scales[position] = scale.to_le_bytes();
        let scale = s.splat(scale.to_f32());
        for (x, codes) in x.chunks(LANES).zip(codes.as_chunks_mut().0) {
            let level = s.div(s.load_partial(x), scale);
            // What is not a number, as 0 / 0, becomes one; its scale is 0 or NaN.
            *codes = U::encode(s, s.max(s.min(level, most), least));
        }
    }
    codes
}

/// The least bf16 that is not below a scale, so that no number lies beyond the largest code.
fn rounded_up(scale: f32) -> bf16 {
    if scale.is_nan() {
        return bf16::NAN;
    }
    bf16::from_bits((scale.to_bits().saturating_add(0xffff) >> 16) as u16)
}
