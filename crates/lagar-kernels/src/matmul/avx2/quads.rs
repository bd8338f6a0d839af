//! Products with a few vectors at 2 bits a weight, four blocks of columns at a time: see [`quads`](super::super::quads).
//!
//! (Where levels are brought together instead of codes, as in [`super::pairs`], there are four times as many of them.) What a row shares
//! with the one before is shifted in from the lane before.

use std::arch::x86_64::*;
use std::ops::Range;

use lagar_codec::{BLOCK_COLS, ROW_UNIT, TILE_ROWS};

use super::super::lookup::SPLIT_OFFSET;
use super::super::quads::{BLOCKS, BY_COLUMN};
use super::super::tile::{AHEAD, Factors, Tile};
use super::decode::{Decode, Halves};
use super::{accumulate, correction};

/// The most vectors with which this is faster than decoding a tile first.
pub(super) const VECTORS: usize = 4;
/// Units that are taken together, each in one half of a register: as many bytes of codes in each block as a register has.
pub(super) const UNITS: usize = 2;
/// Registers that the codes of these blocks and units take, and the sums of their rows with one vector.
const PARTS: usize = 4;
/// The most that the magnitudes of values may add up to, so that the sum of their products with levels, within ±63, fits into 16 bits.
const MOST: i16 = i16::MAX / 63;

/// Products with four blocks' values of one vector: from their levels, 4 registers for the 4 columns of a block, to sums.
trait Add: Copy {
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn add(self, sum: __m256i, levels: [__m256i; BLOCK_COLS]) -> __m256i;
}

/// With VNNI; levels keep their offset.
#[derive(Clone, Copy)]
struct Vnni(Values);

impl Add for Vnni {
    #[inline(always)]
    unsafe fn add(self, mut sum: __m256i, levels: [__m256i; BLOCK_COLS]) -> __m256i {
        for (levels, x) in levels.into_iter().zip(self.0) {
            // SAFETY: the caller promises AVX-VNNI.
            sum = unsafe { _mm256_dpbusd_avx_epi32(sum, levels, x) };
        }
        sum
    }
}

/// Without VNNI: sums of 4 products of levels fit into 16 bits without their offset, which is taken off modulo 2¹⁶.
#[derive(Clone, Copy)]
struct Fours(Values, [__m256i; 2]);

impl Add for Fours {
    #[inline(always)]
    unsafe fn add(self, mut sum: __m256i, levels: [__m256i; BLOCK_COLS]) -> __m256i {
        let Self(x, offsets) = self;
        for (i, offset) in offsets.into_iter().enumerate() {
            // SAFETY: the caller promises AVX2.
            unsafe {
                let even = _mm256_maddubs_epi16(levels[2 * i], x[2 * i]);
                let odd = _mm256_maddubs_epi16(levels[2 * i + 1], x[2 * i + 1]);
                let four = _mm256_sub_epi16(_mm256_add_epi16(even, odd), offset);
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(four, _mm256_set1_epi16(1)));
            }
        }
        sum
    }
}

/// The same where sums of all 8 products fit into 16 bits.
#[derive(Clone, Copy)]
struct Eights(Values, __m256i);

impl Add for Eights {
    #[inline(always)]
    unsafe fn add(self, sum: __m256i, levels: [__m256i; BLOCK_COLS]) -> __m256i {
        let Self(x, offset) = self;
        // SAFETY: the caller promises AVX2.
        unsafe {
            let four = _mm256_add_epi16(
                _mm256_maddubs_epi16(levels[0], x[0]),
                _mm256_maddubs_epi16(levels[1], x[1]),
            );
            let eight = _mm256_add_epi16(
                _mm256_sub_epi16(four, offset),
                _mm256_add_epi16(
                    _mm256_maddubs_epi16(levels[2], x[2]),
                    _mm256_maddubs_epi16(levels[3], x[3]),
                ),
            );
            _mm256_add_epi32(sum, _mm256_madd_epi16(eight, _mm256_set1_epi16(1)))
        }
    }
}

/// Values of one vector, for each of the columns of a block those of four blocks, in every lane; columns as [`Quads::levels`] has them.
type Values = [__m256i; BLOCK_COLS];

/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn values(x: &[i8; BLOCKS * BLOCK_COLS]) -> Values {
    // SAFETY: the caller promises AVX2; there are 16 values.
    unsafe {
        let by_column = _mm_loadu_si128(BY_COLUMN.as_ptr().cast());
        let x = _mm_shuffle_epi8(_mm_loadu_si128(x.as_ptr().cast()), by_column);
        [
            _mm256_broadcastd_epi32(_mm_shuffle_epi32::<3>(x)),
            _mm256_broadcastd_epi32(_mm_shuffle_epi32::<1>(x)),
            _mm256_broadcastd_epi32(_mm_shuffle_epi32::<2>(x)),
            _mm256_broadcastd_epi32(x),
        ]
    }
}

