//! From codes to levels with AVX-512 VBMI.
//!
//! Windows come out of 8-byte lanes with `vpmultishiftqb`, eight of a lane at any bits; `vpermb` looks 64 levels up. Levels have their
//! offset unless they are asked for without.

use std::arch::x86_64::*;
use std::ops::Range;

use lagar_codec::Activations;

use super::super::lookup::{FREE_OFFSET, Form, Lookup, Place};
use super::super::stage::WindowStage;
use super::super::tasks::{Output, Task};
use super::super::tile::{Factors, Tile, UNIT};
use super::bw::decode::{Decode, Extract, Plain, Whole, four_times};
use super::bw::straight::transposed;
use super::quads::{Quads, takes};
use super::several::{Blocks, Levels, from_three, products};
use super::units::{Set, Source, Steps, Vbmi};

/// An expression with the steps, one unit at a time, that fit a table.
macro_rules! with_steps {
    ($lookup:expr, $sign:ident, |$S:ident| $call:expr) => {
        with_steps!($lookup, |$S| $call,
            Form::Split => Whole<Shifts, $sign<Halves>>,
            Form::Plain => Whole<Shifts, $sign<Plain>>,
            _ if $lookup.window <= 6 => Whole<Shifts, $sign<Small>>,
            _ if $lookup.window == 7 => Whole<Shifts, $sign<Free<1>>>,
            _ => Whole<Shifts, $sign<Free<2>>>,
        )
    };
    ($lookup:expr, |$S:ident| $call:expr, $($form:pat $(if $width:expr)? => $steps:ty,)*) => {
        match $lookup.form {
            $($form $(if $width)? => {
                type $S = $steps;
                $call
            })*
        }
    };
}

/// See [`Ops::dot`](super::Ops::dot).
///
/// # Safety
/// The processor has AVX-512 VBMI and VNNI.
pub(super) unsafe fn dot(tile: &Tile<'_>, units: Range<usize>, by: &Factors<'_>, sums: &mut [f32]) {
    tile.check_dot(&units, super::FEW, by, sums);
    let source = Source::of(tile, &units);
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe {
        match (tile.lookup.depth, tile.lookup.form) {
            (2, Form::Split) => Vbmi::products::<Lanes<Halves, 2, 4>, 4>(source, by, sums),
            (4, Form::Split) => Vbmi::products::<Lanes<Halves, 4, 2>, 2>(source, by, sums),
            (4, Form::Nibble) => Vbmi::products::<Lanes<Small, 4, 2>, 2>(source, by, sums),
            _ => with_steps!(tile.lookup, Unsigned, |S| Vbmi::products::<S, 1>(
                source, by, sums
            )),
        }
    }
}

/// See [`Several::products`](super::Several::products).
///
/// # Safety
/// The processor has AVX-512 VBMI and VNNI.
pub(super) unsafe fn several(
    stage: &WindowStage<'_>,
    x: &Activations,
    task: &Task,
    sums: &mut [f32],
    output: Output<'_>,
) {
    let lookup = stage.lookup();
    let products = match (lookup.depth, lookup.form) {
        _ if takes(lookup) => from_three::<Quads>,
        (4, Form::Split) => products::<Blocks<Lanes<Halves, 4, 2>, 2>>,
        (4, Form::Nibble) => products::<Blocks<Lanes<Small, 4, 2>, 2>>,
        _ => with_steps!(lookup, Unsigned, |S| products::<Blocks<S, 1>>),
    };
    // SAFETY: the caller promises the processor.
    unsafe { products(stage, x, task, sums, output) }
}

