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
use super::super::stage::{GroupTile, WindowStage};
use super::super::tasks::{Output, Task, write};
use super::super::tile::Factors;
use super::units::{Source, Steps, Vbmi, scaled};
use crate::simd::{Avx512, Simd};

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
    /// The processor has AVX-512 VBMI; the vectors have values for the blocks.
    unsafe fn arrange(by: &Factors<'_>, blocks: usize, values: &mut Values);

    /// Begins with a pair.
    ///
    /// # Safety
    /// The processor has AVX-512 VBMI; the source has the pair.
    unsafe fn begin(self, source: &Source<'_>, pair: usize) -> Self::Begun;

    /// Dot products of a pair that has begun. Begins with the next one, so that its products do not wait.
    ///
    /// # Safety
    /// The processor has AVX-512 VBMI and VNNI; the group's source has both pairs.
    unsafe fn dots<const T: usize>(
        self,
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
        group: &Group<'_, T>,
        pair: usize,
        next: usize,
        begun: &mut TwoBlocks,
    ) -> [[__m512i; 2]; T] {
        let (Self(steps), source, by) = (self, &group.source, &group.by);
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
    output: Output<'_>,
) {
    // SAFETY: the caller promises the processor.
    unsafe {
        match task.vectors.len() {
            3 => all_groups::<P, 3>(stage, x, task, sums, output),
            4 => all_groups::<P, 4>(stage, x, task, sums, output),
            _ => products::<P>(stage, x, task, sums, output),
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
    output: Output<'_>,
) {
    // SAFETY: the caller promises the processor.
    unsafe {
        match task.vectors.len() {
            5 => all_groups::<P, 5>(stage, x, task, sums, output),
            6 => all_groups::<P, 6>(stage, x, task, sums, output),
            7 => all_groups::<P, 7>(stage, x, task, sums, output),
            8 => all_groups::<P, 8>(stage, x, task, sums, output),
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
    output: Output<'_>,
) {
    assert!(task.vectors.len() == T);
    let mut room = Room {
        scales: Line([0.0; TILE_ROWS]),
        values: [Line([0; GROUP]); VECTORS],
    };
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe {
        let pairs = P::new(stage.lookup());
        let mut keep = 0;
        for tile in stage.tiles(task.tile_row) {
            let group = Group::<T>::new::<P>(tile, x, task, &mut room, sums);
            all_pairs(&pairs, &group, sums, keep);
            keep = u16::MAX;
        }
        if keep == 0 {
            sums.fill(0.0);
        }
        finish::<P>(stage, task, sums, output);
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
    group: &Group<'_, T>,
    sums: &mut [f32],
    keep: u16,
) {
    let pairs = *pairs;
    let count = group.source.units.div_ceil(P::UNITS) * P::UNITS / 2;
    // SAFETY: the caller promises all of it.
    unsafe {
        let mut begun = pairs.begin(&group.source, 0);
        for pair in 0..count {
            let next = (pair + 1).min(count - 1);
            let dots = pairs.dots(group, pair, next, &mut begun);
            add(group, pair, dots, sums, keep);
        }
    }
}

/// The scales of rows, brought in an order, 64 at a time.
///
/// # Safety
/// The processor has AVX-512 VBMI.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn scales(order: [u8; ROWS], codes: &[u8], to: &mut [f32; TILE_ROWS]) {
    let mut ordered = Line([0; ROWS]);
    for (codes, to) in codes.chunks(ROWS).zip(to.as_chunks_mut::<ROWS>().0) {
        // SAFETY: the caller promises the processor; the arrays have 64 bytes, and masked bytes are not read.
        unsafe {
            let order = _mm512_loadu_si512(order.as_ptr().cast());
            let rows =
                _mm512_maskz_loadu_epi8(u64::MAX >> (ROWS - codes.len()), codes.as_ptr().cast());
            let lanes = _mm512_permutexvar_epi8(order, rows);
            _mm512_store_si512(ordered.0.as_mut_ptr().cast(), lanes);
            super::scales(&ordered.0, to);
        }
    }
}

/// What [`Finish`](super::super::tasks::Finish) does, with sums in the order of pairs, as many of each vector.
///
/// # Safety
/// The processor has AVX-512 VBMI and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,bmi2,popcnt")]
unsafe fn finish<P: Pairs>(stage: &WindowStage<'_>, task: &Task, sums: &[f32], output: Output<'_>) {
    // SAFETY: the caller promises the processor; all that have VBMI have the token's features.
    let s = unsafe { Avx512::new() };
    let rows = task.matrix_rows(stage.layout());
    let padded = sums.len() / task.vectors.len();
    for row in (0..rows.len()).step_by(ROWS) {
        let kept = row..rows.len().min(row + ROWS);
        let mut scales = [s.splat(0.0); ROWS / ROW_UNIT];
        for (unit, scales) in scales[..kept.len().div_ceil(ROW_UNIT)]
            .iter_mut()
            .enumerate()
        {
            *scales = s.load_bf16(stage.row_scales(rows.start + row + unit * ROW_UNIT));
        }
        for (t, v) in task.vectors.clone().enumerate() {
            let sums: &[f32; ROWS] = sums[t * padded + row..].first_chunk().expect("padded");
            // SAFETY: the caller promises the processor; 64 sums are 4 registers. Results are the task's own, one by one.
            let (sums, y) = unsafe {
                let sums = sums.as_ptr().cast::<[__m512i; 4]>().read_unaligned();
                (P::ascending(sums), output.of(stage.layout(), task, v))
            };
            let units = y[kept.clone()].chunks_mut(ROW_UNIT).zip(sums);
            for ((y, sums), scales) in units.zip(scales) {
                write(s, _mm512_castsi512_ps(sums), scales, y, output.add);
            }
        }
    }
}

/// A tile, and what its pairs are multiplied with.
pub(super) struct Group<'a, const T: usize> {
    pub(super) source: Source<'a>,
    /// Where dot products begin, so that what levels are raised by is taken off.
    starts: [i32; T],
    /// Scales in the order of sums.
    by: Factors<'a>,
    /// In an order of the pairs' own.
    pub(super) values: &'a Values,
}

/// Room for a group's scales and values.
struct Room {
    scales: Line<[f32; TILE_ROWS]>,
    values: Values,
}

impl<'a, const T: usize> Group<'a, T> {
    /// Makes ready what is multiplied with a tile, whose products are added to `sums`.
    ///
    /// # Safety
    /// The processor has AVX-512 VBMI; `T` are the vectors of the task.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
    #[inline]
    unsafe fn new<P: Pairs>(
        GroupTile {
            group,
            tile,
            scales: codes,
        }: GroupTile<'a>,
        x: &'a Activations,
        task: &Task,
        room: &'a mut Room,
        sums: &[f32],
    ) -> Self {
        let rows = task.rows();
        // Those of the next group follow; nothing else asks for them ahead.
        for line in rows.clone().step_by(64) {
            let ahead = codes.as_ptr().wrapping_add(codes.len() + line);
            _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
        }
        let padded = rows.len().next_multiple_of(ROWS);
        // SAFETY: the caller promises the processor.
        unsafe { scales(P::ORDER, &codes[rows], &mut room.scales.0) };
        let by = Factors::new(x, group, task.vectors.clone(), &room.scales.0[..padded]);
        tile.check_units(&task.units);
        by.check(T, tile.blocks(), padded / ROW_UNIT, sums);
        // SAFETY: the caller promises the processor; the lengths are checked.
        unsafe { P::arrange(&by, tile.blocks(), &mut room.values) };
        let offset = i32::from(super::offset::<Vbmi>(tile.lookup));
        Self {
            source: Source::of(&tile, &task.units),
            starts: std::array::from_fn(|t| -offset * by.x_sums[t]),
            by,
            values: &room.values,
        }
    }

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
    // An address takes a base and up to four times a register, so four distances are enough for 8 vectors. The compiler would step from
    // vector to vector by additions, or keep a pointer to each; and it would load the values of all before the first product, and lack
    // registers. (Not a loop, which would not be unrolled.)
    macro_rules! multiply {
        ($($t:literal $(+ $distance:literal, $strides:literal)?;)*) => {$(
            if $t < T {
                let [a, b] = &mut dots[$t];
                // SAFETY: the caller promises all of it.
                unsafe {
                    let _values: __m512i;
                    asm!(
                        concat!("vpbroadcastd {values}, dword ptr [{x}" $(, " + ", $distance)?, "]"),
                        "vpdpbusd {a}, {levels_a}, {values}",
                        "vpdpbusd {b}, {levels_b}, {values}",
                        values = out(zmm_reg) _values,
                        a = inout(zmm_reg) *a,
                        b = inout(zmm_reg) *b,
                        levels_a = in(zmm_reg) levels[0],
                        levels_b = in(zmm_reg) levels[1],
                        x = in(reg) x,
                        $(stride = in(reg) $strides * stride,)?
                        options(pure, readonly, nostack, preserves_flags),
                    );
                }
            }
        )*};
    }
    multiply!(
        0;
        1 + "{stride}", 1;
        2 + "2 * {stride}", 1;
        3 + "{stride}", 3;
        4 + "4 * {stride}", 1;
        5 + "{stride}", 5;
        6 + "2 * {stride}", 3;
        7 + "{stride}", 7;
    );
}

/// Adds the scaled products of a pair to the sums, or sets these if `keep` is 0 (else it is all ones).
///
/// # Safety
/// The processor has AVX-512 VBMI and VNNI; what products are added to is checked.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
#[inline]
unsafe fn add<const T: usize>(
    group: &Group<'_, T>,
    pair: usize,
    dots: [[__m512i; 2]; T],
    sums: &mut [f32],
    keep: u16,
) {
    let by = &group.by;
    for (t, dots) in dots.into_iter().enumerate() {
        for (i, dots) in dots.into_iter().enumerate() {
            let row = (2 * pair + i) * ROW_UNIT;
            // SAFETY: the caller promises all of it.
            unsafe {
                let sums = sums.as_mut_ptr().add(t * by.scales.len() + row);
                let sum = _mm512_maskz_loadu_ps(keep, sums);
                let scales = by.scales.as_ptr().add(row);
                _mm512_storeu_ps(sums, scaled(dots, scales, by.x_scales[t], sum));
            }
        }
    }
}
