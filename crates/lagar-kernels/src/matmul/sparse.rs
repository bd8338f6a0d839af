//! Products of sparse stages with vectors in the space of the input.
//!
//! Every sum runs over the entries of its row in order: `acc = fma(value, x, acc)`. For a few vectors the
//! lanes are the 16 rows of a band, whose entries are stored side by side, and `x` is gathered. For more
//! the lanes are 16 vectors: then `x` is turned over once, so that a column of it is one load.

use std::cell::Cell;
use std::ops::Range;
use std::slice;

use lagar_codec::{HALF_SCALE, ROW_UNIT, SparseLayout, half_value};

use super::stage::check_length;
use crate::simd::{Kernel, LANES, Simd};
use crate::{Cpu, Disjoint, KernelError};

/// From this many vectors on, lanes are vectors (`bench/record/stage-kinds.md`).
const MANY: usize = 10;
/// Vectors that are turned over at a time: they stay in the second-level cache.
const VECTORS: usize = 64;
/// Groups of 16 vectors whose sums are in registers.
const GROUPS: usize = 4;
/// Products below which waking a thread costs more than it brings.
const PARALLEL_FROM: usize = 1 << 12;
/// Tasks per thread that even out threads of different speed.
const TASKS_PER_THREAD: usize = 4;

/// One column of 16 vectors, or one row of 16 sums.
type Lanes = [f32; LANES];

thread_local! {
    static TURNED: Cell<Vec<Lanes>> = const { Cell::new(Vec::new()) };
}

/// One sparse stage of a linear, ready to be multiplied with.
///
/// Whatever the bytes are, no kernel reads outside of them: an entry beyond the last column counts as
/// one in the last, or not at all. ([`SparseLayout::check`] finds such entries.)
#[derive(Clone, Copy, Debug)]
pub struct SparseStage<'a> {
    layout: &'a SparseLayout,
    gaps: &'a [u8],
    values: &'a [u8],
}

impl<'a> SparseStage<'a> {
    /// A stage of these gaps and values, as [`SparseLayout`] describes them.
    ///
    /// # Errors
    ///
    /// If a length is not the one that the layout has.
    pub fn new(
        layout: &'a SparseLayout,
        gaps: &'a [u8],
        values: &'a [u8],
    ) -> Result<Self, KernelError> {
        let shape = (layout.rows(), layout.cols());
        check_length(shape, "gaps", layout.gaps_len(), gaps)?;
        check_length(shape, "values", layout.values_len(), values)?;
        Ok(Self {
            layout,
            gaps,
            values,
        })
    }

    /// The stage's shape and layout.
    pub fn layout(&self) -> &'a SparseLayout {
        self.layout
    }

    /// Calls `entry(row in the band, column, value)` for the entries of a band, those beyond the last
    /// column left out.
    fn for_each(&self, band: usize, mut entry: impl FnMut(usize, usize, f32)) {
        let cols = self.layout.cols();
        let each = |row, column, value| {
            if column < cols {
                entry(row, column, half_value(value));
            }
            true
        };
        self.layout.for_each(band, self.gaps, self.values, each);
    }
}

impl Cpu {
    /// `y[v, r] += Σ_c s[r, c] x[v, c]` in f32: `x` is `n × cols`, not transformed, `y` `n × rows`.
    /// [`lagar_codec::reference::sparse_matmul`] defines the bits.
    ///
    /// # Panics
    ///
    /// If `x` does not have `n · cols` values or `y` not `n · rows`.
    pub fn sparse_matmul(&self, w: &SparseStage<'_>, x: &[f32], n: usize, y: &mut [f32]) {
        let (rows, cols) = (w.layout.rows(), w.layout.cols());
        assert_eq!(x.len(), n * cols, "vectors × columns");
        assert_eq!(y.len(), n * rows, "vectors × rows");
        let few = if n < MANY { n } else { 0 };
        for v in 0..few {
            let x = &x[v * cols..(v + 1) * cols];
            let y = Disjoint::new(&mut y[v * rows..(v + 1) * rows]);
            self.bands(w, 1, &|bands| self.isa().dispatch(ByRow { w, x, bands, y }));
        }
        let vectors = x[few * cols..].chunks(VECTORS * cols);
        for (x, y) in vectors.zip(y[few * rows..].chunks_mut(VECTORS * rows)) {
            let n = x.len() / cols;
            let mut turned = TURNED.take();
            let room = n.div_ceil(LANES) * cols;
            if turned.len() < room {
                turned.resize(room, [0.0; LANES]);
            }
            self.pool().chunks(&mut turned[..room], cols, |group, out| {
                let x = &x[group * LANES * cols..];
                self.isa().dispatch(Turn { x, cols, out });
            });
            let y = Disjoint::new(y);
            let x = &turned[..room];
            self.bands(w, n, &|bands| {
                self.isa().dispatch(ByVector { w, x, n, bands, y });
            });
            TURNED.set(turned);
        }
    }

