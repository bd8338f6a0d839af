//! Products of decoded levels with AMX, 16 vectors at a time; all else is AVX-512's.
//!
//! One instruction multiplies 16 vectors × 64 columns with 64 columns × 16 rows. Decoded levels lie as it wants its second
//! operand: 16 blocks of 64 bytes, each 16 rows × 4 columns, one after the other. A group of 128 columns is two halves of
//! them. The vectors of both are loaded once and stay in two tiles; the levels of each unit of 16 rows go through two
//! more; the other four hold the dot products of four units, each one step further than the next.
//!
//! A new configuration waits for the tiles and takes long, so a thread keeps the shapes that it last used until its task is
//! done ([`super::tile::Ops::release`]).
//!
//! Tests run the same algorithm on an emulation of the instructions, since few machines have them.

#[cfg(test)]
mod emulation;
#[cfg(test)]
mod tests;
mod tiles;

use std::cell::Cell;
use std::mem::MaybeUninit;

use lagar_codec::{BLOCK_COLS, ROW_UNIT, Table};

use super::avx512;
use super::int8::Line;
use super::lookup::Lookup;
use super::tile::{Factors, Ops, Product, Several, UNIT};
use tiles::{Config, HALF, Instructions, LEVELS0, LEVELS1, ROW_BYTES, ROWS, Shape, Tiles, X0, X1};

pub(super) const OPS: Ops = Ops {
    decode: avx512::decode::<true>,
    offset: |_| 0,
    together: ROWS,
    multiply,
    release,
    peak,
    // Tiles multiply more.
    several: Some(Several {
        most: |_| avx512::SEVERAL.at_once,
        ..avx512::SEVERAL
    }),
    ..avx512::OPS
};

/// The dot products of one unit as a tile stores them: those of 16 rows for each vector.
type Dots = MaybeUninit<[Line<[i32; ROW_UNIT]>; ROWS]>;

/// How many steps after its first one a unit's dot products are there.
const ENDS: usize = 3;

thread_local! {
    /// The shape that this thread's tiles have.
    static HELD: Cell<Option<Shape>> = const { Cell::new(None) };
}

/// See [`Ops::multiply`].
///
/// # Safety
/// The processor has AMX and AVX-512, and the process may use AMX.
unsafe fn multiply(product: &Product<'_>, sums: &mut [f32]) {
    // SAFETY: the caller promises the processor; the shape is the one that this thread's tiles have.
    HELD.with(|held| unsafe { multiply_here(held, product, sums) });
}

/// # Safety
/// As [`multiply`]; this thread's tiles have the shape `held`.
#[target_feature(enable = "avx512f")]
unsafe fn multiply_here(held: &Cell<Option<Shape>>, product: &Product<'_>, sums: &mut [f32]) {
    // SAFETY: the caller promises all of it.
    unsafe { multiply_with(&mut Instructions, held, product, sums) }
}

/// See [`Ops::release`].
///
/// # Safety
/// The processor has AMX, and the process may use it.
unsafe fn release() {
    // SAFETY: the caller promises the processor.
    HELD.with(|held| unsafe { release_with(&mut Instructions, held) });
}

/// Products with any tiles.
///
/// # Safety
/// The tiles can be used, and have the shape `held`.
#[inline(always)]
unsafe fn multiply_with<T: Tiles>(
    tiles: &mut T,
    held: &Cell<Option<Shape>>,
    product: &Product<'_>,
    sums: &mut [f32],
) {
    product.check_up_to(ROWS, sums);
    let shape = Shape::of(product);
    let x = product.by.x.as_ptr().cast::<u8>();
    // SAFETY: the caller promises the tiles, whose shapes are those of the product from here on; by `Product::check_up_to`
    // each vector has 4 bytes for each block.
    unsafe {
        if held.replace(Some(shape)) != Some(shape) {
            tiles.configure(&shape.config());
        }
        tiles.load::<X0>(x, product.by.stride);
        if product.blocks > HALF {
            tiles.load::<X1>(x.add(HALF * BLOCK_COLS), product.by.stride);
        }
    }
    let (dots, sums) = (&mut Dots::uninit(), sums.as_mut_ptr());
    for first in (0..product.units + ENDS).step_by(4) {
        // SAFETY: the tiles have the shapes of the product and hold its vectors, and the steps come one after the other, each with the
        // numbers of its tiles.
        unsafe {
            step::<T, 0, 3, 1>(tiles, product, first, dots, sums);
            step::<T, 1, 0, 2>(tiles, product, first + 1, dots, sums);
            step::<T, 2, 1, 3>(tiles, product, first + 2, dots, sums);
            step::<T, 3, 2, 0>(tiles, product, first + 3, dots, sums);
        }
    }
}

