//! Products with 3 to 8 vectors as codes are decoded, with VBMI.
//!
//! So many sums leave registers for no more than two of levels. And a processor does not look ahead from one block's products to the next
//! one's look-ups: levels are looked up here while those of the block before are multiplied, and what they are looked up by is loaded
//! one block earlier still; so are the first blocks of the next rows.
//!
//! Sums stay in the order in which look-ups bring rows, from the first group of a tile row to the last: it is scales that are put in that
//! order, and in the end the sums in that of rows.

use std::arch::asm;
use std::arch::x86_64::*;

use lagar_codec::{Activations, BLOCK_COLS, GROUP, ROW_UNIT, TILE_ROWS};

use super::super::int8::Line;
use super::super::lookup::Lookup;
use super::super::stage::WindowStage;
use super::super::tasks::Task;
use super::super::tile::Factors;
use super::units::{Source, Steps, Vbmi, scaled};

/// Rows that are put in order together: those of as many units as a step of look-ups takes at most.
pub(in super::super) const ROWS: usize = 4 * ROW_UNIT;

/// The most vectors.
pub(super) const VECTORS: usize = 8;

/// Each vector's values of a group, as [`Pairs::arrange`] leaves them.
pub(super) type Values = [Line<[i8; GROUP]>; VECTORS];

/// Dot products of 32 rows, a pair of registers of sums for each vector.
pub(super) trait Pairs: Copy {
    /// Units whose rows are in the same pairs, one for every two; a multiple of 2.
    const UNITS: usize;
    /// The row that each lane of 4 registers is of, which [`Pairs::ascending`] takes back.
    const ORDER: [u8; ROWS];
    /// What is there of a pair before its first products.
    type Begun: Copy;

    /// # Safety
    /// The processor has AVX-512.
    unsafe fn new(lookup: &Lookup) -> Self;