    /// Cuts the bands of a stage into tasks and does `work` for each of them, on any thread.
    fn bands(&self, w: &SparseStage<'_>, n: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
        let bands = w.layout.bands();
        let tasks = match w.layout.entries() * n < PARALLEL_FROM {
            true => 1,
            false => bands.min(self.threads() * TASKS_PER_THREAD),
        };
        let size = bands.div_ceil(tasks);
        self.pool().run(tasks, &|task| {
            let first = bands.min(task * size);
            work(first..bands.min(first + size));
        });
    }

    /// Adds consecutive rows of a stage to `out`, `rows.len() × cols`, as
    /// [`lagar_codec::reference::add_sparse`] does. Works on the calling thread.
    ///
    /// # Panics
    ///
    /// If the rows are not the stage's or do not begin at a multiple of 16, or `out` has not the length
    /// above.
    pub fn add_sparse(&self, w: &SparseStage<'_>, rows: Range<usize>, out: &mut [f32]) {
        let cols = w.layout.cols();
        assert!(rows.start <= rows.end && rows.end <= w.layout.rows());
        assert!(rows.start.is_multiple_of(ROW_UNIT), "whole bands of rows");
        assert_eq!(out.len(), rows.len() * cols, "rows × columns");
        let bands = rows.start / ROW_UNIT..rows.end.div_ceil(ROW_UNIT);
        for (band, out) in bands.zip(out.chunks_mut(ROW_UNIT * cols)) {
            w.for_each(band, |row, column, value| {
                if let Some(out) = out.get_mut(row * cols + column) {
                    *out += value;
                }
            });
        }
    }

    /// Adds single rows of a stage to `out`, `rows.len() × cols`.
    ///
    /// # Panics
    ///
    /// If the stage has no such row, or `out` not the length above.
    pub fn add_sparse_rows(&self, w: &SparseStage<'_>, rows: &[u32], out: &mut [f32]) {
        let cols = w.layout.cols();
        assert_eq!(out.len(), rows.len() * cols, "rows × columns");
        for (&row, out) in rows.iter().zip(out.chunks_mut(cols)) {
            let row = row as usize;
            assert!(row < w.layout.rows(), "row {row} of {}", w.layout.rows());
            w.for_each(row / ROW_UNIT, |r, column, value| {
                if r == row % ROW_UNIT {
                    out[column] += value;
                }
            });
        }
    }
}

/// The product of some bands with one vector, a row a lane.
struct ByRow<'a> {
    w: &'a SparseStage<'a>,
    x: &'a [f32],
    bands: Range<usize>,
    y: Disjoint<'a, f32>,
}

impl Kernel for ByRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.w.layout.gap_bytes() {
            1 => self.bands::<S, 1>(s),
            _ => self.bands::<S, 2>(s),
        }
    }
}

