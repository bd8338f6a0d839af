//! The keys and values of the positions so far.

use crate::Cpu;
use crate::simd::{Kernel, LANES, Simd};

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KvFormat {
    /// 4 bytes a number.
    F32,
    /// 2 bytes a number, rounded to nearest.
    F16,
}

impl KvFormat {
    /// Bytes of a number.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

/// The keys and values of one layer, for the positions so far; it grows by [`KvCache::push`].
///
/// For each head, keys lie in blocks of 16 positions, `head_dim` rows of 16 numbers, so that the
/// products with 16 positions need no sum over lanes; values lie position by position, padded
/// to a multiple of 16 numbers.
#[derive(Clone, Debug)]
pub struct KvCache {
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    len: usize,
    pub(super) store: Store,
}

/// One `Heads` for each format.
#[derive(Clone, Debug)]
pub(super) enum Store {
    F32(Vec<Head<[u8; 4]>>),
    F16(Vec<Head<[u8; 2]>>),
}

/// The numbers of one head, as little-endian bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Head<T> {
    pub(super) keys: Vec<T>,
    pub(super) values: Vec<T>,
}

/// A stored number.
pub(super) trait Number: Copy + Default + Send + Sync {
    /// 16 of them.
    fn load<S: Simd>(s: S, from: &[Self; LANES]) -> S::F32;
    /// 16 of them.
    fn store<S: Simd>(s: S, v: S::F32, to: &mut [Self; LANES]);
}

impl Number for [u8; 4] {
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[Self; LANES]) -> S::F32 {
        s.load_f32_bytes(bytes(from.as_flattened()))
    }
    #[inline(always)]
    fn store<S: Simd>(s: S, v: S::F32, to: &mut [Self; LANES]) {
        let mut lanes = [0.0f32; LANES];
        s.store(v, &mut lanes);
        *to = lanes.map(f32::to_le_bytes);
    }
}

impl Number for [u8; 2] {
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[Self; LANES]) -> S::F32 {
        s.load_f16(bytes(from.as_flattened()))
    }
    #[inline(always)]
    fn store<S: Simd>(s: S, v: S::F32, to: &mut [Self; LANES]) {
        let to: &mut [u8; 32] = to.as_flattened_mut().try_into().expect("16 numbers");
        s.store_f16(v, to);
    }
}

#[inline(always)]
fn bytes<const N: usize>(from: &[u8]) -> &[u8; N] {
    from.try_into().expect("16 numbers")
}

impl KvCache {
    /// An empty cache for `kv_heads` heads of `head_dim` numbers.
    pub fn new(format: KvFormat, kv_heads: usize, head_dim: usize) -> Self {
        let store = match format {
            KvFormat::F32 => Store::F32(vec![Head::default(); kv_heads]),
            KvFormat::F16 => Store::F16(vec![Head::default(); kv_heads]),
        };
        Self {
            kv_heads,
            head_dim,
            len: 0,
            store,
        }
    }

    /// Positions stored.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How numbers are stored.
    pub fn format(&self) -> KvFormat {
        match self.store {
            Store::F32(_) => KvFormat::F32,
            Store::F16(_) => KvFormat::F16,
        }
    }

    /// Memory in use, in bytes.
    pub fn bytes(&self) -> usize {
        fn sum<T>(heads: &[Head<T>]) -> usize {
            let numbers = heads
                .iter()
                .map(|h| h.keys.capacity() + h.values.capacity());
            numbers.sum::<usize>() * size_of::<T>()
        }
        match &self.store {
            Store::F32(heads) => sum(heads),
            Store::F16(heads) => sum(heads),
        }
    }

    /// Forgets all positions from `len` on; does nothing if there are not so many.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Appends the keys and values of `n` positions, both n × kv_heads × head_dim.
    ///
    /// # Panics
    /// If a length is wrong.
    pub fn push(&mut self, cpu: &Cpu, keys: &[f32], values: &[f32], n: usize) {
        let numbers = n * self.kv_heads * self.head_dim;
        assert_eq!(keys.len(), numbers, "keys are n x kv_heads x head_dim");
        assert_eq!(values.len(), numbers, "values are n x kv_heads x head_dim");
        match &mut self.store {
            Store::F32(heads) => push(cpu, heads, self.head_dim, self.len, keys, values, n),
            Store::F16(heads) => push(cpu, heads, self.head_dim, self.len, keys, values, n),
        }
        self.len += n;
    }
}

fn push<T: Number>(
    cpu: &Cpu,
    heads: &mut [Head<T>],
    head_dim: usize,
    len: usize,
    keys: &[f32],
    values: &[f32],
    n: usize,
) {
    let kv_heads = heads.len();
    cpu.pool().chunks(
        heads,
        kv_heads.div_ceil(cpu.threads()).max(1),
        |task, heads| {
            let first = task * kv_heads.div_ceil(cpu.threads());
            for (i, head) in heads.iter_mut().enumerate() {
                cpu.isa().dispatch(Push {
                    head,
                    head_dim,
                    len,
                    keys,
                    values,
                    n,
                    index: first + i,
                    kv_heads,
                });
            }
        },
    );
}

struct Push<'a, T> {
    head: &'a mut Head<T>,
    head_dim: usize,
    len: usize,
    keys: &'a [f32],
    values: &'a [f32],
    n: usize,
    index: usize,
    kv_heads: usize,
}

impl<T: Number> Kernel for Push<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (head_dim, len) = (self.head_dim, self.len);
        let stride = head_dim.next_multiple_of(LANES);
        let end = len + self.n;
        self.head
            .keys
            .resize(end.next_multiple_of(LANES) * head_dim, T::default());
        self.head.values.resize(end * stride, T::default());
        for t in 0..self.n {
            let position = len + t;
            let from = (t * self.kv_heads + self.index) * head_dim;
            let block = &mut self.head.keys[position / LANES * LANES * head_dim..];
            for (i, key) in self.keys[from..][..head_dim].chunks(LANES).enumerate() {
                let mut stored = [T::default(); LANES];
                T::store(s, s.load_partial(key), &mut stored);
                for (j, &number) in stored[..key.len()].iter().enumerate() {
                    block[(i * LANES + j) * LANES + position % LANES] = number;
                }
            }
            let to = self.head.values[position * stride..][..stride]
                .as_chunks_mut::<LANES>()
                .0;
            for (value, to) in self.values[from..][..head_dim].chunks(LANES).zip(to) {
                T::store(s, s.load_partial(value), to);
            }
        }
    }
}
