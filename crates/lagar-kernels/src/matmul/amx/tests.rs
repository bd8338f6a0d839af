//! The algorithm on an emulation of the instructions, bit for bit against the plain kernels and the reference.

use std::cell::{Cell, RefCell};
use std::iter;
use std::ops::Range;

use lagar_codec::reference;
use lagar_codec::{Activations, BLOCK_COLS, GROUP, ROW_UNIT, StageLayout, Table};
use proptest::prelude::*;

use super::super::int8::{Int8Task, Scratch};
use super::super::lookup::{Form, Lookup};
use super::super::portable;
use super::super::tasks::{Output, Tasks};
use super::super::tests::{KINDS, Owned, Random, same};
use super::super::tile::{Factors, Ops, Product, Tile, UNIT};
use super::emulation::Emulation;
use super::tiles::{Config, HALF, ROWS, Shape, Tiles};
use super::{OPS, multiply_with, release_with, works_with};
use crate::{Disjoint, Isa, Pool};

thread_local! {
    static EMULATION: RefCell<Emulation> = RefCell::default();
    static HELD: Cell<Option<Shape>> = const { Cell::new(None) };
}

/// AMX's operations without a processor that has it: all but the products are the plain ones.
const EMULATED: Ops = Ops {
    decode,
    together: OPS.together,
    multiply,
    release,
    ..portable::OPS
};

fn decode(tile: &Tile<'_>, units: Range<usize>, out: &mut [u8]) {
    let ops = if Isa::Avx512.is_available() {
        OPS
    } else {
        portable::OPS
    };
    // SAFETY: AMX's own needs AVX-512.
    unsafe { (ops.decode)(tile, units, out) };
}

fn multiply(product: &Product<'_>, sums: &mut [f32]) {
    EMULATION.with_borrow_mut(|tiles| {
        // No more than what belongs to the vectors of this product.
        let (stride, width) = (product.by.stride, product.blocks * BLOCK_COLS);
        let own = (product.by.x_sums.len() - 1) * stride + width;
        tiles.read_only(&product.by.x[..own], product.levels);
        // SAFETY: these tiles can be used anywhere, and have the shape that is held.
        HELD.with(|held| unsafe { multiply_with(tiles, held, product, sums) });
    });
}

fn release() {
    EMULATION.with_borrow_mut(|tiles| {
        // SAFETY: these tiles can be used anywhere.
        HELD.with(|held| unsafe { release_with(tiles, held) });
    });
}

/// How often tiles have been configured, and whether they have shapes.
fn state() -> (usize, bool) {
    EMULATION.with_borrow(|tiles| (tiles.configured, tiles.holds()))
}

/// Operands of one product.
struct Operands {
    lookup: Lookup,
    levels: Vec<i8>,
    x: Vec<i8>,
    stride: usize,
    x_scales: Vec<f32>,
    scales: Vec<f32>,
}

impl Operands {
    fn new(random: &mut Random, n: usize, units: usize, blocks: usize, kind: usize) -> Self {
        let lookup = Lookup::new(&random.table(4, kind));
        // Levels of a split table are within ±63.
        let most = if lookup.form == Form::Split { 63 } else { 127 };
        let stride = blocks * BLOCK_COLS + random.below(9);
        let mut signed = |len, least: i32, most: i32| -> Vec<i8> {
            (0..len)
                .map(|_| match random.below(8) {
                    0 => least as i8,
                    1 => most as i8,
                    _ => (least + random.below((most - least + 1) as usize) as i32) as i8,
                })
                .collect()
        };
        let least = if most == 63 { -63 } else { -128 };
        let levels = signed(units * blocks * UNIT, least, most);
        let x = signed((n - 1) * stride + blocks * BLOCK_COLS, -128, 127);
        Self {
            lookup,
            levels,
            x,
            stride,
            x_scales: random.floats(n),
            scales: random.floats(units * ROW_UNIT),
        }
    }

