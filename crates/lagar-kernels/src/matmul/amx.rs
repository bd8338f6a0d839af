//! Products of decoded levels with AMX, 16 vectors at a time; all else is AVX-512's.
//!
//! One instruction multiplies 16 vectors × 64 columns with 64 columns × 16 rows. Decoded levels lie as it wants its second
//! operand: 16 blocks of 64 bytes, each 16 rows × 4 columns, one after the other. A group of 128 columns is two such
//! steps. The vectors of both are loaded once and stay in two tiles; the levels of each unit of 16 rows go through two
//! more; the other four hold the sums of four units, so that a sum is not needed again before it is there.
//!
//! A new configuration waits for the tiles and takes long, so a thread keeps the shapes that it last used until its task is
//! done ([`super::tile::Ops::release`]).
//!
//! **No processor has run this yet.** Tests run the same algorithm on an emulation of the instructions.

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
use super::tile::{Factors, MOST, Ops, Product, UNIT};
use tiles::{
    Config, Instructions, LEVELS0, LEVELS1, ROW_BYTES, ROWS, STEP, Shape, Tiles, UNITS, X0, X1,
};

pub(super) const OPS: Ops = Ops {
    // From 5 vectors on they are multiplied by tiles. (Where that begins to pay has not been measured.)
    few: 4,
    together: MOST,
    multiply,
    release,
    peak,
    ..avx512::OPS
};

