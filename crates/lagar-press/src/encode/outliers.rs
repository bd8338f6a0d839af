//! The few weights of largest effect, which a sparse stage holds as they are.
//!
//! A weight that is taken out of its row and column group lowers what the group's code has to represent by its square,
//! and the code's error falls with that. So its effect is its square, times what an error costs in its column group and in
//! its row. (The transform spreads every weight over its group: its own column does not matter beside that.)

use half::f16;
use lagar_codec::{GROUP, PackedSparse, TILE_ROWS, Transform, pack_sparse};
use lagar_format::PART_ALIGN;
use lagar_kernels::Cpu;

/// Bytes of an entry: a gap of one byte and a value.
const ENTRY_BYTES: u64 = 3;
/// Digits of an effect that a first look tells apart: sign, exponent and the first of the fraction.
const BINS: usize = 1 << 16;

/// Bytes that a sparse stage may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) gaps: u64,
    pub(crate) values: u64,
}

impl Room {
    /// For about this share of the weights.
    pub(crate) fn of_share(share: f64, rows: usize, cols: usize) -> Self {
        let entries = (share * rows as f64 * cols as f64) as u64;
        Self {
            gaps: entries,
            values: 2 * entries,
        }
    }

    /// What it takes in a file.
    fn bytes(self) -> u64 {
        self.gaps.next_multiple_of(PART_ALIGN) + self.values.next_multiple_of(PART_ALIGN)
    }

    fn holds(self, packed: &PackedSparse) -> bool {
        let needed = Self {
            gaps: packed.gaps.len() as u64,
            values: packed.values.len() as u64,
        };
        needed.bytes() <= self.bytes()
    }
}

/// The matrix whose weights are looked at.
pub(crate) struct Candidates<'a> {
    pub(crate) rows: usize,
    /// What an error costs in each column.
    pub(crate) columns: &'a [f32],
    /// And in each row; all alike if empty.
    pub(crate) row_importance: &'a [f32],
    /// What an error costs in each row whatever its column, beside that; nothing if empty.
    pub(crate) looked_up: &'a [f32],
    /// Reads rows of the matrix.
    pub(crate) read: &'a (dyn Fn(usize, &mut [f32]) + Sync),
}

/// How many weights of a matrix have an effect of about some size: bins of effects (the first half of a float's bits) that
/// occur, largest first, and their weights.
pub(crate) type EffectCounts = Vec<(u16, u64)>;

/// What an error costs in each column of a matrix, given what it costs in each transformed column: the transform spreads
/// it over a group.
pub(crate) fn column_costs(transform: &Transform, pivots: &[f32]) -> Vec<f32> {
    let mut costs = vec![0f32; transform.width()];
    let groups = transform.sources().chunks(GROUP);
    for (sources, pivots) in groups.zip(pivots.chunks(GROUP)) {
        let mean = pivots.iter().sum::<f32>() / pivots.len() as f32;
        for &source in sources {
            costs[(source & Transform::COLUMN) as usize] = mean;
        }
    }
    costs
}

/// Single weights of a matrix: for each row columns, ascending, and the bits of half-precision values.
#[derive(Debug, Default)]
pub(crate) struct Outliers {
    rows: Vec<Vec<(u32, u16)>>,
}

impl Outliers {
    /// As many as there is room for, those of largest effect; and the stage that holds them.
    pub(crate) fn choose(cpu: &Cpu, from: &Candidates<'_>, room: Room) -> (Self, PackedSparse) {
        let most = (room.gaps + room.values) / ENTRY_BYTES;
        let mut found = from.candidates(cpu, most as usize);
        found.sort_unstable_by(|a, b| {
            let place = |c: &Candidate| (c.row, c.column);
            b.effect.total_cmp(&a.effect).then(place(a).cmp(&place(b)))
        });
        // The most that fit: none always do.
        let (mut fits, mut exceeds) = (0, found.len().min(most as usize) + 1);
        let mut best = Self::of(from.rows, &[]);
        let mut packed = pack_sparse(&best.rows).expect("no entries fit");
        let mut count = exceeds - 1;
        while fits + 1 < exceeds {
            let some = Self::of(from.rows, &found[..count]);
            match pack_sparse(&some.rows).filter(|packed| room.holds(packed)) {
                Some(smaller) => (fits, best, packed) = (count, some, smaller),
                None => exceeds = count,
            }
            count = fits + (exceeds - fits) / 2;
        }
        (best, packed)
    }

    fn of(rows: usize, found: &[Candidate]) -> Self {
        let mut lists = vec![Vec::new(); rows.next_multiple_of(lagar_codec::ROW_UNIT)];
        for candidate in found {
            lists[candidate.row as usize].push((candidate.column, candidate.value));
        }
        lists.iter_mut().for_each(|list| list.sort_unstable());
        Self { rows: lists }
    }