    /// The same sums by the plain kernel and by the emulated one.
    fn check(&self, random: &mut Random, what: &str) {
        let (n, rows) = (self.x_scales.len(), self.scales.len());
        let units = rows / ROW_UNIT;
        let blocks = self.levels.len() / (units * UNIT);
        let x_sum = |t: usize| -> i32 {
            let x = &self.x[t * self.stride..][..blocks * BLOCK_COLS];
            x.iter().map(|&x| i32::from(x)).sum()
        };
        let x_sums: Vec<i32> = (0..n).map(x_sum).collect();
        let before = random.floats(n * rows);
        let levels: Vec<u8> = self.levels.iter().map(|&level| level as u8).collect();
        let product = |levels, vectors: Range<usize>| Product {
            lookup: &self.lookup,
            levels,
            units,
            blocks,
            by: Factors {
                x: &self.x[vectors.start * self.stride..],
                stride: self.stride,
                x_sums: &x_sums[vectors.clone()],
                x_scales: &self.x_scales[vectors],
                scales: &self.scales,
            },
        };
        let mut expected = before.clone();
        for (t, sums) in expected.chunks_mut(rows).enumerate() {
            // SAFETY: it runs everywhere.
            unsafe { (portable::OPS.multiply)(&product(&levels, t..t + 1), sums) };
        }
        let mut found = before;
        multiply(&product(&levels, 0..n), &mut found);
        same(&found, &expected, what);
    }
}

#[test]
fn tiles_that_compute_something_else_are_found_out() {
    for mistaken in [false, true] {
        let mut tiles = Emulation::anywhere(mistaken);
        // SAFETY: these tiles can be used anywhere.
        assert_eq!(unsafe { works_with(&mut tiles) }, !mistaken);
        assert!(!tiles.holds());
    }
}

#[test]
fn every_shape_gives_the_bits_of_the_plain_kernel() {
    let mut random = Random(21);
    for n in 1..=ROWS {
        for blocks in 1..=2 * HALF {
            let (units, kind) = (1 + random.below(9), random.below(KINDS));
            let what = format!("{n} vectors, {units} units, {blocks} blocks, kind {kind}");
            // Shapes change from one product to the next without a release between them.
            Operands::new(&mut random, n, units, blocks, kind).check(&mut random, &what);
        }
    }
    release();
    for units in 1..=17 {
        let what = format!("{units} units");
        Operands::new(&mut random, 16, units, 32, 1).check(&mut random, &what);
    }
    release();
}

#[test]
fn extremes_do_not_saturate() {
    let mut random = Random(22);
    for kind in 0..KINDS {
        for (least, most) in [(-128, 127), (127, -128), (127, 127), (-128, -128)] {
            let mut operands = Operands::new(&mut random, 16, 4, 32, kind);
            let level = if operands.lookup.form == Form::Split {
                least / 2 + i8::from(least < 0)
            } else {
                least
            };
            operands.levels.fill(level);
            operands.x.fill(most);
            operands.check(&mut random, &format!("{level} · {most}"));
        }
    }
    release();
}

#[test]
fn tiles_keep_their_shapes_until_the_task_is_done() {
    let mut random = Random(23);
    release();
    let (before, held) = state();
    assert!(!held);
    for _ in 0..3 {
        Operands::new(&mut random, 16, 2, 32, 0).check(&mut random, "the same shape");
    }
    assert_eq!(state(), (before + 1, true));
    Operands::new(&mut random, 16, 2, 20, 0).check(&mut random, "fewer blocks");
    Operands::new(&mut random, 5, 2, 20, 0).check(&mut random, "fewer vectors");
    assert_eq!(state(), (before + 3, true));
    release();
    release();
    assert_eq!(state(), (before + 3, false));
}

#[test]
#[should_panic(expected = "(1..=most).contains")]
fn more_vectors_than_a_tile_has_rows_are_refused() {
    let mut random = Random(24);
    Operands::new(&mut random, ROWS + 1, 1, 1, 0).check(&mut random, "");
}

/// Tiles 0 to 2 with these rows and bytes of a row.
fn emulation(shapes: [(usize, usize); 3]) -> Emulation {
    let (mut tiles, mut config) = (Emulation::default(), Config::default());
    for (tile, (rows, row_bytes)) in shapes.into_iter().enumerate() {
        config.set(tile as u8, rows, row_bytes);
    }
    // SAFETY: these tiles can be used anywhere.
    unsafe { tiles.configure(&config) };
    tiles
}