impl ByRow<'_> {
    #[inline(always)]
    fn bands<S: Simd, const GAP: usize>(&self, s: S) {
        // SAFETY: both types are 4 bytes of any value, and of the same alignment.
        let x = unsafe { slice::from_raw_parts(self.x.as_ptr().cast::<u32>(), self.x.len()) };
        let (zero, one) = (s.splat_u32(0), s.splat_u32(1));
        // A lane that has no entry is not refilled.
        let full = s.splat_u32(1 << 16);
        let (low, high) = (s.splat_u32(0x7fff), s.splat_u32(0x8000));
        let scale = s.splat(f32::from_bits(HALF_SCALE));
        let rows = self.w.layout.rows();
        for band in self.bands.clone() {
            let counts = self.w.layout.counts(band);
            let steps = counts.iter().copied().max().unwrap_or(0);
            let number = s.load(&counts.map(f32::from));
            let count = s.load_u32(&counts.map(u32::from));
            let mut at = self.w.layout.entries_of(band..band).start;
            let mut column = s.splat_u32(u32::MAX);
            let mut sum = s.splat(0.0);
            for step in 0..steps {
                let here = s.at_least(count, s.splat_u32(u32::from(step) + 1));
                let slots = s.choose(here, zero, full);
                let (gap, _) = s.refill(slots, &words::<GAP>(self.w.gaps, at));
                let (half, taken) = s.refill(slots, &words::<2>(self.w.values, at));
                at += taken;
                column = s.choose(here, s.plus(column, s.plus(gap, one)), column);
                let x = s.of_bits(s.look_up(x, column));
                let bits = s.or(s.left(s.and(half, low), 13), s.left(s.and(half, high), 16));
                let value = s.mul(s.of_bits(bits), scale);
                let active = s.less(s.splat(f32::from(step)), number);
                sum = s.select(active, s.fma(value, x, sum), sum);
            }
            let first = band * ROW_UNIT;
            // SAFETY: every band is in one task.
            let y = unsafe { self.y.slice(first..rows.min(first + ROW_UNIT)) };
            s.store_partial(s.add(s.load_partial(y), sum), y);
        }
    }
}

/// 16 numbers of `SIZE` bytes from the `at`-th on, as 16 bits; zeros behind the last.
#[inline(always)]
fn words<const SIZE: usize>(bytes: &[u8], at: usize) -> [[u8; 2]; LANES] {
    let from = &bytes[(at * SIZE).min(bytes.len())..];
    let mut words = [[0; 2]; LANES];
    if SIZE == 2 {
        if let Some(whole) = from.first_chunk::<{ 2 * LANES }>() {
            words.as_flattened_mut().copy_from_slice(whole);
        } else {
            words.as_flattened_mut()[..from.len()].copy_from_slice(from);
        }
    } else if let Some(whole) = from.first_chunk::<LANES>() {
        words = whole.map(|byte| [byte, 0]);
    } else {
        for (word, &byte) in words.iter_mut().zip(from) {
            word[0] = byte;
        }
    }
    words
}

/// Up to 16 vectors of `cols` values, turned over: `out[c]` has value `c` of each, 0 for those missing.
struct Turn<'a> {
    x: &'a [f32],
    cols: usize,
    out: &'a mut [Lanes],
}

impl Kernel for Turn<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, cols, out } = self;
        let vectors = (x.len() / cols).min(LANES);
        for (first, out) in (0..cols).step_by(LANES).zip(out.chunks_mut(LANES)) {
            let mut rows = [[0.0; LANES]; LANES];
            for (row, x) in rows[..vectors].iter_mut().zip(x.chunks(cols)) {
                row[..out.len()].copy_from_slice(&x[first..first + out.len()]);
            }
            let mut turned = [0.0; LANES * LANES];
            s.store_rows(&rows, &mut turned, LANES);
            out.copy_from_slice(&turned.as_chunks().0[..out.len()]);
        }
    }
}

/// The product of some bands with `n` vectors that were turned over, a vector a lane.
struct ByVector<'a> {
    w: &'a SparseStage<'a>,
    /// For each 16 vectors, the columns.
    x: &'a [Lanes],
    n: usize,
    bands: Range<usize>,
    y: Disjoint<'a, f32>,
}

impl Kernel for ByVector<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let cols = self.w.layout.cols();
        let mut entries = Vec::new();
        let groups: Vec<&[Lanes]> = self.x.chunks(cols).collect();
        for band in self.bands.clone() {
            let starts = self.by_row(band, &mut entries);
            for (first, groups) in (0..).step_by(GROUPS).zip(groups.chunks(GROUPS)) {
                let mut sums = [[[0.0; LANES]; ROW_UNIT]; GROUPS];
                for row in 0..ROW_UNIT {
                    let entries = &entries[starts[row]..starts[row + 1]];
                    if let Ok(groups) = <&[&[Lanes]; GROUPS]>::try_from(groups) {
                        let found = sum_row::<S, GROUPS>(s, entries, groups);
                        for (sums, found) in sums.iter_mut().zip(found) {
                            s.store(found, &mut sums[row]);
                        }
                        continue;
                    }
                    for (sums, &group) in sums.iter_mut().zip(groups) {
                        let [found] = sum_row::<S, 1>(s, entries, &[group]);
                        s.store(found, &mut sums[row]);
                    }
                }
                for (group, sums) in (first..).zip(&sums[..groups.len()]) {
                    self.write(s, band, group, sums);
                }
            }
        }
    }
}