/// See [`Ops::decode`](super::Ops::decode); levels without their offset if `SIGNED`. (Here [`Lanes`] would not pay: rows would have to
/// be put in order in each step.)
///
/// # Safety
/// The processor has AVX-512 VBMI and VNNI.
pub(in super::super) unsafe fn decode<const SIGNED: bool>(
    tile: &Tile<'_>,
    units: Range<usize>,
    out: &mut [u8],
) {
    tile.check_decode(&units, out);
    let source = Source::of(tile, &units);
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe {
        match SIGNED {
            true => with_steps!(tile.lookup, Signed, |S| Vbmi::decode::<S, 1>(source, out)),
            false => with_steps!(tile.lookup, Unsigned, |S| Vbmi::decode::<S, 1>(source, out)),
        }
    }
}

#[repr(C, align(64))]
pub(super) struct Aligned<T>(T);

/// Where each of 64 windows is: the byte that each byte of an 8-byte lane comes from, and the bit of
/// that lane at which each window begins.
pub(super) struct Spread {
    bytes: Aligned<[u8; UNIT]>,
    shifts: Aligned<[u8; UNIT]>,
}

/// By depth and by whether `L = K`.
static SPREAD: [[Spread; 2]; 9] = {
    const fn spread(depth: usize, scalar: bool) -> Spread {
        let place = Place::of(depth, scalar);
        let (mut bytes, mut shifts) = ([0; UNIT], [0; UNIT]);
        let mut i = 0;
        while i < UNIT {
            let (lane, j) = (i / 8, i % 8);
            // Lane 7 ends with byte `7 · 7 + skip + 7 = 57` at most, window 7 before bit 64.
            let skip = place.first / 8;
            bytes[i] = (lane * depth + skip + j) as u8;
            shifts[i] = (place.bit(j) - 8 * skip) as u8;
            i += 1;
        }
        Spread {
            bytes: Aligned(bytes),
            shifts: Aligned(shifts),
        }
    }
    macro_rules! depths {
        ($($depth:literal)*) => { [$([spread($depth, false), spread($depth, true)]),*] };
    }
    depths!(0 1 2 3 4 5 6 7 8)
};

/// Up to 64 levels: the windows' low 6 bits choose.
#[derive(Clone, Copy)]
pub(super) struct Small(__m512i);

impl Decode for Small {
    const SPLIT: bool = false;

    #[inline(always)]
    unsafe fn new<F: Set>(lookup: &Lookup) -> Self {
        // SAFETY: the caller promises AVX-512; there are 256 levels.
        unsafe { Self(free_levels(lookup, 0)) }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m512i) -> __m512i {
        // SAFETY: the caller promises AVX-512 VBMI.
        unsafe { _mm512_permutexvar_epi8(windows, self.0) }
    }
}

/// 128 or 256 free levels, as two or four registers.
#[derive(Clone, Copy)]
pub(super) struct Free<const HALVES: usize>([[__m512i; 2]; HALVES]);

impl<const HALVES: usize> Decode for Free<HALVES> {
    const SPLIT: bool = false;

    #[inline(always)]
    unsafe fn new<F: Set>(lookup: &Lookup) -> Self {
        // SAFETY: the caller promises AVX-512.
        unsafe {
            let mut tables = [[_mm512_setzero_si512(); 2]; HALVES];
            for (half, tables) in tables.iter_mut().enumerate() {
                tables[0] = free_levels(lookup, 2 * half);
                tables[1] = free_levels(lookup, 2 * half + 1);
            }
            Self(tables)
        }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m512i) -> __m512i {
        // SAFETY: the caller promises AVX-512 VBMI.
        unsafe {
            let [a, b] = self.0[0];
            let low = _mm512_permutex2var_epi8(a, windows, b);
            if HALVES == 1 {
                return low;
            }
            let [a, b] = self.0[HALVES - 1];
            let high = _mm512_permutex2var_epi8(a, windows, b);
            _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(windows), high)
        }
    }
}

/// A split table: [`Lookup::halves`].
#[derive(Clone, Copy)]
struct Halves {
    /// Each four times: look-ups take 6 bits, of which these need 4.
    p: __m512i,
    q: __m512i,
}