/// The sums of one unit as a tile stores them: those of 16 rows for each vector.
type Dots = [Line<[i32; ROW_UNIT]>; ROWS];

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
    product.check_up_to(MOST, sums);
    let shape = Shape::of(product);
    let mut dots = MaybeUninit::<[Dots; UNITS]>::uninit();
    let x = product.by.x.as_ptr().cast::<u8>();
    // SAFETY: the caller promises the tiles, whose shapes are those of the product from here on; by `Product::check_up_to`
    // each vector has 4 bytes for each block.
    unsafe {
        if held.replace(Some(shape)) != Some(shape) {
            tiles.configure(&shape.config());
        }
        tiles.load::<X0>(x, product.by.stride);
        if product.blocks > STEP {
            tiles.load::<X1>(x.add(STEP * BLOCK_COLS), product.by.stride);
        }
    }
    let mut unit = 0;
    while unit < product.units {
        // SAFETY: the tiles have the shapes of the product and hold its vectors, `dots` has room for the sums of four units,
        // and the units exist.
        unsafe {
            unit += match product.units - unit {
                4.. => multiply_units::<T, 4>(tiles, product, unit, dots.as_mut_ptr(), sums),
                2.. => multiply_units::<T, 2>(tiles, product, unit, dots.as_mut_ptr(), sums),
                _ => multiply_units::<T, 1>(tiles, product, unit, dots.as_mut_ptr(), sums),
            };
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

/// Calls a function for the tiles of the sums of `count` units. Their numbers are constants, so no loop counts them.
macro_rules! each_unit {
    ($count:ident, $function:ident::<$tiles:ident $(, $constant:ident)*>($($argument:expr),*)) => {
        $function::<$tiles, 0 $(, $constant)*>($($argument),*);
        if $count > 1 {
            $function::<$tiles, 1 $(, $constant)*>($($argument),*);
        }
        if $count > 2 {
            $function::<$tiles, 2 $(, $constant)*>($($argument),*);
            $function::<$tiles, 3 $(, $constant)*>($($argument),*);
        }
    };
}

/// Products of `U` (1, 2 or 4) units; returns `U`.
///
/// # Safety
/// The tiles have the shapes of the product, whose lengths are checked, and hold its vectors; it has units `unit..unit + U`;
/// `dots` is writable.
#[inline(always)]
unsafe fn multiply_units<T: Tiles, const U: usize>(
    tiles: &mut T,
    product: &Product<'_>,
    unit: usize,
    dots: *mut [Dots; UNITS],
    sums: &mut [f32],
) -> usize {
    let stride = product.blocks * UNIT;
    let dots = dots.cast::<Dots>();
    // SAFETY: the caller promises the tiles and room for the dots of 4 units; each unit has 64 bytes of levels for each
    // block.
    unsafe {
        let levels = product.levels.as_ptr().add(unit * stride);
        each_unit!(U, zero::<T>(tiles));
        each_unit!(U, add::<T, X0, LEVELS0>(tiles, levels, stride));
        if product.blocks > STEP {
            let levels = levels.add(STEP * UNIT);
            each_unit!(U, add::<T, X1, LEVELS1>(tiles, levels, stride));
        }
        each_unit!(U, store::<T>(tiles, dots));
    }
    let by = &product.by;
    let offset = i32::from((OPS.offset)(product.lookup));
    for (t, (&x_sum, &x_scale)) in by.x_sums.iter().zip(by.x_scales).enumerate() {
        let first = (t * product.units + unit) * ROW_UNIT;
        let sums = sums[first..][..U * ROW_UNIT].as_chunks_mut().0;
        let scales = by.scales[unit * ROW_UNIT..][..U * ROW_UNIT].as_chunks().0;
        for (u, (sums, scales)) in sums.iter_mut().zip(scales).enumerate() {
            // SAFETY: the dots of these units and of all vectors have been stored.
            let dots = unsafe { &(*dots.add(u).cast::<Line<[i32; ROW_UNIT]>>().add(t)).0 };
            // SAFETY: the caller promises the vectors that go with the tiles.
            unsafe { tiles.accumulate(dots, offset * x_sum, scales, x_scale, sums) };
        }
    }
    U
}

/// # Safety
/// The tile can be used.
#[inline(always)]
unsafe fn zero<T: Tiles, const UNIT_TILE: u8>(tiles: &mut T) {
    // SAFETY: the caller promises it.
    unsafe { tiles.zero::<UNIT_TILE>() }
}

/// Adds the products of a unit's levels with vectors; `levels` are those of the first unit, `stride` bytes of each.
///
/// # Safety
/// The tiles can be used, `X` has been loaded, and the unit's levels are readable.
#[inline(always)]
unsafe fn add<T: Tiles, const UNIT_TILE: u8, const X: u8, const LEVELS: u8>(
    tiles: &mut T,
    levels: *const u8,
    stride: usize,
) {
    // SAFETY: the caller promises it.
    unsafe {
        tiles.load::<LEVELS>(levels.add(usize::from(UNIT_TILE) * stride), UNIT);
        tiles.dot::<UNIT_TILE, X, LEVELS>();
    }
}

/// Stores the sums of a unit to its place.
///
/// # Safety
/// The tile can be used, and `dots` has room for it.
#[inline(always)]
unsafe fn store<T: Tiles, const UNIT_TILE: u8>(tiles: &mut T, dots: *mut Dots) {
    // SAFETY: the caller promises it.
    unsafe {
        tiles.store::<UNIT_TILE>(dots.add(usize::from(UNIT_TILE)).cast(), ROW_BYTES);
    }
}

/// Whether the tiles compute what the kernel expects of them. A process asks once before it relies on instructions that have
/// been tried on an emulation only.
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
    for (vectors, blocks, units) in [(MOST, 2 * STEP, UNITS + 1), (3, STEP + 1, 2)] {
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
    let offset = i32::from((OPS.offset)(lookup));
    let mut right = true;
    for (i, &sum) in sums.iter().enumerate() {
        let (x, row) = (&x[i / rows * width..][..width], i % rows);
        let first = row / ROW_UNIT * blocks * UNIT + row % ROW_UNIT * BLOCK_COLS;
        let mut dot = 0;
        for (column, &x) in x.iter().enumerate() {
            let at = first + column / BLOCK_COLS * UNIT + column % BLOCK_COLS;
            dot += (i32::from(levels[at]) - offset) * i32::from(x);
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
