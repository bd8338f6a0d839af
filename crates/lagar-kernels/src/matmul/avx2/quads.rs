//! Products with a few vectors at 1 to 3, 5 and 6 bits a weight, four blocks of columns at a time: see [`quads`](super::super::quads).
//!
//! (Where levels are brought together instead of codes, as in [`super::pairs`], there are four times as many of them.)

mod five;
mod one;
mod six;
mod three;
mod two;

use std::arch::x86_64::*;
use std::ops::Range;

use lagar_codec::{BLOCK_COLS, ROW_UNIT, TILE_ROWS};

use super::super::lookup::{Form, Lookup, SPLIT_OFFSET};
use super::super::quads::{BLOCKS, BY_COLUMN, take};
use super::super::tile::{AHEAD, Factors, Tile};
use super::decode::{Signed, from};
use super::{accumulate, correction};
use five::Five;
use one::One;
use six::Six;
use three::Three;
use two::Two;

/// The most vectors with which this is faster than decoding a tile first.
pub(super) const VECTORS: usize = 4;
/// Sums in a register.
const LANES: usize = 8;
/// The most that the magnitudes of values may add up to, so that the sum of their products with levels, within ±63, fits into 16 bits.
const MOST: i16 = i16::MAX / 63;

/// Products with four blocks' values of one vector: from their levels, those of the 4 columns of a block, to sums.
trait Add<L>: Copy {
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn add(self, sum: __m256i, levels: [L; BLOCK_COLS]) -> __m256i;
}

/// With or without VNNI: magnitudes are multiplied with values that have their signs.
#[derive(Clone, Copy)]
struct Signs<const VNNI: bool>(Values);

impl<const VNNI: bool> Add<Signed> for Signs<VNNI> {
    #[inline(always)]
    unsafe fn add(self, mut sum: __m256i, levels: [Signed; BLOCK_COLS]) -> __m256i {
        for (Signed { magnitude, sign }, x) in levels.into_iter().zip(self.0) {
            // SAFETY: the caller promises AVX2, and AVX-VNNI with `VNNI`.
            unsafe {
                let x = _mm256_sign_epi8(x, sign);
                sum = super::add::<VNNI>(false, sum, magnitude, x);
            }
        }
        sum
    }
}

/// With VNNI; levels keep their offset.
#[derive(Clone, Copy)]
struct Vnni(Values);

impl Add<__m256i> for Vnni {
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

impl Add<__m256i> for Fours {
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

impl Add<__m256i> for Eights {
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

/// Values of one vector, for each of the columns of a block those of four blocks, in every lane; columns as [`Step`] has them.
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

/// Codes of four blocks.
#[derive(Clone, Copy)]
struct FourBlocks {
    /// The byte before the first.
    from: *const u8,
    /// From the codes of one block to those of the next.
    block_bytes: usize,
    /// Steps that a block has.
    steps: usize,
}

/// What look-ups give: unsigned levels with an offset, of split tables, or [`Signed`] ones.
trait Level: Copy {
    /// What is added to levels that VNNI multiplies, times the sum of the values.
    fn start(lookup: &Lookup, x_sum: i32) -> i32;

    /// Adds the products of four blocks with each vector.
    ///
    /// # Safety
    /// As [`blocks`], with AVX-VNNI for `VNNI`.
    unsafe fn multiply<
        S: Step<PARTS, Level = Self>,
        const PARTS: usize,
        const T: usize,
        const VNNI: bool,
    >(
        step: S,
        codes: FourBlocks,
        x: [Values; T],
        sums: &mut [Sums; T],
    );
}

impl Level for __m256i {
    fn start(lookup: &Lookup, x_sum: i32) -> i32 {
        correction::<true>(lookup, x_sum)
    }