    /// Puts values of a tile of so many blocks in an order of its own, if it has one.
    ///
    /// # Safety
    /// The processor has AVX-512 VBMI.
    unsafe fn arrange(by: &Factors<'_>, blocks: usize, values: &mut Values);

    /// Begins with a pair.
    ///
    /// # Safety
    /// The processor has AVX-512 VBMI; the source has the pair.
    unsafe fn begin(self, source: &Source<'_>, pair: usize) -> Self::Begun;

    /// Dot products of a pair that has begun. Begins with the next one, so that its products do not wait.
    ///
    /// # Safety
    /// The processor has AVX-512 VBMI and VNNI; the source has both pairs, and as many blocks as the group has values.
    unsafe fn dots<const T: usize>(
        self,
        source: &Source<'_>,
        group: &Group<'_, T>,
        pair: usize,
        next: usize,
        begun: &mut Self::Begun,
    ) -> [[__m512i; 2]; T];

    /// Lanes of 32 bits of 4 registers in the order of rows.
    ///
    /// # Safety
    /// The processor has AVX-512.
    unsafe fn ascending(lanes: [__m512i; 4]) -> [__m512i; 4];
}

/// From codes to the levels of two units.
///
/// With steps of two units, codes are lanes of 8 bytes with 4 rows each: two rows of every lane are in one register.
pub(super) trait Levels<const N: usize>: Steps<N> {
    /// What [`Levels::level`] takes, of two units whose codes lie from `codes` on, `unit_bytes` each.
    ///
    /// # Safety
    /// The processor has AVX-512 VBMI; `codes` is what `Tile::unit` says of the first unit. With steps of one unit there is one more, or
    /// `unit_bytes` is 0.
    unsafe fn load(self, codes: *const u8, unit_bytes: usize) -> [__m512i; 2];

    /// Levels, 4 of a row in each lane of 32 bits.
    ///
    /// # Safety
    /// The processor has AVX-512 VBMI.
    unsafe fn level(self, loaded: __m512i) -> __m512i;
}

/// Block by block, two units at a time; steps are of one or of both. A pair's sums are in the order in which levels come: see [`Levels`].
#[derive(Clone, Copy)]
pub(super) struct Blocks<S, const N: usize>(S);

/// Two blocks of a pair: the first one's levels, and what the second one's are looked up by, loaded from `codes` on.
#[derive(Clone, Copy)]
pub(super) struct TwoBlocks {
    levels: [__m512i; 2],
    loaded: [__m512i; 2],
    codes: *const u8,
}

impl<S: Levels<N>, const N: usize> Blocks<S, N> {
    /// Where the codes of a pair begin, and bytes from those of its first unit to those of its second. The last of an odd number of units is
    /// multiplied twice, its second time for rows that are padding.
    #[inline(always)]
    fn place(source: &Source<'_>, pair: usize) -> (*const u8, usize) {
        let codes = source.first.wrapping_add(2 * pair * source.unit_bytes);
        let alone = N == 1 && 2 * pair + 1 == source.units;
        (codes, if alone { 0 } else { source.unit_bytes })
    }
}

impl<S: Levels<N>, const N: usize> Pairs for Blocks<S, N> {
    const UNITS: usize = 2;

    const ORDER: [u8; ROWS] = {
        let mut order = [0; ROWS];
        let mut i = 0;
        while i < ROWS {
            let (step, set, lane, row) = (i / (16 * N), i / 16 % N, i % 16 / 2, i % 2);
            order[i] = (16 * N * step + 2 * N * lane + 2 * set + row) as u8;
            i += 1;
        }
        order
    };

    type Begun = TwoBlocks;

    #[inline(always)]
    unsafe fn new(lookup: &Lookup) -> Self {
        // SAFETY: the caller promises AVX-512.
        Self(unsafe { S::new::<Vbmi>(lookup) })
    }

    #[inline(always)]
    unsafe fn arrange(_: &Factors<'_>, _: usize, _: &mut Values) {}

    #[inline(always)]
    unsafe fn begin(self, source: &Source<'_>, pair: usize) -> TwoBlocks {
        let (codes, unit_bytes) = Self::place(source, pair);
        let second = source.block_bytes * usize::from(source.blocks > 1);
        // SAFETY: the caller promises all of it; instead of a second block that does not exist the first one is loaded.
        unsafe {
            let [a, b] = self.0.load(codes, unit_bytes);
            let codes = codes.wrapping_add(second);
            TwoBlocks {
                levels: [self.0.level(a), self.0.level(b)],
                loaded: self.0.load(codes, unit_bytes),
                codes,
            }
        }
    }

    #[inline(always)]
    unsafe fn dots<const T: usize>(
        self,
        source: &Source<'_>,
        group: &Group<'_, T>,
        pair: usize,
        next: usize,
        begun: &mut TwoBlocks,
    ) -> [[__m512i; 2]; T] {
        let (Self(steps), by) = (self, &group.by);
        let (first, mut unit_bytes) = Self::place(source, pair);
        let last = first.wrapping_add((source.blocks - 1) * source.block_bytes);
        let (next_codes, next_unit_bytes) = Self::place(source, next);
        // The same units of the next tile: the loop passes over the others, and comes to what follows only after they have had theirs.
        let mut ahead = last.wrapping_add(source.block_bytes);
        let mut x = by.x.as_ptr();
        // SAFETY: the caller promises all of it.
        unsafe {
            let mut dots = group.starts();
            for _ in 0..source.blocks {
                let levels = begun.levels;
                begun.levels = [steps.level(begun.loaded[0]), steps.level(begun.loaded[1])];
                if begun.codes == last {
                    (begun.codes, unit_bytes) = (next_codes, next_unit_bytes);
                } else {
                    begun.codes = begun.codes.wrapping_add(source.block_bytes);
                }
                begun.loaded = steps.load(begun.codes, unit_bytes);
                ask(ahead);
                if N == 1 {
                    ask(ahead.wrapping_add(source.unit_bytes));
                }
                ahead = ahead.wrapping_add(source.block_bytes);
                multiply(&mut dots, levels, x, by.stride);
                x = x.add(BLOCK_COLS);
            }
            if source.blocks == 1 {
                *begun = self.begin(source, next);
            }
            dots
        }
    }

    #[inline(always)]
    unsafe fn ascending(lanes: [__m512i; 4]) -> [__m512i; 4] {
        let mut rows = lanes;
        for rows in rows.as_chunks_mut::<N>().0 {
            // SAFETY: the caller promises AVX-512.
            *rows = unsafe { S::ascending(*rows) };
        }
        rows
    }
}

/// [`products`] with 3 or 4 vectors too.
///
/// # Safety
/// The processor has AVX-512 VBMI and VNNI.
pub(super) unsafe fn from_three<P: Pairs>(
    stage: &WindowStage<'_>,
    x: &Activations,
    task: &Task,
    sums: &mut [f32],
) {
    // SAFETY: the caller promises the processor.
    unsafe {
        match task.vectors.len() {
            3 => all_groups::<P, 3>(stage, x, task, sums),
            4 => all_groups::<P, 4>(stage, x, task, sums),
            _ => products::<P>(stage, x, task, sums),
        }
    }
}

/// See [`Several::products`](super::super::tile::Several::products); 5 to 8 vectors.
///
/// # Safety
/// The processor has AVX-512 VBMI and VNNI.
pub(super) unsafe fn products<P: Pairs>(
    stage: &WindowStage<'_>,
    x: &Activations,
    task: &Task,
    sums: &mut [f32],
) {
    // SAFETY: the caller promises the processor.
    unsafe {
        match task.vectors.len() {
            5 => all_groups::<P, 5>(stage, x, task, sums),
            6 => all_groups::<P, 6>(stage, x, task, sums),
            7 => all_groups::<P, 7>(stage, x, task, sums),
            8 => all_groups::<P, 8>(stage, x, task, sums),
            n => unreachable!("{n} vectors"),
        }
    }
}

/// # Safety
/// As [`products`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn all_groups<P: Pairs, const T: usize>(
    stage: &WindowStage<'_>,
    x: &Activations,
    task: &Task,
    sums: &mut [f32],
) {
    assert!(task.vectors.len() == T);
    let rows = task.rows().len();
    let padded = rows.next_multiple_of(ROWS);
    let (mut codes, mut scales) = (Line([0; TILE_ROWS]), Line([0.0; TILE_ROWS]));
    let (codes, scales) = (&mut codes.0[..padded], &mut scales.0[..padded]);
    let mut values = [Line([0; GROUP]); VECTORS];
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe {
        let pairs = P::new(stage.lookup());
        let offset = i32::from(super::offset::<Vbmi>(stage.lookup()));
        let mut keep = 0;
        for g in 0..x.groups() {
            let Some(tile) = stage.tile(task.tile_row, g) else {
                continue;
            };
            let own = stage.scales(task.tile_row, g);
            // Those of the next group follow; nothing else asks for them ahead.
            for line in (0..rows).step_by(64) {
                let ahead = own
                    .as_ptr()
                    .wrapping_add(own.len() + task.rows().start + line);
                _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
            }
            reorder(P::ORDER, &own[task.rows()], codes);
            super::scales(codes, scales);
            let by = Factors::new(x, g, task.vectors.clone(), scales);
            tile.check_units(&task.units);
            by.check(T, tile.blocks(), padded / ROW_UNIT, sums);
            let source = Source::of(&tile, &task.units);
            P::arrange(&by, tile.blocks(), &mut values);
            let starts = std::array::from_fn(|t| -offset * by.x_sums[t]);
            let group = Group {
                starts,
                by,
                values: &values,
            };
            all_pairs::<P, T>(&pairs, &source, &group, sums, keep);
            keep = u16::MAX;
        }
        if keep == 0 {
            sums.fill(0.0);
        }
        ascending::<P>(sums, rows, padded);
    }
}

/// Adds the scaled products of all pairs of a tile to the sums, or sets these if `keep` is 0 (else it is all ones). A function of its
/// own, so that its loops need not share registers with what is around them.
///
/// # Safety
/// As [`Pairs::dots`]; what products are added to is checked.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
#[inline(never)]
unsafe fn all_pairs<P: Pairs, const T: usize>(
    pairs: &P,
    source: &Source<'_>,
    group: &Group<'_, T>,
    sums: &mut [f32],
    keep: u16,
) {
    let pairs = *pairs;
    let count = source.units.div_ceil(P::UNITS) * P::UNITS / 2;
    // SAFETY: the caller promises all of it.
    unsafe {
        let mut begun = pairs.begin(source, 0);
        for pair in 0..count {
            add::<P, T>(pairs, source, group, [pair, count], &mut begun, sums, keep);
        }
    }
}

/// Brings bytes of rows in an order, 64 at a time; those that `to` has more are 0.
///
/// # Safety
/// The processor has AVX-512 VBMI.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn reorder(order: [u8; ROWS], from: &[u8], to: &mut [u8]) {
    // SAFETY: the caller promises the processor; the arrays have 64 bytes, and masked bytes are not read.
    unsafe {
        let order = _mm512_loadu_si512(order.as_ptr().cast());
        for (from, to) in from.chunks(ROWS).zip(to.as_chunks_mut::<ROWS>().0) {
            let rows =
                _mm512_maskz_loadu_epi8(u64::MAX >> (ROWS - from.len()), from.as_ptr().cast());
            let lanes = _mm512_permutexvar_epi8(order, rows);
            _mm512_storeu_si512(to.as_mut_ptr().cast(), lanes);
        }
    }
}

/// Brings the sums of each vector, `padded` of them, from their own order to that of rows, and those of different vectors together:
/// `rows` each.
///
/// # Safety
/// The processor has AVX-512.
#[target_feature(enable = "avx512f")]
unsafe fn ascending<P: Pairs>(sums: &mut [f32], rows: usize, padded: usize) {
    for t in 0..sums.len() / padded {
        for row in (0..rows).step_by(ROWS) {
            let from: &[f32; ROWS] = sums[t * padded + row..].first_chunk().expect("padded");
            // SAFETY: the caller promises the processor; 64 values are four registers.
            let sorted =
                unsafe { P::ascending(from.as_ptr().cast::<[__m512i; 4]>().read_unaligned()) };
            // Not beyond what has been read: `padded` is not less than `rows`.
            let kept = ROWS.min(rows - row);
            let (to, _) = sums[t * rows + row..][..kept].as_chunks_mut::<ROW_UNIT>();
            for (to, sorted) in to.iter_mut().zip(sorted) {
                // SAFETY: the caller promises the processor; 16 values are a register.
                unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), sorted) };
            }
        }
    }
}

