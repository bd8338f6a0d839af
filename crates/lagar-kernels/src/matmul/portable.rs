//! The integer kernels in plain Rust.

use std::hint::black_box;
use std::ops::Range;

use lagar_codec::{BLOCK_COLS, ROW_UNIT, scale_value};

use super::lookup::Lookup;
use super::tile::{Factors, Ops, Product, Tile, UNIT};

pub(super) const OPS: Ops = Ops {
    dot,
    few: |_| 1,
    several: None,
    decode,
    offset: |_| 0,
    together: 4,
    multiply,
    release: || {},
    scales,
    peak,
};

/// The value of every scale code.
pub(super) static SCALES: [f32; 256] = {
    let mut values = [0.0; 256];
    let mut code = 0;
    while code < 256 {
        values[code] = scale_value(code as u8);
        code += 1;
    }
    values
};

/// Decodes 64 windows: 8 of them lie in each `depth` bytes, and in the 8 bytes from there on.
#[inline(always)]
fn decode_unit(lookup: &Lookup, codes: &[u8; UNIT], out: &mut [i8; UNIT]) {
    let place = lookup.place();
    for (i, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let bytes = codes[i * place.depth..]
            .first_chunk()
            .expect("8 of 64 bytes");
        // With windows of `L = depth = 7` bits the last begins at bit 57.
        let word = u64::from_le_bytes(*bytes);
        for (j, out) in out.iter_mut().enumerate() {
            *out = lookup.levels[usize::from((word >> place.bit(j)) as u8)];
        }
    }
}

/// Calls `unit(u, b, levels)` for each of `units` and each block.
fn for_each(tile: &Tile<'_>, units: Range<usize>, mut unit: impl FnMut(usize, usize, &[i8; UNIT])) {
    let mut levels = [0; UNIT];
    for b in 0..tile.blocks() {
        for u in units.clone() {
            // SAFETY: `Tile::unit` says that these 64 bytes are in bounds.
            let codes = unsafe { &*tile.unit(u).add(b * tile.block_bytes()).cast() };
            decode_unit(tile.lookup, codes, &mut levels);
            unit(u - units.start, b, &levels);
        }
    }
}

/// Adds the products of 16 rows of 4 levels with 4 values.
#[inline(always)]
fn add(levels: &[i8; UNIT], x: &[i8; BLOCK_COLS], sums: &mut [i32; ROW_UNIT]) {
    for (sum, levels) in sums.iter_mut().zip(levels.as_chunks::<BLOCK_COLS>().0) {
        for j in 0..BLOCK_COLS {
            *sum += i32::from(levels[j]) * i32::from(x[j]);
        }
    }
}

/// `sums = fma(dots, scales · x_scale, sums)`.
fn accumulate(dots: &[i32], scales: &[f32], x_scale: f32, sums: &mut [f32]) {
    for ((sum, &dot), &scale) in sums.iter_mut().zip(dots).zip(scales) {
        *sum = (dot as f32).mul_add(scale * x_scale, *sum);
    }
}

fn dot(tile: &Tile<'_>, units: Range<usize>, by: &Factors<'_>, sums: &mut [f32]) {
    tile.check_dot(&units, (OPS.few)(tile.lookup), by, sums);
    let mut dots = [[0; ROW_UNIT]; 16];
    let x = by.x.as_chunks().0;
    for_each(tile, units, |u, b, levels| add(levels, &x[b], &mut dots[u]));
    accumulate(dots.as_flattened(), by.scales, by.x_scales[0], sums);
}

fn decode(tile: &Tile<'_>, units: Range<usize>, out: &mut [u8]) {
    tile.check_decode(&units, out);
    let out = out.as_chunks_mut::<UNIT>().0;
    for_each(tile, units, |u, b, levels| {
        out[u * tile.blocks() + b] = levels.map(|level| level as u8);
    });
}

fn multiply(product: &Product<'_>, sums: &mut [f32]) {
    product.check(sums);
    let by = &product.by;
    for (i, sums) in sums.chunks_exact_mut(ROW_UNIT).enumerate() {
        let (t, u) = (i / product.units, i % product.units);
        let levels = product.levels.as_chunks::<UNIT>().0[u * product.blocks..].iter();
        let x = by.x[t * by.stride..].as_chunks().0;
        let mut dots = [0; ROW_UNIT];
        for (levels, x) in levels.zip(&x[..product.blocks]) {
            add(&levels.map(|level| level as i8), x, &mut dots);
        }
        accumulate(&dots, &by.scales[u * ROW_UNIT..], by.x_scales[t], sums);
    }
}

/// See [`Ops::scales`].
pub(super) fn scales(codes: &[u8], out: &mut [f32]) {
    assert_eq!(codes.len(), out.len());
    for (out, &code) in out.iter_mut().zip(codes) {
        *out = SCALES[usize::from(code)];
    }
}

/// See [`Ops::peak`].
fn peak(products: u64) {
    let mut sums = [0; ROW_UNIT];
    for _ in 0..products.div_ceil(UNIT as u64) {
        add(&black_box([3; UNIT]), &[-5; BLOCK_COLS], &mut sums);
    }
    black_box(sums);
}
