//! Every path against `lagar_codec::reference`, bit for bit.

use lagar_codec::reference::{self, Stage};
use lagar_codec::{Activations, Bent, CODES_PADDING, Split, StageLayout, Table, Transform};
use proptest::prelude::*;

use super::lookup::{Form, Lookup};
use crate::{Cpu, Isa, KernelError, WindowProduct, WindowStage};

/// A small generator: tests need many bytes, not good ones.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let x = self.0 ^ self.0 >> 29;
        x.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 24
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        self.next() as usize % n
    }

    fn float(&mut self) -> f32 {
        (self.next() & 0xffff) as f32 / 32768.0 - 1.0
    }

    pub(super) fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }

    pub(super) fn transform(&mut self, width: usize) -> Transform {
        let mut perm: Vec<u32> = (0..width as u32).collect();
        for i in 1..width {
            perm.swap(i, self.below(i + 1));
        }
        let signs = (0..width).map(|_| self.below(2) == 1).collect();
        Transform::new(width, perm, signs).unwrap()
    }

    /// A table of one of the kinds that kernels tell apart.
    pub(super) fn table(&mut self, depth: u8, kind: usize) -> Table {
        match kind {
            0 => Table::trained(depth, depth).clone(),
            1 => Table::trained(depth, 8).clone(),
            2 => self.free(depth, depth),
            3 => self.free(depth, 8),
            4 => {
                let mut half = || std::array::from_fn(|_| self.below(31) as i8 - 15);
                let (a, b) = (half(), half());
                let mut bends = [0, 1].map(|_| self.below(32) as u8);
                bends.sort_unstable();
                let bent = Bent { a, b, bends };
                let levels = (0..=255).map(|w| bent.level(w) as i8).collect();
                Table::from_levels(depth, 8, levels).unwrap()
            }
            _ => {
                let mut half = || std::array::from_fn(|_| self.below(63) as i8 - 31);
                let (a, b) = (half(), half());
                let split = Split {
                    a,
                    b,
                    a_sign_bit: 4 + self.below(4) as u8,
                    b_sign_bit: self.below(4) as u8,
                };
                Table::from_split(depth, split).unwrap()
            }
        }
    }

    /// All 256 bytes occur among the levels, −128 included.
    fn free(&mut self, depth: u8, window: u8) -> Table {
        let levels = (0..1 << window).map(|_| self.next() as i8).collect();
        Table::from_levels(depth, window, levels).unwrap()
    }
}

/// The kinds of [`Random::table`].
pub(super) const KINDS: usize = 6;

pub(super) struct Owned {
    layout: StageLayout,
    table: Table,
    codes: Vec<u8>,
    scales: Vec<u8>,
    row_scales: Vec<u8>,
}

impl Owned {
    pub(super) fn new(random: &mut Random, rows: usize, cols: usize, table: Table) -> Self {
        let depths: Vec<u8> = (0..cols.div_ceil(128))
            .map(|_| {
                if random.below(4) == 0 {
                    0
                } else {
                    table.depth()
                }
            })
            .collect();
        Self::with_depths(random, rows, cols, &depths, table)
    }

    fn with_depths(
        random: &mut Random,
        rows: usize,
        cols: usize,
        depths: &[u8],
        table: Table,
    ) -> Self {
        let layout = StageLayout::new(rows, cols, depths).unwrap();
        let mut codes = random.bytes(layout.codes_len());
        for tr in 0..layout.tile_rows() {
            for g in (0..layout.groups()).filter(|&g| depths[g] > 0) {
                codes[layout.codes_offset(tr, g)] = 0;
            }
        }
        let end = codes.len() - CODES_PADDING;
        codes[end..].fill(0);
        let mut scales = random.bytes(layout.scales_len());
        for scale in &mut scales {
            // Mostly plausible scales, some the code of zero.
            *scale = if *scale > 240 { 255 } else { *scale % 64 };
        }
        let row_scales = (0..layout.padded_rows())
            .flat_map(|_| ((random.float().to_bits() >> 16) as u16).to_le_bytes())
            .collect();
        Self {
            layout,
            table,
            codes,
            scales,
            row_scales,
        }
    }

    pub(super) fn reference(&self) -> Stage<'_> {
        Stage {
            layout: &self.layout,
            table: &self.table,
            codes: &self.codes,
            scales: &self.scales,
            row_scales: &self.row_scales,
        }
    }

    pub(super) fn stage(&self) -> WindowStage<'_> {
        let Self {
            layout,
            table,
            codes,
            scales,
            row_scales,
        } = self;
        WindowStage::new(layout, table, codes, scales, row_scales).unwrap()
    }
}