/// Gives the tiles back if they have a shape.
///
/// # Safety
/// The tiles can be used.
#[inline(always)]
unsafe fn release_with<T: Tiles>(tiles: &mut T, held: &Cell<Option<Shape>>) {
    if held.take().is_some() {
        // SAFETY: the caller promises it.
        unsafe { tiles.release() }
    }
}

/// One step of a product: multiplies the first half of unit `step`'s levels, the second half of those of the unit before, and adds
/// what came out of the unit [`ENDS`] before. A dot product is there long after its instruction has begun; so none is waited for,
/// and what vectors do for one unit falls into the time that tiles take for others.
///
/// # Safety
/// The tiles have the shapes of the product, whose lengths are checked, and hold its vectors; all steps before have been made, with
/// `FIRST` of one the `SECOND` of the next, and the `DONE` of the one [`ENDS`] later.
#[inline(always)]
unsafe fn step<T: Tiles, const FIRST: u8, const SECOND: u8, const DONE: u8>(
    tiles: &mut T,
    product: &Product<'_>,
    step: usize,
    dots: &mut Dots,
    sums: *mut f32,
) {
    let (first, second, done) = (step, step.wrapping_sub(1), step.wrapping_sub(ENDS));
    let stride = product.blocks * UNIT;
    let levels = product.levels.as_ptr();
    // SAFETY: the caller promises the tiles; each unit has 64 bytes of levels for each block, and `dots` has room for one.
    unsafe {
        if first < product.units {
            tiles.zero::<FIRST>();
            tiles.load::<LEVELS0>(levels.add(first * stride), UNIT);
            tiles.dot::<FIRST, X0, LEVELS0>();
        }
        if second < product.units && product.blocks > HALF {
            tiles.load::<LEVELS1>(levels.add(second * stride + HALF * UNIT), UNIT);
            tiles.dot::<SECOND, X1, LEVELS1>();
        }
        if done < product.units {
            let dots = dots.as_mut_ptr().cast();
            tiles.store::<DONE>(dots, ROW_BYTES);
            accumulate(tiles, product, done, dots, sums);
        }
    }
}

/// Adds the dot products of a unit, scaled, to the sums of all vectors.
///
/// # Safety
/// As [`step`]; the product has the unit, and `dots` are those that its tile stored.
#[inline(always)]
unsafe fn accumulate<T: Tiles>(
    tiles: &T,
    product: &Product<'_>,
    unit: usize,
    dots: *const i32,
    sums: *mut f32,
) {
    let by = &product.by;
    // SAFETY: the lengths are checked: 16 scales for each unit, and as many sums for each vector.
    unsafe {
        let scales = &*by.scales.as_ptr().add(unit * ROW_UNIT).cast();
        for (t, &x_scale) in by.x_scales.iter().enumerate() {
            let dots = &*dots.add(t * ROW_UNIT).cast();
            let sums = &mut *sums.add((t * product.units + unit) * ROW_UNIT).cast();
            tiles.accumulate(dots, scales, x_scale, sums);
        }
    }
}

/// Whether the tiles compute what the kernel expects of them. A process asks once, because the tests of most machines run on an
/// emulation alone.
///
/// # Safety
/// The processor has AMX and AVX-512, and the process may use AMX.
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn works() -> bool {
    // SAFETY: the caller promises the processor.
    unsafe { works_with(&mut Instructions) }
}