impl ByVector<'_> {
    /// The entries of a band row by row, with columns in range; returns where rows start and the last
    /// one ends.
    #[inline(always)]
    fn by_row(&self, band: usize, entries: &mut Vec<(u32, f32)>) -> [usize; ROW_UNIT + 1] {
        let mut starts = [0; ROW_UNIT + 1];
        for (row, &count) in self.w.layout.counts(band).iter().enumerate() {
            starts[row + 1] = starts[row] + usize::from(count);
        }
        entries.clear();
        entries.resize(starts[ROW_UNIT], (0, 0.0));
        let mut next = starts;
        let last = self.w.layout.cols() - 1;
        let each = |row: usize, column: usize, value| {
            entries[next[row]] = (column.min(last) as u32, half_value(value));
            next[row] += 1;
            true
        };
        let SparseStage {
            layout,
            gaps,
            values,
        } = self.w;
        layout.for_each(band, gaps, values, each);
        starts
    }

    /// Adds the sums of a band's rows with 16 vectors to the results.
    #[inline(always)]
    fn write<S: Simd>(&self, s: S, band: usize, group: usize, sums: &[Lanes; ROW_UNIT]) {
        let rows = self.w.layout.rows();
        let mut turned = [0.0; ROW_UNIT * LANES];
        s.store_rows(sums, &mut turned, ROW_UNIT);
        let first = band * ROW_UNIT;
        let end = rows.min(first + ROW_UNIT);
        let vectors = group * LANES..self.n.min((group + 1) * LANES);
        for (v, sums) in vectors.zip(turned.chunks(ROW_UNIT)) {
            // SAFETY: every band is in one task.
            let y = unsafe { self.y.slice(v * rows + first..v * rows + end) };
            for (y, sum) in y.iter_mut().zip(sums) {
                *y += sum;
            }
        }
    }
}