/// Asserts that two vectors have the same bits.
#[track_caller]
pub(super) fn same(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let differs = |(f, e): (&f32, &f32)| f.to_bits() != e.to_bits();
    if let Some(i) = found.iter().zip(expected).position(differs) {
        let (found, expected) = (found[i], expected[i]);
        panic!("{what}: element {i} is {found:e}, not {expected:e}");
    }
}

pub(super) fn cpus(threads: usize) -> Vec<Cpu> {
    Isa::available()
        .into_iter()
        .map(|isa| Cpu::new(isa, threads))
        .collect()
}

/// Everything that multiplies one stage, on every instruction set.
fn check(random: &mut Random, rows: usize, cols: usize, n: usize, table: Table, cpus: &[Cpu]) {
    let what = format!(
        "{rows} × {cols}, n {n}, depth {}, window {}, split {:?}",
        table.depth(),
        table.window(),
        table.split()
    );
    let owned = Owned::new(random, rows, cols, table);
    let (reference, stage) = (owned.reference(), owned.stage());
    let width = owned.layout.padded_cols();
    let x = random.floats(n * width);
    let mut q = Activations::new(0, 0);
    reference::quantize_activations(&x, n, width, &mut q);
    let before = random.floats(n * rows);
    for add in [false, true] {
        let (mut int8, mut float) = (before.clone(), before.clone());
        reference::matmul_int8(&reference, &q, &mut int8, add);
        reference::matmul_f32(&reference, &x, n, &mut float, add);
        for cpu in cpus {
            let mut y = before.clone();
            cpu.window_matmul_int8(&stage, &q, &mut y, add);
            same(&y, &int8, &format!("int8 on {}, {what}", cpu.isa()));
            y.copy_from_slice(&before);
            cpu.window_matmul_f32(&stage, &x, n, &mut y, add);
            same(&y, &float, &format!("f32 on {}, {what}", cpu.isa()));
        }
    }
    let weights = reference::dequantize(&reference);
    let wanted: Vec<u32> = (0..3).map(|_| random.below(rows) as u32).collect();
    let mut found = vec![f32::NAN; 3 * width];
    cpus[0].window_rows(&stage, &wanted, &mut found);
    for (row, found) in wanted.iter().zip(found.chunks(width)) {
        let expected = &weights[*row as usize * width..][..width];
        same(found, expected, &format!("row {row}, {what}"));
    }
}

#[test]
fn every_depth_and_kind_of_table_multiplies_as_the_reference() {
    let cpus = cpus(1);
    let mut random = Random(1);
    for depth in 1..=8 {
        for kind in 0..KINDS {
            for (rows, cols, n) in [(300, 172, 1), (270, 300, 3), (16, 128, 9)] {
                let table = random.table(depth, kind);
                check(&mut random, rows, cols, n, table, &cpus);
            }
        }
    }
}

#[test]
fn any_number_of_vectors_meets_any_number_of_blocks() {
    let cpus = cpus(1);
    let mut random = Random(6);
    let mut blocks = [1, 2, 3, 7, 31, 32, 33].into_iter().cycle();
    for depth in 1..=8 {
        for kind in 0..KINDS {
            // Not a multiple of the number of widths, so every number of vectors meets each of them.
            for (n, blocks) in (1..=9).zip(&mut blocks) {
                let (rows, width) = (1 + random.below(100), 4 * blocks);
                let table = random.table(depth, kind);
                let depths = vec![depth; StageLayout::groups_of(width)];
                let owned = Owned::with_depths(&mut random, rows, width, &depths, table);
                let x = random.floats(n * width);
                let mut q = Activations::new(0, 0);
                reference::quantize_activations(&x, n, width, &mut q);
                let mut expected = vec![0.0; n * rows];
                reference::matmul_int8(&owned.reference(), &q, &mut expected, false);
                for cpu in &cpus {
                    let mut y = vec![0.0; n * rows];
                    cpu.window_matmul_int8(&owned.stage(), &q, &mut y, false);
                    let what = format!("depth {depth}, kind {kind}, {rows} × {width}, n {n}");
                    same(&y, &expected, &format!("{what} on {}", cpu.isa()));
                }
            }
        }
    }
}

#[test]
fn extreme_levels_meet_extreme_activations_without_saturation() {
    let cpus = cpus(1);
    let all = |level| vec![level; 256];
    for level in [-128, 127] {
        let table = Table::from_levels(8, 8, all(level)).unwrap();
        extreme(table, i32::from(level), &cpus);
    }
    // Both halves are positive where windows are 0, negative where they are 255.
    let split = Split {
        a: [32; 16],
        b: [31; 16],
        a_sign_bit: 7,
        b_sign_bit: 3,
    };
    for (depth, level) in [(2, -63), (2, 63), (4, -63), (4, 63)] {
        extreme(Table::from_split(depth, split).unwrap(), level, &cpus);
    }
}