/// # Safety
/// The tiles can be used.
#[inline(always)]
unsafe fn works_with<T: Tiles>(tiles: &mut T) -> bool {
    let levels = (0..=255u8).map(|level| level as i8).collect();
    let Ok(table) = Table::from_levels(8, 8, levels) else {
        return false;
    };
    let lookup = Lookup::new(&table);
    // A whole group with all vectors there are, and a short one with few.
    for (vectors, blocks, units) in [(ROWS, 2 * HALF, 9), (3, HALF + 1, 2)] {
        // SAFETY: the caller promises the tiles.
        if !unsafe { computes(tiles, &lookup, vectors, blocks, units) } {
            return false;
        }
    }
    true
}

/// Whether one product is right.
///
/// # Safety
/// The tiles can be used.
#[inline(always)]
unsafe fn computes<T: Tiles>(
    tiles: &mut T,
    lookup: &Lookup,
    vectors: usize,
    blocks: usize,
    units: usize,
) -> bool {
    let (width, rows) = (blocks * BLOCK_COLS, units * ROW_UNIT);
    let levels: Vec<u8> = (0..units * blocks * UNIT)
        .map(|i| (37 * i % 251) as u8)
        .collect();
    let x: Vec<i8> = (0..vectors * width)
        .map(|i| (53 * i % 249) as u8 as i8)
        .collect();
    let x_sums: Vec<i32> = (x.chunks_exact(width))
        .map(|x| x.iter().map(|&x| i32::from(x)).sum())
        .collect();
    let mut sums = vec![0.0; vectors * rows];
    let product = Product {
        lookup,
        levels: &levels,
        units,
        blocks,
        by: Factors {
            x: &x,
            stride: width,
            x_sums: &x_sums,
            // Their product is 1.
            x_scales: &vec![2.0; vectors],
            scales: &vec![0.5; rows],
        },
    };
    let held = Cell::new(None);
    // SAFETY: the caller promises the tiles, which have no shape yet.
    unsafe {
        multiply_with(tiles, &held, &product, &mut sums);
        release_with(tiles, &held);
    }
    let mut right = true;
    for (i, &sum) in sums.iter().enumerate() {
        let (x, row) = (&x[i / rows * width..][..width], i % rows);
        let first = row / ROW_UNIT * blocks * UNIT + row % ROW_UNIT * BLOCK_COLS;
        let mut dot = 0;
        for (column, &x) in x.iter().enumerate() {
            let at = first + column / BLOCK_COLS * UNIT + column % BLOCK_COLS;
            dot += i32::from(levels[at] as i8) * i32::from(x);
        }
        right &= sum == dot as f32;
    }
    right
}

/// See [`Ops::peak`].
///
/// # Safety
/// The processor has AMX, and the process may use it.
unsafe fn peak(products: u64) {
    let (levels, x) = ([3u8; ROWS * ROW_BYTES], [-5i8; ROWS * ROW_BYTES]);
    let mut config = Config::default();
    for tile in 0..8 {
        config.set(tile, ROWS, ROW_BYTES);
    }
    // SAFETY: the caller promises the processor; all tiles have 16 rows of 64 bytes, as have the arrays.
    unsafe {
        let mut tiles = Instructions;
        tiles.configure(&config);
        tiles.load::<6>(x.as_ptr().cast(), ROW_BYTES);
        tiles.load::<7>(levels.as_ptr(), ROW_BYTES);
        // Six sums: none is needed again before it is there.
        for _ in 0..products.div_ceil((6 * ROWS * ROW_UNIT * ROW_BYTES) as u64) {
            tiles.dot::<0, 6, 7>();
            tiles.dot::<1, 6, 7>();
            tiles.dot::<2, 6, 7>();
            tiles.dot::<3, 6, 7>();
            tiles.dot::<4, 6, 7>();
            tiles.dot::<5, 6, 7>();
        }
        tiles.release();
    }
    HELD.set(None);
}
