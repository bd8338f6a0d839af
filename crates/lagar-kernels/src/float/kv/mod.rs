//! The keys and values of the positions so far.

mod push;
mod stored;

use crate::Cpu;
use crate::simd::LANES;
pub use push::KvPush;
use stored::{Bytes, Halves, Nibbles, Scales, Singles};
pub(super) use stored::{Stored, bytes, groups, value_units};

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KvFormat {
    /// 4 bytes a number.
    F32,
    /// 2 bytes a number, rounded to nearest.
    F16,
    /// A byte a number, and a scale for each 128 numbers of a head, which are rotated first.
    Q8,
    /// Half a byte a number, and a scale for each 32 numbers of a head, which are rotated first.
    Q4,
}

impl KvFormat {
    /// Bytes of the key and the value of one head of `head_dim` numbers at one position, as [`KvCache`] stores
    /// them (which it does for 16 positions at a time).
    pub const fn bytes_of(self, head_dim: usize) -> usize {
        match self {
            Self::F32 => stored::bytes_of::<Singles, 1>(head_dim),
            Self::F16 => stored::bytes_of::<Halves, 1>(head_dim),
            Self::Q8 => stored::bytes_of::<Bytes, 1>(head_dim),
            Self::Q4 => stored::bytes_of::<Nibbles, 2>(head_dim),
        }
    }
}

/// The keys and values of one layer, for the positions so far; it grows by [`KvCache::push`].
///
/// For each head, keys lie in blocks of 16 positions, `head_dim` rows of 16 numbers, so that the
/// products with 16 positions need no sum over lanes; values lie position by position, padded
/// to a multiple of 16 numbers. Where two numbers share a byte they are those of two rows that follow each other,
/// and those of two vectors of 16 of a value: so that a byte belongs to one position alone.
///
/// Rounded formats store `H x` instead of `x`, where `H` is the orthonormal Hadamard transform on blocks of a head's
/// numbers ([`lagar_codec::hadamard_blocks`]): it spreads what stands out in single numbers over all (Ashkboos et
/// al. 2024, QuaRot). [`Cpu::attention`] rotates queries likewise, which leaves their products with keys as they
/// are, and rotates the sums of values back.
#[derive(Clone, Debug)]
pub struct KvCache {
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    len: usize,
    pub(super) store: Store,
}

/// The heads, in one of the formats.
#[derive(Clone, Debug)]
pub(super) enum Store {
    F32(Vec<Head<Singles>>),
    F16(Vec<Head<Halves>>),
    Q8(Vec<Head<Bytes>>),
    Q4(Vec<Head<Nibbles>>),
}

/// An expression with `$heads` in any of the formats.
macro_rules! in_format {
    ($store:expr, $heads:ident => $result:expr) => {
        match $store {
            $crate::float::kv::Store::F32($heads) => $result,
            $crate::float::kv::Store::F16($heads) => $result,
            $crate::float::kv::Store::Q8($heads) => $result,
            $crate::float::kv::Store::Q4($heads) => $result,
        }
    };
}
pub(super) use in_format;

/// The numbers of one head, `V` vectors in a unit.
#[derive(Clone, Debug, Default)]
pub(super) struct Head<U> {
    /// Blocks of 16 positions × units of a position.
    pub(super) keys: Vec<U>,
    /// Positions × units of a position.
    pub(super) values: Vec<U>,
    /// Blocks of 16 positions × groups of a head.
    pub(super) key_scales: Vec<Scales>,
    /// Blocks of 16 positions × groups of a head.
    pub(super) value_scales: Vec<Scales>,
}

impl<U> Head<U> {
    /// Bytes of all of it.
    fn bytes(&self) -> usize {
        (self.keys.len() + self.values.len()) * size_of::<U>()
            + (self.key_scales.len() + self.value_scales.len()) * size_of::<Scales>()
    }
}

impl KvCache {
    /// An empty cache for `kv_heads` heads of `head_dim` numbers.
    pub fn new(format: KvFormat, kv_heads: usize, head_dim: usize) -> Self {
        let store = match format {
            KvFormat::F32 => Store::F32(vec![Head::default(); kv_heads]),
            KvFormat::F16 => Store::F16(vec![Head::default(); kv_heads]),
            KvFormat::Q8 => Store::Q8(vec![Head::default(); kv_heads]),
            KvFormat::Q4 => Store::Q4(vec![Head::default(); kv_heads]),
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
            Store::Q8(_) => KvFormat::Q8,
            Store::Q4(_) => KvFormat::Q4,
        }
    }

    /// Bytes that keys and values take, in whole blocks of 16 positions where those are stored together. (Memory set aside for
    /// more, which is not touched yet, does not count.)
    pub fn bytes(&self) -> usize {
        in_format!(&self.store, heads => heads.iter().map(Head::bytes).sum())
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
        let push = KvPush {
            cache: self,
            keys,
            values,
            n,
        };
        cpu.push_kv(&mut [push]);
    }
}