impl Decode for Halves {
    const SPLIT: bool = true;

    #[inline(always)]
    unsafe fn new<F: Set>(lookup: &Lookup) -> Self {
        let [p, q] = lookup.halves;
        // SAFETY: the caller promises AVX-512.
        unsafe {
            Self {
                p: four_times(p),
                q: four_times(q),
            }
        }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m512i) -> __m512i {
        // SAFETY: the caller promises AVX-512 VBMI.
        unsafe {
            let p = _mm512_permutexvar_epi8(windows, self.p);
            // What comes from the neighbouring byte is ignored.
            let q = _mm512_permutexvar_epi8(_mm512_srli_epi16::<4>(windows), self.q);
            _mm512_abs_epi8(_mm512_add_epi8(p, q))
        }
    }
}

/// Levels with their offset.
type Unsigned<D> = D;

/// Levels without it.
#[derive(Clone, Copy)]
struct Signed<D> {
    table: D,
    offset: __m512i,
}

impl<D: Decode> Decode for Signed<D> {
    const SPLIT: bool = D::SPLIT;

    #[inline(always)]
    unsafe fn new<F: Set>(lookup: &Lookup) -> Self {
        // SAFETY: the caller promises AVX-512.
        unsafe {
            Self {
                table: D::new::<F>(lookup),
                offset: _mm512_set1_epi8(super::offset::<F>(lookup) as i8),
            }
        }
    }

    #[inline(always)]
    unsafe fn levels(self, windows: __m512i) -> __m512i {
        // SAFETY: the caller promises AVX-512 VBMI.
        unsafe { _mm512_sub_epi8(self.table.levels(windows), self.offset) }
    }
}

/// 64 free levels plus offset.
///
/// # Safety
/// The processor has AVX-512.
#[inline(always)]
pub(super) unsafe fn free_levels(lookup: &Lookup, quarter: usize) -> __m512i {
    let levels = &lookup.levels.as_chunks::<UNIT>().0[quarter];
    // SAFETY: the caller promises AVX-512; there are 64 levels.
    unsafe {
        let levels = _mm512_loadu_si512(levels.as_ptr().cast());
        _mm512_xor_si512(levels, _mm512_set1_epi8(FREE_OFFSET as i8))
    }
}

/// Extraction at any bit.
#[derive(Clone, Copy)]
struct Shifts {
    bytes: __m512i,
    shifts: __m512i,
}

impl Extract for Shifts {
    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        let spread = &SPREAD[lookup.depth][usize::from(lookup.scalar)];
        // SAFETY: the caller promises AVX-512; both arrays have 64 bytes.
        unsafe {
            Self {
                bytes: _mm512_loadu_si512(spread.bytes.0.as_ptr().cast()),
                shifts: _mm512_loadu_si512(spread.shifts.0.as_ptr().cast()),
            }
        }
    }

    #[inline(always)]
    unsafe fn windows(self, codes: *const u8) -> __m512i {
        // SAFETY: the caller promises AVX-512 VBMI and the bytes.
        unsafe {
            let bytes = _mm512_permutexvar_epi8(self.bytes, _mm512_loadu_si512(codes.cast()));
            _mm512_multishift_epi64_epi8(self.shifts, bytes)
        }
    }
}

/// As many units as 64 bytes hold at `K` bits a weight, 2 or 4, without bringing bytes to lanes first.
///
/// A lane of 8 bytes holds whole rows. Eight of its windows come out of it at once, and the same eight of every lane together. Windows
/// begin in the byte before the lane's own: the last eight are those that end with it, and are taken from bytes one further on.
#[derive(Clone, Copy)]
struct Lanes<D, const K: usize, const N: usize> {
    shifts: [__m512i; N],
    table: D,
}