    #[inline(always)]
    unsafe fn multiply<
        S: Step<PARTS, Level = Self>,
        const PARTS: usize,
        const T: usize,
        const VNNI: bool,
    >(
        step: S,
        codes: FourBlocks,
        x: [Values; T],
        sums: &mut [Sums; T],
    ) {
        // SAFETY: the caller promises all of it.
        unsafe {
            if VNNI {
                return blocks(step, codes, x.map(Vnni), sums);
            }
            let mut small = true;
            let mut fours = [Fours(x[0], [x[0][0]; 2]); T];
            for (x, fours) in x.iter().zip(&mut fours) {
                small &= is_small(x);
                *fours = Fours(*x, offsets(x));
            }
            if !small {
                return blocks(step, codes, fours, sums);
            }
            let mut eights = [Eights(x[0], x[0][0]); T];
            for (Fours(x, [a, b]), eights) in fours.iter().zip(&mut eights) {
                *eights = Eights(*x, _mm256_add_epi16(*a, *b));
            }
            blocks(step, codes, eights, sums);
        }
    }
}

impl Level for Signed {
    fn start(_: &Lookup, _: i32) -> i32 {
        0
    }

    #[inline(always)]
    unsafe fn multiply<
        S: Step<PARTS, Level = Self>,
        const PARTS: usize,
        const T: usize,
        const VNNI: bool,
    >(
        step: S,
        codes: FourBlocks,
        x: [Values; T],
        sums: &mut [Sums; T],
    ) {
        // SAFETY: the caller promises all of it.
        unsafe { blocks(step, codes, x.map(Signs::<VNNI>), sums) }
    }
}

/// The sums of one vector.
type Sums = [__m256i; TILE_ROWS / LANES];

/// What is done with some units in four blocks at a time, whose sums are `PARTS` registers: from codes to levels.
trait Step<const PARTS: usize>: Copy {
    /// Units of a step.
    const UNITS: usize = PARTS * LANES / ROW_UNIT;
    /// Bits of a weight.
    const DEPTH: usize;
    /// What look-ups give for one column of four blocks.
    type Level: Level;
    /// What a step takes from the one before.
    type Begun: Copy;

    /// # Safety
    /// The processor has AVX2.
    unsafe fn new(lookup: &Lookup) -> Self;

    /// Before the first step, whose codes begin at `codes`, given the byte before them in each block.
    ///
    /// # Safety
    /// As [`Step::add`].
    unsafe fn begin(
        self,
        before: [u8; BLOCKS],
        codes: *const u8,
        block_bytes: usize,
    ) -> Self::Begun;

    /// Adds products with each vector to its sums from the register `first` on, rows in any order. Levels are those of the last, second, third
    /// and first column of each block: those come first that are known first.
    ///
    /// # Safety
    /// The processor has the instruction set; the codes begin at `codes`, behind another byte, those of the next block `block_bytes` on; in
    /// each block 64 bytes are readable from the codes of each unit on. So it is at `next`, where the codes of the next step are, or those of
    /// another if there is none.
    unsafe fn add<A: Add<Self::Level>, const T: usize>(
        self,
        codes: *const u8,
        next: *const u8,
        block_bytes: usize,
        begun: Self::Begun,
        add: &[A; T],
        sums: &mut [Sums; T],
        first: usize,
    ) -> Self::Begun;