/// The sum of a row's entries, for `T` groups of 16 vectors.
#[inline(always)]
fn sum_row<S: Simd, const T: usize>(
    s: S,
    entries: &[(u32, f32)],
    groups: &[&[Lanes]; T],
) -> [S::F32; T] {
    let mut sums = [s.splat(0.0); T];
    for &(column, value) in entries {
        let value = s.splat(value);
        for (sum, group) in sums.iter_mut().zip(groups) {
            *sum = s.fma(value, s.load(&group[column as usize]), *sum);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use lagar_codec::reference::{self, Sparse};
    use lagar_codec::{PackedSparse, pack_sparse};
    use proptest::prelude::*;

    use super::super::tests::{Random, cpus, same};
    use super::*;

    struct Owned {
        layout: SparseLayout,
        gaps: Vec<u8>,
        values: Vec<u8>,
    }

    impl Owned {
        /// Entries in about one of `rarity` places of a matrix.
        fn new(random: &mut Random, rows: usize, cols: usize, rarity: usize) -> Self {
            let entries: Vec<Vec<(u32, u16)>> = (0..rows)
                .map(|_| {
                    let columns = (0..cols as u32).filter(|_| random.below(rarity) == 0);
                    let columns: Vec<u32> = columns.collect();
                    // Subnormal halves and zeros among them, but nothing that is not finite.
                    let mut value = || match random.below(1 << 16) as u16 {
                        bits if bits & 0x7c00 == 0x7c00 => bits & 0x83ff,
                        bits => bits,
                    };
                    columns.into_iter().map(|c| (c, value())).collect()
                })
                .collect();
            let packed = pack_sparse(&entries).unwrap();
            let PackedSparse {
                gap_bytes,
                counts,
                gaps,
                values,
            } = packed;
            let layout = SparseLayout::new(rows, cols, gap_bytes, &counts).unwrap();
            let bands = 0..layout.bands();
            layout.check(bands, &gaps, &values).unwrap();
            let mut dense = vec![0.0; rows * cols];
            let owned = Self {
                layout,
                gaps,
                values,
            };
            reference::add_sparse(&owned.reference(), &mut dense);
            for (row, dense) in entries.iter().zip(dense.chunks(cols)) {
                let mut expected = vec![0.0; cols];
                for &(column, value) in row {
                    expected[column as usize] += half_value(value);
                }
                assert_eq!(dense, expected);
            }
            owned
        }

        fn stage(&self) -> SparseStage<'_> {
            SparseStage::new(&self.layout, &self.gaps, &self.values).unwrap()
        }

        fn reference(&self) -> Sparse<'_> {
            Sparse {
                layout: &self.layout,
                gaps: &self.gaps,
                values: &self.values,
            }
        }
    }

    fn check(random: &mut Random, owned: &Owned, n: usize, cpus: &[Cpu]) {
        let (rows, cols) = (owned.layout.rows(), owned.layout.cols());
        let what = format!("{rows} × {cols}, {} entries, n {n}", owned.layout.entries());
        let x = random.floats(n * cols);
        let before = random.floats(n * rows);
        let mut expected = before.clone();
        reference::sparse_matmul(&owned.reference(), &x, n, &mut expected);
        for cpu in cpus {
            let mut y = before.clone();
            cpu.sparse_matmul(&owned.stage(), &x, n, &mut y);
            let what = format!("{what} on {} with {}", cpu.isa(), cpu.threads());
            same(&y, &expected, &what);
        }
        let before = random.floats(rows * cols);
        let mut expected = before.clone();
        reference::add_sparse(&owned.reference(), &mut expected);
        let mut found = before.clone();
        for first in (0..rows).step_by(48) {
            let range = first..rows.min(first + 48);
            let out = &mut found[range.start * cols..range.end * cols];
            cpus[0].add_sparse(&owned.stage(), range, out);
        }
        same(&found, &expected, &what);
        let row = random.below(rows);
        let mut found = before[row * cols..(row + 1) * cols].repeat(2);
        cpus[0].add_sparse_rows(&owned.stage(), &[row as u32; 2], &mut found);
        same(
            &found,
            &expected[row * cols..(row + 1) * cols].repeat(2),
            &what,
        );
    }

    #[test]
    fn no_entries_and_no_vectors_change_nothing_but_the_sign_of_zero() {
        let layout = SparseLayout::new(20, 30, 1, &[0; 64]).unwrap();
        let stage = SparseStage::new(&layout, &[], &[]).unwrap();
        for cpu in cpus(2) {
            for n in [0, 1, 11] {
                let mut y = vec![-1.5; n * 20];
                cpu.sparse_matmul(&stage, &vec![f32::NAN; n * 30], n, &mut y);
                assert!(y.iter().all(|&y| y == -1.5));
            }
        }
    }

    #[test]
    fn bytes_that_nobody_checked_are_harmless() {
        let mut random = Random(7);
        let mut owned = Owned::new(&mut random, 70, 90, 9);
        owned.gaps.fill(255);
        owned.values.fill(255);
        for cpu in cpus(2) {
            for n in [1, 17] {
                let mut y = vec![0.0; n * 70];
                cpu.sparse_matmul(&owned.stage(), &random.floats(n * 90), n, &mut y);
            }
            let mut out = vec![0.0; 70 * 90];
            cpu.add_sparse(&owned.stage(), 0..70, &mut out);
        }
    }

    #[test]
    fn a_stage_of_the_wrong_length_is_refused() {
        let owned = Owned::new(&mut Random(8), 20, 20, 4);
        let short = &owned.values[1..];
        assert!(matches!(
            SparseStage::new(&owned.layout, &owned.gaps, short),
            Err(KernelError::StageLength { what: "values", .. })
        ));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn products_equal_the_reference(
            seed: u64,
            rows in 1usize..400,
            cols in prop_oneof![1usize..40, 40usize..700],
            rarity in prop_oneof![1usize..4, 4usize..300],
            n in prop_oneof![1usize..13, 13usize..150],
            threads in 1usize..4,
        ) {
            let mut random = Random(seed);
            let owned = Owned::new(&mut random, rows, cols, rarity);
            check(&mut random, &owned, n, &cpus(threads));
        }
    }
}