impl<D: Decode, const K: usize, const N: usize> Lanes<D, K, N> {
    /// Set `set` of the windows in 64 bytes.
    ///
    /// # Safety
    /// The processor has AVX-512 VBMI; `Tile::unit` says that 65 bytes are in bounds.
    #[inline(always)]
    unsafe fn windows(self, codes: *const u8, set: usize) -> __m512i {
        // SAFETY: the caller promises both.
        unsafe {
            let bytes = _mm512_loadu_si512(codes.add(usize::from(set == N - 1)).cast());
            _mm512_multishift_epi64_epi8(self.shifts[set], bytes)
        }
    }
}

impl<D: Decode, const K: usize, const N: usize> Steps<N> for Lanes<D, K, N> {
    const SPLIT: bool = D::SPLIT;

    #[inline(always)]
    unsafe fn new<F: Set>(lookup: &Lookup) -> Self {
        assert!(K == lookup.depth && K * N == 8);
        let place = lookup.place();
        // SAFETY: the caller promises AVX-512.
        unsafe {
            let mut shifts = [_mm512_setzero_si512(); N];
            for (set, shifts) in shifts.iter_mut().enumerate() {
                let bit = |i| place.bit(8 * set + i) - if set == N - 1 { 8 } else { 0 };
                let bits: [u8; 8] = std::array::from_fn(|i| (bit(i) & 63) as u8);
                *shifts = _mm512_set1_epi64(i64::from_le_bytes(bits));
            }
            Self {
                shifts,
                table: D::new::<F>(lookup),
            }
        }
    }

    #[inline(always)]
    unsafe fn levels(self, codes: *const u8) -> [__m512i; N] {
        // SAFETY: the caller promises AVX-512 VBMI; `Tile::unit` says that 65 bytes are in bounds.
        unsafe {
            let mut levels = self.shifts;
            for (set, levels) in levels.iter_mut().enumerate() {
                *levels = self.table.levels(self.windows(codes, set));
            }
            levels
        }
    }

    #[inline(always)]
    unsafe fn ascending(lanes: [__m512i; N]) -> [__m512i; N] {
        // SAFETY: the caller promises AVX-512.
        unsafe {
            let mut rows = lanes;
            if N == 2 {
                let first = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
                let second = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
                rows[0] = _mm512_permutex2var_epi64(lanes[0], first, lanes[1]);
                rows[1] = _mm512_permutex2var_epi64(lanes[0], second, lanes[1]);
            } else {
                let even = |i: usize| _mm512_unpacklo_epi64(lanes[i], lanes[i + 1]);
                let odd = |i: usize| _mm512_unpackhi_epi64(lanes[i], lanes[i + 1]);
                let units = transposed([even(0), even(2), odd(0), odd(2)]);
                rows.copy_from_slice(&units);
            }
            rows
        }
    }
}

impl<D: Decode, const K: usize> Levels<2> for Lanes<D, K, 2> {
    #[inline(always)]
    unsafe fn load(self, codes: *const u8, _: usize) -> [__m512i; 2] {
        // SAFETY: the caller promises AVX-512 VBMI and what `Tile::unit` says.
        unsafe { [self.windows(codes, 0), self.windows(codes, 1)] }
    }

    #[inline(always)]
    unsafe fn level(self, windows: __m512i) -> __m512i {
        // SAFETY: the caller promises AVX-512 VBMI.
        unsafe { self.table.levels(windows) }
    }
}

impl<D: Decode> Levels<1> for Whole<Shifts, D> {
    #[inline(always)]
    unsafe fn load(self, codes: *const u8, unit_bytes: usize) -> [__m512i; 2] {
        // SAFETY: the caller promises AVX-512 VBMI and what `Tile::unit` says.
        unsafe {
            [
                self.extract.windows(codes),
                self.extract.windows(codes.add(unit_bytes)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn level(self, windows: __m512i) -> __m512i {
        // SAFETY: the caller promises AVX-512 VBMI.
        unsafe { self.table.levels(windows) }
    }
}