    /// The sums of a step in the order of rows.
    ///
    /// # Safety
    /// The processor has AVX2.
    unsafe fn ascending(sums: [__m256i; PARTS]) -> [__m256i; PARTS];
}

/// 16 bytes in each half, those from `from` on and those `distance` further on, in an order.
///
/// # Safety
/// The processor has AVX2; both are readable.
#[inline(always)]
unsafe fn both(from: *const u8, distance: usize, order: __m256i) -> __m256i {
    // SAFETY: the caller promises both.
    unsafe {
        let first = _mm256_castsi128_si256(_mm_loadu_si128(from.cast()));
        let second = _mm_loadu_si128(from.add(distance).cast());
        _mm256_shuffle_epi8(_mm256_inserti128_si256::<1>(first, second), order)
    }
}

/// Brings the bytes of four registers together, in each half: lane `i` of the result's register `j` has byte `4 · j + i` of each.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn together([a, b, c, d]: [__m256i; BLOCKS]) -> [__m256i; 4] {
    // SAFETY: the caller promises AVX2.
    unsafe {
        let first = [_mm256_unpacklo_epi8(a, b), _mm256_unpacklo_epi8(c, d)];
        let second = [_mm256_unpackhi_epi8(a, b), _mm256_unpackhi_epi8(c, d)];
        [
            _mm256_unpacklo_epi16(first[0], first[1]),
            _mm256_unpackhi_epi16(first[0], first[1]),
            _mm256_unpacklo_epi16(second[0], second[1]),
            _mm256_unpackhi_epi16(second[0], second[1]),
        ]
    }
}

/// Lanes of even rows and of odd ones in turns, in each half.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn in_turns(even: __m256i, odd: __m256i) -> [__m256i; 2] {
    // SAFETY: the caller promises AVX2.
    unsafe {
        [
            _mm256_unpacklo_epi32(even, odd),
            _mm256_unpackhi_epi32(even, odd),
        ]
    }
}

/// Lanes of even rows and of odd ones in turns.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn all_in_turns([even, odd]: [__m256i; 2]) -> [__m256i; 2] {
    // SAFETY: the caller promises AVX2.
    unsafe {
        let [a, b] = in_turns(even, odd);
        [
            _mm256_permute2x128_si256::<0x20>(a, b),
            _mm256_permute2x128_si256::<0x31>(a, b),
        ]
    }
}

/// The bits of each byte of `below` from `DOWN` up, which `mask` keeps, and above them `low`, 4 bits; `UP` is 8 less `DOWN`.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn border<const DOWN: i32, const UP: i32>(
    below: __m256i,
    mask: __m256i,
    low: __m256i,
) -> __m256i {
    // SAFETY: the caller promises AVX2.
    unsafe {
        let below = _mm256_and_si256(_mm256_srli_epi16::<DOWN>(below), mask);
        _mm256_or_si256(below, _mm256_slli_epi16::<UP>(low))
    }
}

/// The lane before each, of those of `own` behind the last one of `before`.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn lanes_before(before: __m256i, own: __m256i) -> __m256i {
    // SAFETY: the caller promises AVX2.
    unsafe {
        let halves = _mm256_permute2x128_si256::<0x21>(before, own);
        _mm256_alignr_epi8::<12>(own, halves)
    }
}

/// Adds the products of levels with each vector to one register of its sums.
///
/// # Safety
/// The processor has the instruction set.
#[inline(always)]
unsafe fn add_all<L: Copy, A: Add<L>, const T: usize>(
    add: &[A; T],
    sums: &mut [Sums; T],
    at: usize,
    levels: [L; BLOCK_COLS],
) {
    for (add, sums) in add.iter().zip(sums) {
        // SAFETY: the caller promises both.
        unsafe {
            let sum = sums.get_unchecked_mut(at);
            *sum = add.add(*sum, levels);
        }
    }
}

/// Adds the products of four blocks with each vector.
///
/// # Safety
/// The processor has the instruction set; the codes are there, and the sums of so many steps are in `sums`.
#[inline(always)]
unsafe fn blocks<S: Step<PARTS>, const PARTS: usize, A: Add<S::Level>, const T: usize>(
    step: S,
    FourBlocks {
        from,
        block_bytes,
        steps,
    }: FourBlocks,
    add: [A; T],
    sums: &mut [Sums; T],
) {
    let bytes = S::UNITS * ROW_UNIT * BLOCK_COLS * S::DEPTH / 8;
    // SAFETY: the caller promises both.
    unsafe {
        let before = std::array::from_fn(|i| from.add(i * block_bytes).read());
        let mut begun = step.begin(before, from.add(1), block_bytes);
        for i in 0..steps {
            // As many lines as a step takes from four blocks, which lie one after the other: all of them, where the steps are a whole tile's.
            let ahead = from.wrapping_add(AHEAD + i * BLOCKS * bytes);
            for line in (0..BLOCKS * bytes).step_by(64) {
                _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(line).cast());
            }
            let codes = from.add(1 + i * bytes);
            let next = if i + 1 < steps {
                codes.add(bytes)
            } else {
                codes
            };
            begun = step.add(codes, next, block_bytes, begun, &add, sums, i * PARTS);
        }
    }
}