/// The sums of values in each lane of 16 bits, times the offset of levels, of the first two columns and of the others.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn offsets(x: &Values) -> [__m256i; 2] {
    // SAFETY: the caller promises AVX2.
    unsafe {
        let offset = _mm256_set1_epi8(SPLIT_OFFSET as i8);
        let mut sums = [_mm256_setzero_si256(); 2];
        for (i, &x) in x.iter().enumerate() {
            sums[i / 2] = _mm256_add_epi16(sums[i / 2], _mm256_maddubs_epi16(offset, x));
        }
        sums
    }
}

/// Whether the sums of 8 products with these values fit into 16 bits.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn is_small(x: &Values) -> bool {
    // SAFETY: the caller promises AVX2.
    unsafe {
        let mut sums = _mm256_setzero_si256();
        for &x in x {
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_set1_epi8(1));
            sums = _mm256_add_epi16(sums, pairs);
        }
        let more = _mm256_cmpgt_epi16(sums, _mm256_set1_epi16(MOST));
        _mm256_testz_si256(more, more) == 1
    }
}

/// Bits of codes, 4 in each byte, that other rows' windows have too.
#[derive(Clone, Copy)]
struct Shared {
    /// Bits 2 to 5.
    middle: __m256i,
    /// Bits 4 to 7.
    high: __m256i,
}

/// Look-up of the codes of 8 rows in four blocks.
#[derive(Clone, Copy)]
struct Quads(Halves);

impl Quads {
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn shared(self, codes: __m256i) -> Shared {
        // SAFETY: the caller promises AVX2.
        unsafe {
            Shared {
                middle: _mm256_and_si256(_mm256_srli_epi16::<2>(codes), self.0.low),
                high: _mm256_and_si256(_mm256_srli_epi16::<4>(codes), self.0.low),
            }
        }
    }

    /// Levels of the last, second, third and first column of each block: those that are known sooner come first. The last lane
    /// of each half of `before` is that of the row before.
    ///
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn levels(self, codes: __m256i, own: Shared, before: Shared) -> [__m256i; BLOCK_COLS] {
        // SAFETY: the caller promises AVX2.
        unsafe {
            let low = _mm256_and_si256(codes, self.0.low);
            let middle = _mm256_alignr_epi8::<12>(own.middle, before.middle);
            let high = _mm256_alignr_epi8::<12>(own.high, before.high);
            // Of the 8 bits that begin 4 before the byte, those in the middle.
            let edge = _mm256_or_si256(_mm256_slli_epi16::<4>(low), high);
            let edge = _mm256_and_si256(_mm256_srli_epi16::<2>(edge), self.0.low);
            [
                self.0.of(low, own.high),
                self.0.of(high, low),
                self.0.of(edge, own.middle),
                self.0.of(middle, edge),
            ]
        }
    }
}

/// The codes of two units in four blocks, each lane those of a row: part `p` has rows `4 · p` to `4 · p + 3` of each unit.
///
/// # Safety
/// The processor has AVX2; 32 bytes are readable in each block, the next of which is `block_bytes` on.
#[inline(always)]
unsafe fn transposed(from: *const u8, block_bytes: usize) -> [__m256i; PARTS] {
    // SAFETY: the caller promises both.
    unsafe {
        let first = _mm256_loadu_si256(from.cast());
        let second = _mm256_loadu_si256(from.add(block_bytes).cast());
        let third = _mm256_loadu_si256(from.add(2 * block_bytes).cast());
        let fourth = _mm256_loadu_si256(from.add(3 * block_bytes).cast());
        let a = _mm256_unpacklo_epi8(first, second);
        let b = _mm256_unpackhi_epi8(first, second);
        let c = _mm256_unpacklo_epi8(third, fourth);
        let d = _mm256_unpackhi_epi8(third, fourth);
        [
            _mm256_unpacklo_epi16(a, c),
            _mm256_unpackhi_epi16(a, c),
            _mm256_unpacklo_epi16(b, d),
            _mm256_unpackhi_epi16(b, d),
        ]
    }
}

/// The sums of one vector.
type Sums = [[__m256i; PARTS]; TILE_ROWS / (UNITS * ROW_UNIT)];

