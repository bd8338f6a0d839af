//! Products with 5 to 8 vectors as codes are decoded, with VBMI.
//!
//! So many sums leave registers for no more than two of levels. And a processor does not look ahead from one block's products to the next
//! one's look-ups: levels are looked up here while those of the block before are multiplied, and what they are looked up by is loaded
//! one block earlier still.
//!
//! Sums stay in the order in which look-ups bring rows, from the first group of a tile row to the last: it is scales that are put in that
//! order, and in the end the sums in that of rows.

use std::arch::asm;
use std::arch::x86_64::*;

use lagar_codec::{Activations, BLOCK_COLS, ROW_UNIT, TILE_ROWS};

use super::super::int8::Line;
use super::super::stage::WindowStage;
use super::super::tasks::Task;
use super::super::tile::Factors;
use super::units::{Source, Steps, Vbmi, scaled};

/// Rows that are put in order together: those of as many units as a step of look-ups takes at most.
pub(in super::super) const ROWS: usize = 4 * ROW_UNIT;

/// From codes to levels, two registers at a time.
///
/// With steps of one unit these are two units. Else they are two of a step's `N`, which lie in it as lanes of 8 bytes with `2 · N` rows each:
/// two rows of every lane are in one register.
pub(super) trait Pairs<const N: usize>: Steps<N> {
    /// What [`Pairs::level`] takes, of registers `first` and `first + 1` of the units whose codes lie from `codes` on, `unit_bytes` each.
    ///
    /// # Safety
    /// The processor has AVX-512 VBMI; `codes` is what `Tile::unit` says of the first unit. With steps of one unit there is one more, or
    /// `unit_bytes` is 0.
    unsafe fn load(self, codes: *const u8, unit_bytes: usize, first: usize) -> [__m512i; 2];

    /// Levels, 4 of a row in each lane of 32 bits.
    ///
    /// # Safety
    /// The processor has AVX-512 VBMI.
    unsafe fn level(self, loaded: __m512i) -> __m512i;
}

/// The row that each lane of 32 bits of 4 registers is of, which [`Steps::ascending`] takes back: see [`Pairs`].
const fn order(units: usize) -> [u8; ROWS] {
    let mut order = [0; ROWS];
    let mut i = 0;
    while i < ROWS {
        let (step, set, lane, row) = (i / (16 * units), i / 16 % units, i % 16 / 2, i % 2);
        order[i] = (16 * units * step + 2 * units * lane + 2 * set + row) as u8;
        i += 1;
    }
    order
}

/// See [`Several::products`](super::super::tile::Several::products).
///
/// # Safety
/// The processor has AVX-512 VBMI and VNNI.
pub(super) unsafe fn products<S: Pairs<N>, const N: usize>(
    stage: &WindowStage<'_>,
    x: &Activations,
    task: &Task,
    sums: &mut [f32],
) {
    // SAFETY: the caller promises the processor.
    unsafe {
        match task.vectors.len() {
            5 => all_groups::<S, N, 5>(stage, x, task, sums),
            6 => all_groups::<S, N, 6>(stage, x, task, sums),
            7 => all_groups::<S, N, 7>(stage, x, task, sums),
            8 => all_groups::<S, N, 8>(stage, x, task, sums),
            n => unreachable!("{n} vectors"),
        }
    }
}

/// # Safety
/// As [`products`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn all_groups<S: Pairs<N>, const N: usize, const T: usize>(
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
    // SAFETY: the caller promises the processor; the lengths are checked.
    unsafe {
        let steps = S::new::<Vbmi>(stage.lookup());
        let offset = i32::from(super::offset::<Vbmi>(stage.lookup()));
        let mut keep = 0;
        for g in 0..x.groups() {
            let Some(tile) = stage.tile(task.tile_row, g) else {
                continue;
            };
            let own = stage.scales(task.tile_row, g);
            codes[..rows].copy_from_slice(&own[task.rows()]);
            // Those of the next group follow; nothing else asks for them ahead.
            for line in (0..rows).step_by(64) {
                let ahead = own
                    .as_ptr()
                    .wrapping_add(own.len() + task.rows().start + line);
                _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
            }
            reorder(const { order(N) }, codes);
            super::scales(codes, scales);
            let by = Factors::new(x, g, task.vectors.clone(), scales);
            tile.check_units(&task.units);
            by.check(T, tile.blocks(), padded / ROW_UNIT, sums);
            let source = Source::of(&tile, &task.units);
            let starts = std::array::from_fn(|t| -offset * by.x_sums[t]);
            let group = Group { starts, by };
            let together = N.max(2);
            for unit in (0..source.units).step_by(together) {
                for first in (0..together).step_by(2) {
                    pair::<S, N, T>(steps, source, &group, [unit, first], sums, keep);
                }
            }
            keep = u16::MAX;
        }
        if keep == 0 {
            sums.fill(0.0);
        }
        ascending::<S, N>(sums, rows, padded);
    }
}