/// Else instruction sets without look-ups of 64 bytes would take sixteen for each weight.
#[test]
fn no_trained_table_of_whole_windows_is_free() {
    let form = |depth| Lookup::new(Table::trained(depth, 8)).form;
    assert_eq!([1, 2, 3, 4].map(form), [Form::Split; 4]);
    assert_eq!([5, 6, 7].map(form), [Form::Bent; 3]);
}

/// A stage whose levels are all `level` against activations of ±127, and against some of which 8 products by 63 just fit into 16 bits and
/// just do not.
fn extreme(table: Table, level: i32, cpus: &[Cpu]) {
    let mut random = Random(2);
    let depth = table.depth();
    let mut owned = Owned::with_depths(&mut random, 48, 128, &[depth], table);
    let end = owned.codes.len() - CODES_PADDING;
    owned.codes[1..end].fill(if level < 0 { 255 } else { 0 });
    for x in [-127, -66, -65, 65, 66, 127] {
        for n in [1, 4, 5] {
            let mut q = Activations::new(n, 128);
            q.q.fill(x);
            q.scale.fill(1.0);
            q.sum.fill(128 * i32::from(x));
            let mut expected = vec![0.0; n * 48];
            reference::matmul_int8(&owned.reference(), &q, &mut expected, false);
            for cpu in cpus {
                let mut y = vec![0.0; n * 48];
                cpu.window_matmul_int8(&owned.stage(), &q, &mut y, false);
                let what = format!("depth {depth}, {n} at {level} · {x}");
                same(&y, &expected, &format!("{what} on {}", cpu.isa()));
            }
        }
    }
}

#[test]
fn threads_and_batches_do_not_change_a_bit() {
    let mut random = Random(3);
    for (rows, n) in [(100, 1), (700, 1), (1000, 7), (300, 27), (300, 150)] {
        let table = random.table(2, 1);
        let owned = Owned::new(&mut random, rows, 260, table);
        let x = random.floats(n * 260);
        let mut q = Activations::new(0, 0);
        reference::quantize_activations(&x, n, 260, &mut q);
        let mut expected = vec![0.0; n * rows];
        reference::matmul_int8(&owned.reference(), &q, &mut expected, false);
        for threads in [1, 2, 3, 5] {
            for cpu in cpus(threads) {
                let mut y = vec![0.0; n * rows];
                cpu.window_matmul_int8(&owned.stage(), &q, &mut y, false);
                same(&y, &expected, &format!("{}, {threads} threads", cpu.isa()));
            }
        }
    }
}

#[test]
fn products_together_are_what_they_are_alone() {
    let mut random = Random(7);
    let width = 260;
    // One product has two stages, of different depths; one is added to what is there; one has fewer rows than a task.
    let shapes: [(usize, &[u8], bool); 4] = [
        (300, &[2], false),
        (20, &[3], false),
        (700, &[2, 1], false),
        (257, &[4, 4], true),
    ];
    let owned = shapes.map(|(rows, depths, _)| {
        let stages = depths.iter().map(|&depth| {
            let table = random.table(depth, 1);
            Owned::new(&mut random, rows, width, table)
        });
        stages.collect::<Vec<_>>()
    });
    let stages: Vec<Vec<_>> = (owned.iter())
        .map(|owned| owned.iter().map(Owned::stage).collect())
        .collect();
    for n in [1, 6, 140] {
        let x = random.floats(n * width);
        let mut q = Activations::new(0, 0);
        reference::quantize_activations(&x, n, width, &mut q);
        let before = shapes.map(|(rows, ..)| random.floats(n * rows));
        let (mut int8, mut float) = (before.clone(), before.clone());
        for (i, (_, _, add)) in shapes.into_iter().enumerate() {
            for (s, stage) in owned[i].iter().enumerate() {
                reference::matmul_int8(&stage.reference(), &q, &mut int8[i], add || s > 0);
                reference::matmul_f32(&stage.reference(), &x, n, &mut float[i], add || s > 0);
            }
        }
        for threads in [1, 3] {
            for cpu in cpus(threads) {
                for (bytes, expected) in [(true, &int8), (false, &float)] {
                    let mut found = before.clone();
                    let mut products: Vec<_> = (found.iter_mut().zip(&stages).zip(shapes))
                        .map(|((y, stages), (_, _, add))| WindowProduct { stages, y, add })
                        .collect();
                    match bytes {
                        true => cpu.window_matmuls_int8(&mut products, &q),
                        false => cpu.window_matmuls_f32(&mut products, &x, n),
                    }
                    for (found, expected) in found.iter().zip(expected) {
                        let what = format!("{n} on {}, {threads} threads", cpu.isa());
                        same(found, expected, &what);
                    }
                }
            }
        }
    }
}