/// Adds the products of four blocks with each vector; `from` is the byte before their first. Sums are as [`transposed`] has rows.
///
/// # Safety
/// The processor has AVX2; in each block, the next of which is `block_bytes` on, there are the codes of so many pairs of units.
#[inline(always)]
unsafe fn blocks<A: Add, const T: usize>(
    quads: Quads,
    from: *const u8,
    block_bytes: usize,
    pairs: usize,
    add: [A; T],
    sums: &mut [Sums; T],
) {
    // SAFETY: the caller promises both.
    unsafe {
        let first = std::array::from_fn(|i| from.add(i * block_bytes).read());
        let mut before = quads.shared(_mm256_set1_epi32(i32::from_le_bytes(first)));
        for pair in 0..pairs {
            let from = from.add(1 + pair * UNITS * ROW_UNIT);
            for i in 0..BLOCKS {
                let ahead = from.wrapping_add(AHEAD + i * block_bytes);
                _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
            }
            let codes = transposed(from, block_bytes);
            let last = quads.shared(codes[PARTS - 1]);
            // The row before the second unit is the first one's last.
            before = Shared {
                middle: _mm256_permute2x128_si256::<0x21>(before.middle, last.middle),
                high: _mm256_permute2x128_si256::<0x21>(before.high, last.high),
            };
            for (part, &codes) in codes.iter().enumerate() {
                let own = match part + 1 {
                    PARTS => last,
                    _ => quads.shared(codes),
                };
                let levels = quads.levels(codes, own, before);
                for (add, sums) in add.iter().zip(&mut *sums) {
                    let sum = &mut sums.get_unchecked_mut(pair)[part];
                    *sum = add.add(*sum, levels);
                }
                before = own;
            }
        }
    }
}

/// Dot products of a range of units with `T` vectors.
///
/// # Safety
/// As [`super::dot`], whose arguments are checked, with a table for [`quads`](super::super::quads); there are multiples of [`UNITS`] and of [`BLOCKS`]. Scales and
/// sums begin with the first of the units and may be of more.
#[inline(always)]
pub(super) unsafe fn dot<const T: usize, const VNNI: bool>(
    tile: &Tile<'_>,
    units: Range<usize>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    let (pairs, rows, bytes) = (units.len() / UNITS, by.scales.len(), tile.block_bytes());
    // SAFETY: the caller promises the processor and a tile of such units and blocks, and a scale and a sum for each row.
    unsafe {
        let quads = Quads(Halves::new(tile.lookup));
        let zero = [[_mm256_setzero_si256(); PARTS]; TILE_ROWS / (UNITS * ROW_UNIT)];
        let mut dots: [Sums; T] = [zero; T];
        if VNNI {
            for (dots, &sum) in dots.iter_mut().zip(by.x_sums) {
                let start = _mm256_set1_epi32(correction::<VNNI>(tile.lookup, sum));
                dots[..pairs].fill([start; PARTS]);
            }
        }
        for quad in 0..tile.blocks() / BLOCKS {
            let from = tile.unit(units.start).add(quad * BLOCKS * bytes);
            let mut x = [[_mm256_setzero_si256(); BLOCK_COLS]; T];
            for (t, x) in x.iter_mut().enumerate() {
                let first = t * by.stride + quad * BLOCKS * BLOCK_COLS;
                *x = values(
                    by.x[first..]
                        .first_chunk()
                        .expect("a value for each column"),
                );
            }
            if VNNI {
                blocks(quads, from, bytes, pairs, x.map(Vnni), &mut dots);
                continue;
            }
            let mut small = true;
            let mut fours = [Fours(x[0], [x[0][0]; 2]); T];
            for (x, fours) in x.iter().zip(&mut fours) {
                small &= is_small(x);
                *fours = Fours(*x, offsets(x));
            }
            if small {
                let mut eights = [Eights(x[0], x[0][0]); T];
                for (Fours(x, [a, b]), eights) in fours.iter().zip(&mut eights) {
                    *eights = Eights(*x, _mm256_add_epi16(*a, *b));
                }
                blocks(quads, from, bytes, pairs, eights, &mut dots);
            } else {
                blocks(quads, from, bytes, pairs, fours, &mut dots);
            }
        }
        for (t, dots) in dots.iter().enumerate() {
            let sums = sums[t * rows..].as_chunks_mut::<{ UNITS * ROW_UNIT }>().0;
            let scales = by.scales.as_chunks::<{ UNITS * ROW_UNIT }>().0;
            for ((dots, scales), sums) in dots[..pairs].iter().zip(scales).zip(sums) {
                for (i, &[a, b]) in dots.as_chunks::<2>().0.iter().enumerate() {
                    let units = [
                        _mm256_permute2x128_si256::<0x20>(a, b),
                        _mm256_permute2x128_si256::<0x31>(a, b),
                    ];
                    for (unit, dots) in units.into_iter().enumerate() {
                        let row = unit * ROW_UNIT + 8 * i;
                        let scales = scales[row..].as_ptr();
                        accumulate(dots, scales, by.x_scales[t], sums[row..].as_mut_ptr());
                    }
                }
            }
        }
    }
}