/// Brings bytes of rows in an order, 64 at a time.
///
/// # Safety
/// The processor has AVX-512 VBMI.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn reorder(order: [u8; ROWS], bytes: &mut [u8]) {
    // SAFETY: the caller promises the processor; the arrays have 64 bytes.
    unsafe {
        let order = _mm512_loadu_si512(order.as_ptr().cast());
        for bytes in bytes.as_chunks_mut::<ROWS>().0 {
            let rows = _mm512_loadu_si512(bytes.as_ptr().cast());
            let lanes = _mm512_permutexvar_epi8(order, rows);
            _mm512_storeu_si512(bytes.as_mut_ptr().cast(), lanes);
        }
    }
}

/// Brings the sums of each vector, `padded` of them, from their own order to that of rows, and those of different vectors together:
/// `rows` each.
///
/// # Safety
/// The processor has AVX-512.
#[target_feature(enable = "avx512f")]
unsafe fn ascending<S: Steps<N>, const N: usize>(sums: &mut [f32], rows: usize, padded: usize) {
    for t in 0..sums.len() / padded {
        for row in (0..rows).step_by(ROWS) {
            let from: &[f32; ROWS] = sums[t * padded + row..].first_chunk().expect("padded");
            let mut sorted = [0.0; ROWS];
            // SAFETY: the caller promises the processor; both arrays have 64 values.
            unsafe {
                let from: *const __m512i = from.as_ptr().cast();
                let to: *mut __m512i = sorted.as_mut_ptr().cast();
                for step in (0..ROWS / ROW_UNIT).step_by(N) {
                    let lanes = std::array::from_fn(|i| _mm512_loadu_si512(from.add(step + i)));
                    for (i, rows) in S::ascending(lanes).into_iter().enumerate() {
                        _mm512_storeu_si512(to.add(step + i), rows);
                    }
                }
            }
            // Not beyond what has been read: `padded` is not less than `rows`.
            let kept = ROWS.min(rows - row);
            sums[t * rows + row..][..kept].copy_from_slice(&sorted[..kept]);
        }
    }
}

/// What the pairs of a tile are multiplied with.
struct Group<'a, const T: usize> {
    /// Where dot products begin, so that what levels are raised by is taken off.
    starts: [i32; T],
    /// Scales in the order of sums.
    by: Factors<'a>,
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

/// Adds the scaled products of registers `first` and `first + 1` of the units from `unit` on to the sums, or sets these if `keep` is 0 (else
/// it is all ones).
///
/// # Safety
/// The processor has AVX-512 VBMI and VNNI; the source has the unit, and what it is multiplied with and added to is checked.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
unsafe fn pair<S: Pairs<N>, const N: usize, const T: usize>(
    steps: S,
    source: Source<'_>,
    group: &Group<'_, T>,
    [unit, first]: [usize; 2],
    sums: &mut [f32],
    keep: u16,
) {
    let Group { starts, by } = group;
    // The last of an odd number of units is multiplied twice, its second time for a row that is padding.
    let alone = N == 1 && unit + 1 == source.units;
    let unit_bytes = if alone { 0 } else { source.unit_bytes };
    let mut codes = source.first.wrapping_add(unit * source.unit_bytes);
    let last = codes.wrapping_add((source.blocks - 1) * source.block_bytes);
    // The same units of the next tile: the loop passes over the others, and comes to what follows only after they have had theirs.
    let mut ahead = codes.wrapping_add(source.blocks * source.block_bytes);
    let mut x = by.x.as_ptr();
    // SAFETY: the caller promises all of it; instead of blocks that do not exist the last one is loaded.
    unsafe {
        let mut dots = [[_mm512_setzero_si512(); 2]; T];
        for (dots, start) in dots.iter_mut().zip(starts) {
            *dots = [_mm512_set1_epi32(*start); 2];
        }
        let [a, b] = steps.load(codes, unit_bytes, first);
        let mut next = [steps.level(a), steps.level(b)];
        codes = codes.wrapping_add(source.block_bytes).min(last);
        let mut loaded = steps.load(codes, unit_bytes, first);
        for _ in 0..source.blocks {
            let levels = next;
            next = [steps.level(loaded[0]), steps.level(loaded[1])];
            codes = codes.wrapping_add(source.block_bytes).min(last);
            loaded = steps.load(codes, unit_bytes, first);
            if first == 0 {
                _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                if N == 1 {
                    _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(unit_bytes).cast());
                }
                ahead = ahead.wrapping_add(source.block_bytes);
            }
            macro_rules! multiply {
                ($($t:literal)*) => {$(
                    if $t < T {
                        let values = values(x, by.stride, $t);
                        for (dots, levels) in dots[$t].iter_mut().zip(levels) {
                            *dots = _mm512_dpbusd_epi32(*dots, levels, values);
                        }
                    }
                )*};
            }
            // Not a loop, which would not be unrolled.
            multiply!(0 1 2 3 4 5 6 7);
            x = x.add(BLOCK_COLS);
        }
        let row = (unit + first) * ROW_UNIT;
        for (t, dots) in dots.into_iter().enumerate() {
            for (i, dots) in dots.into_iter().enumerate() {
                let row = row + i * ROW_UNIT;
                let sums = sums.as_mut_ptr().add(t * by.scales.len() + row);
                let sum = _mm512_maskz_loadu_ps(keep, sums);
                let scales = by.scales.as_ptr().add(row);
                _mm512_storeu_ps(sums, scaled(dots, scales, by.x_scales[t], sum));
            }
        }
    }
}
