//! Numbers as a cache stores them.

use super::LANES;
use crate::simd::Simd;

/// Scales of 16 positions, as bf16: they keep the range of f32, and take 2 bytes.
pub(in crate::float) type Scales = [[u8; 2]; LANES];

/// What the largest number of a group is divided by to give the scale: codes stand for −127 to 127.
pub(super) const LARGEST: f32 = 127.0;

/// A unit of stored numbers: `V` vectors of 16.
pub(in crate::float) trait Stored<const V: usize>:
    Copy + Default + Send + Sync
{
    /// What one number becomes.
    type Code: Copy + Default;
    /// How many numbers of a head share a scale, a power of two and a multiple of 16 · `V`. Without scales numbers are stored
    /// as they are, else rotated.
    const GROUP: Option<usize>;

    /// 16 numbers, divided by their scale if they have one; with a scale they are at most [`LARGEST`] in size.
    fn encode<S: Simd>(s: S, v: S::F32) -> [Self::Code; LANES];
    /// Writes one lane of each vector.
    fn set(&mut self, lane: usize, codes: [Self::Code; V]);
    /// All vectors, to be multiplied by their scale if they have one.
    fn load<S: Simd>(s: S, from: &Self) -> [S::F32; V];
}

/// Units of a position's values, of `V` vectors.
pub(in crate::float) const fn value_units<const V: usize>(head_dim: usize) -> usize {
    head_dim.div_ceil(LANES * V)
}

/// Groups of a head that have a scale each.
pub(in crate::float) const fn groups<U: Stored<V>, const V: usize>(head_dim: usize) -> usize {
    match U::GROUP {
        Some(group) => head_dim.div_ceil(group),
        None => 0,
    }
}

/// Bytes of a key and a value of a head, with their scales.
pub(super) const fn bytes_of<U: Stored<V>, const V: usize>(head_dim: usize) -> usize {
    let keys = head_dim.div_ceil(V) * size_of::<U>() / LANES;
    let scales = groups::<U, V>(head_dim) * size_of::<Scales>() / LANES;
    keys + value_units::<V>(head_dim) * size_of::<U>() + 2 * scales
}

/// f32. (Aligned, so that no vector lies on two cache lines.)
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub(in crate::float) struct Singles([f32; LANES]);

impl Stored<1> for Singles {
    type Code = f32;
    const GROUP: Option<usize> = None;

    #[inline(always)]
    fn encode<S: Simd>(s: S, v: S::F32) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        s.store(v, &mut lanes);
        lanes
    }
    #[inline(always)]
    fn set(&mut self, lane: usize, [code]: [f32; 1]) {
        self.0[lane] = code;
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &Self) -> [S::F32; 1] {
        [s.load(&from.0)]
    }
}

/// IEEE half floats, little-endian.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(32))]
pub(in crate::float) struct Halves([[u8; 2]; LANES]);

impl Stored<1> for Halves {
    type Code = [u8; 2];
    const GROUP: Option<usize> = None;

    #[inline(always)]
    fn encode<S: Simd>(s: S, v: S::F32) -> [[u8; 2]; LANES] {
        let mut bytes = [0; 2 * LANES];
        s.store_f16(v, &mut bytes);
        let mut codes = [[0; 2]; LANES];
        codes.as_flattened_mut().copy_from_slice(&bytes);
        codes
    }
    #[inline(always)]
    fn set(&mut self, lane: usize, [code]: [[u8; 2]; 1]) {
        self.0[lane] = code;
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &Self) -> [S::F32; 1] {
        [s.load_f16(bytes(&from.0))]
    }
}

/// The bytes of 16 numbers of 2 bytes.
#[inline(always)]
pub(in crate::float) fn bytes(pairs: &[[u8; 2]; LANES]) -> &[u8; 2 * LANES] {
    pairs.as_flattened().try_into().expect("16 pairs")
}

/// Signed bytes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(16))]
pub(in crate::float) struct Bytes([i8; LANES]);

impl Stored<1> for Bytes {
    type Code = i8;
    const GROUP: Option<usize> = Some(128);

    #[inline(always)]
    fn encode<S: Simd>(s: S, v: S::F32) -> [i8; LANES] {
        let mut codes = [0; LANES];
        s.store_i8(s.round(v), &mut codes);
        codes
    }
    #[inline(always)]
    fn set(&mut self, lane: usize, [code]: [i8; 1]) {
        self.0[lane] = code;
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &Self) -> [S::F32; 1] {
        [s.load_i8(&from.0)]
    }
}

/// What the codes of [`Nibbles`] stand for: the levels of least squared error for 32 normally distributed numbers
/// divided by their largest (Lloyd's algorithm, Lloyd 1982), times 127. Rotated numbers are nearly normal.
const LEVELS: [i8; 16] = [
    -124, -99, -79, -62, -47, -33, -20, -7, 7, 20, 33, 47, 62, 79, 99, 124,
];

/// Half bytes; those of the first vector are the lower halves.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(16))]
pub(in crate::float) struct Nibbles([u8; LANES]);

impl Stored<2> for Nibbles {
    type Code = u8;
    const GROUP: Option<usize> = Some(32);

    #[inline(always)]
    fn encode<S: Simd>(s: S, v: S::F32) -> [u8; LANES] {
        // The number of the nearest level is how many borders between two levels lie below.
        let (one, mut above) = (s.splat(1.0), s.splat(0.0));
        for pair in LEVELS.windows(2) {
            let border = s.splat((f32::from(pair[0]) + f32::from(pair[1])) / 2.0);
            above = s.select(s.less(border, v), s.add(above, one), above);
        }
        let mut codes = [0; LANES];
        s.store_u8(above, &mut codes);
        codes
    }
    #[inline(always)]
    fn set(&mut self, lane: usize, [low, high]: [u8; 2]) {
        self.0[lane] = low | high << 4;
    }
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &Self) -> [S::F32; 2] {
        s.load_levels(&from.0, &LEVELS)
    }
}