    /// Takes their values out of rows `first..`, of `cols` columns each.
    pub(crate) fn subtract(&self, first: usize, cols: usize, rows: &mut [f32]) {
        for (list, row) in self
            .rows
            .iter()
            .skip(first)
            .zip(rows.chunks_exact_mut(cols))
        {
            for &(column, value) in list {
                row[column as usize] -= f16::from_bits(value).to_f32();
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    effect: f32,
    row: u32,
    column: u32,
    value: u16,
}

impl Candidates<'_> {
    fn strips(&self) -> Vec<usize> {
        (0..self.rows).step_by(TILE_ROWS).collect()
    }

    /// How many weights have which effect.
    pub(crate) fn counts(&self, cpu: &Cpu) -> EffectCounts {
        let strips = self.strips();
        let mut counts = vec![Vec::new(); strips.len()];
        cpu.pool().chunks(&mut counts, 1, |strip, counts| {
            let mut bins = vec![0u32; BINS];
            self.strip(strips[strip], |candidate| bins[bin(candidate.effect)] += 1);
            // Only those that occur: there may be many strips.
            let occurring = bins.iter().enumerate().filter(|(_, count)| **count > 0);
            counts[0] = occurring.map(|(bin, count)| (bin, *count)).collect();
        });
        let mut bins = vec![0; BINS];
        for (bin, count) in counts.into_iter().flatten() {
            bins[bin] += u64::from(count);
        }
        let bins = bins.into_iter().enumerate().rev();
        bins.filter(|(_, count)| *count > 0)
            .map(|(bin, count)| (bin as u16, count))
            .collect()
    }

    /// The `most` weights of largest effect, and some more; none without any effect.
    fn candidates(&self, cpu: &Cpu, most: usize) -> Vec<Candidate> {
        let (mut least, mut above) = (usize::MAX, 0);
        for (bin, count) in self.counts(cpu) {
            if above >= most as u64 {
                break;
            }
            (least, above) = (usize::from(bin), above + count);
        }
        let strips = self.strips();
        let mut found = vec![Vec::new(); strips.len()];
        cpu.pool().chunks(&mut found, 1, |strip, found| {
            self.strip(strips[strip], |candidate| {
                if bin(candidate.effect) >= least {
                    found[0].push(candidate);
                }
            });
        });
        found.into_iter().flatten().collect()
    }

    /// The weights of rows `first..` that a half can hold.
    fn strip(&self, first: usize, mut see: impl FnMut(Candidate)) {
        let cols = self.columns.len();
        let mut rows = vec![0f32; (self.rows - first).min(TILE_ROWS) * cols];
        (self.read)(first, &mut rows);
        for (row, weights) in (first..).zip(rows.chunks_exact(cols)) {
            let importance = self.row_importance.get(row).copied().unwrap_or(1.0);
            let looked_up = self.looked_up.get(row).copied().unwrap_or(0.0);
            for (column, (&weight, &cost)) in weights.iter().zip(self.columns).enumerate() {
                let value = f16::from_f32(weight);
                let effect = weight * weight * (cost * importance + looked_up);
                if effect > 0.0 && effect.is_finite() && value.is_finite() {
                    see(Candidate {
                        effect,
                        row: row as u32,
                        column: column as u32,
                        value: value.to_bits(),
                    });
                }
            }
        }
    }
}

fn bin(effect: f32) -> usize {
    (effect.to_bits() >> 16) as usize
}

#[cfg(test)]
mod tests {
    use lagar_kernels::Isa;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What is chosen fits, one more would not, and nothing left out has a larger effect.
        #[test]
        fn the_largest_that_fit_are_chosen(
            rows in 1usize..40,
            cols in 1usize..600,
            share in 0.0..0.2f64,
            seed in any::<u64>(),
        ) {
            let mut random = crate::random::Random::new(seed, 1);
            let weights: Vec<f32> = (0..rows * cols).map(|_| random.below(1000) as f32 - 500.0).collect();
            let costs: Vec<f32> = (0..cols).map(|_| 1.0 + random.below(3) as f32).collect();
            let read = |first: usize, out: &mut [f32]| {
                out.copy_from_slice(&weights[first * cols..][..out.len()]);
            };
            let from = Candidates { rows, columns: &costs, row_importance: &[], looked_up: &[], read: &read };
            let room = Room::of_share(share, rows, cols);
            let (outliers, packed) = Outliers::choose(&Cpu::new(Isa::best(), 1), &from, room);
            prop_assert!(room.holds(&packed));
            let mut left = weights.clone();
            outliers.subtract(0, cols, &mut left);
            let effect = |at: usize| weights[at] * weights[at] * costs[at % cols];
            let taken = (0..left.len()).filter(|&at| left[at] == 0.0 && weights[at] != 0.0);
            let taken: Vec<usize> = taken.collect();
            let count: usize = outliers.rows.iter().map(Vec::len).sum();
            prop_assert_eq!(taken.len(), count);
            let least = taken.iter().map(|&at| effect(at)).fold(f32::INFINITY, f32::min);
            prop_assert!((0..left.len()).all(|at| left[at] == 0.0 || effect(at) <= least));
            let mut all = from.candidates(&Cpu::new(Isa::best(), 1), rows * cols);
            all.sort_unstable_by(|a, b| b.effect.total_cmp(&a.effect));
            let limit = (room.gaps + room.values) / ENTRY_BYTES;
            if count < all.len().min(limit as usize) {
                let next = all.into_iter().filter(|c| left[c.row as usize * cols + c.column as usize] != 0.0);
                let mut more = outliers.rows.clone();
                let next = next.take(1).next().unwrap();
                more[next.row as usize].push((next.column, next.value));
                more[next.row as usize].sort_unstable();
                let fits = pack_sparse(&more).is_some_and(|packed| room.holds(&packed));
                // Of several with the same effect another may have filled a gap.
                prop_assert!(!fits || effect(next.row as usize * cols + next.column as usize) == least);
            }
        }
    }
}