/// How many of some units this is for, the first ones; none if the table or the blocks are others.
pub(super) fn taken(tile: &Tile<'_>, units: usize) -> usize {
    if !takes(tile.lookup) || !tile.blocks().is_multiple_of(BLOCKS) {
        return 0;
    }
    let at_once = match tile.lookup.depth {
        One::DEPTH => One::UNITS,
        Two::DEPTH => Two::UNITS,
        Three::DEPTH => Three::UNITS,
        Five::DEPTH => Five::UNITS,
        _ => Six::UNITS,
    };
    units / at_once * at_once
}

/// Whether a table is one that this is for.
pub(super) fn takes(lookup: &Lookup) -> bool {
    match lookup.form {
        Form::Bent => (Five::DEPTH..=Six::DEPTH).contains(&lookup.depth),
        _ => take(lookup, One::DEPTH..=Three::DEPTH),
    }
}

/// Dot products of a range of units with `T` vectors.
///
/// # Safety
/// As [`super::dot`], whose arguments are checked; the units are as many as [`taken`] says. Scales and sums begin with the first of the units and
/// may be of more.
#[inline(always)]
pub(super) unsafe fn dot<const T: usize, const VNNI: bool>(
    tile: &Tile<'_>,
    units: Range<usize>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    // SAFETY: the caller promises all of it.
    unsafe {
        match tile.lookup.depth {
            One::DEPTH => steps::<One, { one::PARTS }, T, VNNI>(tile, units, by, sums),
            Two::DEPTH => steps::<Two, { two::PARTS }, T, VNNI>(tile, units, by, sums),
            Three::DEPTH => steps::<Three, { three::PARTS }, T, VNNI>(tile, units, by, sums),
            Five::DEPTH => steps::<Five, { five::PARTS }, T, VNNI>(tile, units, by, sums),
            _ => steps::<Six, { six::PARTS }, T, VNNI>(tile, units, by, sums),
        }
    }
}

/// See [`dot`].
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn steps<S: Step<PARTS>, const PARTS: usize, const T: usize, const VNNI: bool>(
    tile: &Tile<'_>,
    units: Range<usize>,
    by: &Factors<'_>,
    sums: &mut [f32],
) {
    let (steps, rows, bytes) = (units.len() / S::UNITS, by.scales.len(), tile.block_bytes());
    let registers = steps * PARTS;
    // SAFETY: the caller promises the processor and a tile of such units and blocks, and a scale and a sum for each row.
    unsafe {
        let step = S::new(tile.lookup);
        let mut dots: [Sums; T] = [[_mm256_setzero_si256(); TILE_ROWS / LANES]; T];
        if VNNI {
            for (dots, &sum) in dots.iter_mut().zip(by.x_sums) {
                let start = _mm256_set1_epi32(S::Level::start(tile.lookup, sum));
                dots[..registers].fill(start);
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
            let codes = FourBlocks {
                from,
                block_bytes: bytes,
                steps,
            };
            S::Level::multiply::<S, PARTS, T, VNNI>(step, codes, x, &mut dots);
        }
        for (t, dots) in dots.iter().enumerate() {
            let sums = sums[t * rows..].as_chunks_mut::<LANES>().0.iter_mut();
            let mut rows = by.scales.as_chunks::<LANES>().0.iter().zip(sums);
            for dots in dots[..registers].as_chunks::<PARTS>().0 {
                for (dots, (scales, sums)) in S::ascending(*dots).into_iter().zip(&mut rows) {
                    accumulate(dots, scales.as_ptr(), by.x_scales[t], sums.as_mut_ptr());
                }
            }
        }
    }
}