/// What the pairs of a tile are multiplied with.
pub(super) struct Group<'a, const T: usize> {
    /// Where dot products begin, so that what levels are raised by is taken off.
    starts: [i32; T],
    /// Scales in the order of sums.
    by: Factors<'a>,
    /// In an order of the pairs' own.
    pub(super) values: &'a Values,
}

impl<const T: usize> Group<'_, T> {
    /// # Safety
    /// The processor has AVX-512.
    #[inline(always)]
    pub(super) unsafe fn starts(&self) -> [[__m512i; 2]; T] {
        // SAFETY: the caller promises AVX-512.
        unsafe {
            let mut dots = [[_mm512_setzero_si512(); 2]; T];
            for (dots, start) in dots.iter_mut().zip(self.starts) {
                *dots = [_mm512_set1_epi32(start); 2];
            }
            dots
        }
    }
}

/// Asks for a line of codes.
#[inline(always)]
pub(super) fn ask(codes: *const u8) {
    // SAFETY: nothing is read, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(codes.cast()) };
}

/// Adds the products of two registers of levels with 4 values of each vector, the first one's at `x`.
///
/// # Safety
/// The processor has AVX-512 VNNI; the values are readable.
#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
pub(super) unsafe fn multiply<const T: usize>(
    dots: &mut [[__m512i; 2]; T],
    levels: [__m512i; 2],
    x: *const i8,
    stride: usize,
) {
    macro_rules! multiply {
        ($($t:literal)*) => {$(
            if $t < T {
                // SAFETY: the caller promises all of it.
                unsafe {
                    let values = values(x, stride, $t);
                    for (dots, levels) in dots[$t].iter_mut().zip(levels) {
                        *dots = _mm512_dpbusd_epi32(*dots, levels, values);
                    }
                }
            }
        )*};
    }
    // Not a loop, which would not be unrolled.
    multiply!(0 1 2 3 4 5 6 7);
}