#[test]
fn no_vectors_give_nothing() {
    let mut random = Random(4);
    let table = random.table(2, 1);
    let owned = Owned::new(&mut random, 20, 20, table);
    for cpu in cpus(2) {
        cpu.window_matmul_int8(&owned.stage(), &Activations::new(0, 20), &mut [], false);
        cpu.window_matmul_f32(&owned.stage(), &[], 0, &mut [], true);
        cpu.window_matmuls_f32(&mut [], &[1.0; 20], 1);
        cpu.window_rows(&owned.stage(), &[], &mut []);
    }
}

#[test]
fn a_stage_of_the_wrong_length_or_depth_is_refused() {
    let mut random = Random(5);
    let table = random.table(3, 1);
    let owned = Owned::new(&mut random, 20, 20, table);
    let Owned {
        layout,
        table,
        codes,
        scales,
        row_scales,
    } = &owned;
    let short = &codes[..codes.len() - 1];
    assert!(matches!(
        WindowStage::new(layout, table, short, scales, row_scales),
        Err(KernelError::StageLength { what: "codes", .. })
    ));
    let other = StageLayout::new(20, 20, &[4]).unwrap();
    let codes = vec![0; other.codes_len()];
    let scales = vec![0; other.scales_len()];
    assert!(matches!(
        WindowStage::new(&other, table, &codes, &scales, row_scales),
        Err(KernelError::StageDepth {
            group: 0,
            depth: 4,
            table_depth: 3
        })
    ));
}

/// Vectors with what makes rounding hard: zeros, ties, tiny values, infinity, NaN.
fn hard(random: &mut Random, n: usize) -> Vec<f32> {
    let kind = random.below(12);
    (0..n)
        .map(|_| match (kind, random.below(40)) {
            (0, _) => 0.0,
            (1, _) => random.float() * 1e-38,
            (2, _) => (random.below(255) as f32 - 127.0) / 2.0,
            (3, 0) => f32::NAN,
            (4, 0) => f32::INFINITY,
            (5, 0) => -f32::INFINITY,
            (6, _) => random.float() * 1e38,
            _ => random.float(),
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn products_equal_the_reference(
        seed: u64,
        rows in 1usize..600,
        cols in prop_oneof![1usize..200, Just(1), Just(4), Just(6), Just(64), Just(172), 200usize..500],
        n in 1usize..12,
        depth in 1u8..=8,
        kind in 0..KINDS,
        threads in 1usize..4,
    ) {
        let mut random = Random(seed);
        let table = random.table(depth, kind);
        check(&mut random, rows, cols, n, table, &cpus(threads));
    }

    #[test]
    fn transforms_equal_the_reference(seed: u64, width in 1usize..700, n in 1usize..4, many: bool) {
        let mut random = Random(seed);
        let n = if many { n * 100 } else { n };
        let t = random.transform(width);
        let padded = t.padded_width();
        let x = random.floats(n * width);
        let (mut there, mut back) = (vec![0.0; n * padded], vec![0.0; n * width]);
        for v in 0..n {
            let there = &mut there[v * padded..(v + 1) * padded];
            t.apply(&x[v * width..(v + 1) * width], there);
            t.apply_transpose(there, &mut back[v * width..(v + 1) * width]);
        }
        for cpu in cpus(2) {
            let mut out = vec![f32::NAN; n * padded];
            cpu.transform(&t, &x, n, &mut out);
            same(&out, &there, "there");
            let (mut rounded, mut expected) = (Activations::new(0, 0), Activations::new(0, 0));
            cpu.transform_to_bytes(&t, &x, n, &mut rounded);
            reference::quantize_activations(&there, n, padded, &mut expected);
            prop_assert!(rounded == expected);
            let mut out = vec![f32::NAN; n * width];
            cpu.transform_transpose(&t, &there, n, &mut out);
            same(&out, &back, "back");
        }
    }

    #[test]
    fn rounding_equals_the_reference(seed: u64, blocks in 1usize..100, n in 1usize..5) {
        let mut random = Random(seed);
        let width = 4 * blocks;
        let x: Vec<f32> = (0..n).flat_map(|_| hard(&mut random, width)).collect();
        let mut expected = Activations::new(0, 0);
        reference::quantize_activations(&x, n, width, &mut expected);
        for cpu in cpus(1) {
            let mut found = Activations::new(0, 0);
            cpu.quantize(&x, n, width, &mut found);
            prop_assert_eq!(&found.q, &expected.q);
            prop_assert_eq!(&found.sum, &expected.sum);
            let nan = |scales: &[f32]| scales.iter().map(|s| s.is_nan()).collect::<Vec<_>>();
            prop_assert_eq!(nan(&found.scale), nan(&expected.scale));
            for (found, expected) in found.scale.iter().zip(&expected.scale) {
                prop_assert!(found.is_nan() || found.to_bits() == expected.to_bits());
            }
        }
    }
}