#[test]
fn the_emulation_multiplies_signed_bytes() {
    // 1 × 8 by 8 × 2; a row of the second operand has 4 bytes for each of its columns.
    let (x, levels) = (
        [-128i8, 127, 1, 0, 0, 0, -1, 2],
        [
            255u8, 0, 0, 9, 0, 127, 0, 9, // to be multiplied with the first 4
            9, 9, 7, 0, 9, 9, 0, 200, // and with the others
        ],
    );
    let mut tiles = emulation([(1, 8), (1, 8), (2, 8)]);
    tiles.read_only(&x, &levels);
    let mut sums = [0; 2];
    // SAFETY: these tiles can be used anywhere; the arrays have as many bytes as the tiles.
    unsafe {
        tiles.zero::<0>();
        tiles.load::<1>(x.as_ptr().cast(), 8);
        tiles.load::<2>(levels.as_ptr(), 8);
        tiles.dot::<0, 1, 2>();
        tiles.dot::<0, 1, 2>();
        tiles.store::<0>(sums.as_mut_ptr(), 8);
    }
    assert_eq!(sums, [2 * (128 - 7), 2 * (127 * 127 - 2 * 56)]);
}

#[test]
#[should_panic(expected = "what is summed over")]
fn the_emulation_refuses_operands_that_do_not_fit() {
    // SAFETY: these tiles can be used anywhere.
    unsafe { emulation([(1, 8), (1, 8), (3, 8)]).dot::<0, 1, 2>() };
}

#[test]
#[should_panic(expected = "a tile without a shape")]
fn the_emulation_refuses_tiles_without_a_shape() {
    // SAFETY: these tiles can be used anywhere.
    unsafe { emulation([(1, 8), (1, 8), (0, 0)]).zero::<2>() };
}

/// A whole product of a stage, task by task.
fn stage_product(random: &mut Random, rows: usize, cols: usize, n: usize, table: Table) {
    let what = format!("{rows} × {cols}, n {n}, depth {}", table.depth());
    let owned = Owned::new(random, rows, cols, table);
    let width = StageLayout::groups_of(cols) * GROUP;
    let width = width.min(cols.next_multiple_of(BLOCK_COLS));
    let x = random.floats(n * width);
    let mut q = Activations::new(0, 0);
    reference::quantize_activations(&x, n, width, &mut q);
    let before = random.floats(n * rows);
    let (mut expected, mut y) = (before.clone(), before);
    reference::matmul_int8(&owned.reference(), &q, &mut expected, true);
    let stage = owned.stage();
    let tasks = Tasks::new(iter::once(stage.layout()), n, &Pool::new(1));
    for (_, task) in (0..tasks.len()).filter_map(|index| tasks.get(index)) {
        Int8Task {
            ops: EMULATED,
            stage: &stage,
            x: &q,
            task: &task,
            output: Output {
                y: Disjoint::new(&mut y),
                add: true,
            },
            scratch: &mut Scratch::default(),
        }
        .run(Isa::Portable);
        assert!(!state().1, "tiles are given back after {what}");
    }
    same(&y, &expected, &what);
}

#[test]
fn any_number_of_vectors_gives_the_reference() {
    let mut random = Random(25);
    let mut kinds = (0..KINDS).cycle();
    let mut widths = [128, 4, 60, 64, 68, 172, 252, 256, 300].into_iter().cycle();
    let mut depths = (1..=8).cycle();
    for n in (1..=33).chain([127, 128, 129]) {
        let (kind, depth) = (kinds.next().unwrap(), depths.next().unwrap());
        let table = random.table(depth, kind);
        let rows = 1 + random.below(300);
        stage_product(&mut random, rows, widths.next().unwrap(), n, table);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn products_equal_the_reference(
        seed: u64,
        rows in 1usize..600,
        cols in prop_oneof![1usize..200, Just(128), 200usize..500],
        n in 1usize..40,
        depth in 1u8..=8,
        kind in 0..KINDS,
    ) {
        let mut random = Random(seed);
        let table = random.table(depth, kind);
        stage_product(&mut random, rows, cols, n, table);
    }
}