/// The 4 bytes at `x` and a distance in all lanes.
macro_rules! broadcast {
    ($x:ident $(, $distance:literal, $stride:expr)?) => {{
        let values: __m512i;
        asm!(
            concat!("vpbroadcastd {values}, dword ptr [{x}" $(, " + ", $distance)?, "]"),
            values = out(zmm_reg) values,
            x = in(reg) $x,
            $(stride = in(reg) $stride,)?
            options(pure, readonly, nostack, preserves_flags),
        );
        values
    }};
}

/// The 4 values of vector `t < 8` in each lane of 32 bits, given where those of the first one are.
///
/// An address takes a base and up to four times a register, so four distances are enough for 8 vectors. The compiler would step from vector
/// to vector by additions, or keep a pointer to each and lack registers.
///
/// # Safety
/// The processor has AVX-512; the values are readable.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn values(x: *const i8, stride: usize, t: usize) -> __m512i {
    // SAFETY: the caller promises both.
    unsafe {
        match t {
            0 => broadcast!(x),
            1 => broadcast!(x, "{stride}", stride),
            2 => broadcast!(x, "2 * {stride}", stride),
            3 => broadcast!(x, "{stride}", 3 * stride),
            4 => broadcast!(x, "4 * {stride}", stride),
            5 => broadcast!(x, "{stride}", 5 * stride),
            6 => broadcast!(x, "2 * {stride}", 3 * stride),
            _ => broadcast!(x, "{stride}", 7 * stride),
        }
    }
}

/// Adds the scaled products of pair `pair` of `count` to the sums, or sets these if `keep` is 0 (else it is all ones).
///
/// # Safety
/// As [`Pairs::dots`]; what products are added to is checked.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
#[inline]
unsafe fn add<P: Pairs, const T: usize>(
    pairs: P,
    source: &Source<'_>,
    group: &Group<'_, T>,
    [pair, count]: [usize; 2],
    begun: &mut P::Begun,
    sums: &mut [f32],
    keep: u16,
) {
    let by = &group.by;
    // SAFETY: the caller promises all of it.
    unsafe {
        let next = (pair + 1).min(count - 1);
        let dots = pairs.dots(source, group, pair, next, begun);
        for (t, dots) in dots.into_iter().enumerate() {
            for (i, dots) in dots.into_iter().enumerate() {
                let row = (2 * pair + i) * ROW_UNIT;
                let sums = sums.as_mut_ptr().add(t * by.scales.len() + row);
                let sum = _mm512_maskz_loadu_ps(keep, sums);
                let scales = by.scales.as_ptr().add(row);
                _mm512_storeu_ps(sums, scaled(dots, scales, by.x_scales[t], sum));
            }
        }
    }
}
