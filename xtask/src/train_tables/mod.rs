//! Trains the tables of `lagar-codec` on a Gaussian source and writes them as Rust source.
//!
//! Everything is seeded and independent of the machine: random numbers by basic arithmetic
//! ([`crate::random`]), an encoder whose result does not depend on the instruction set, sums in a
//! fixed order.

mod bent;
mod halves;
mod sample;
mod scalar;
mod source;
mod split;

use std::path::Path;

use anyhow::{Result, bail};
use lagar_codec::{Bent, Table};

use self::bent::Sums;
use self::halves::{Fit, Rounded};
use self::sample::{Error, Sample};
use self::scalar::Magnitudes;
use self::split::Halves;
use crate::random::Random;

/// How long to train.
#[derive(Clone, Copy)]
struct Effort {
    /// Starts of a table.
    starts: usize,
    /// Rounds with noise, on the small sample.
    noisy: usize,
    /// Values of the small sample, the large one, and the one that tables are compared on.
    sizes: [usize; 3],
}

const FULL: Effort = Effort {
    starts: 32,
    noisy: 1000,
    sizes: [1 << 15, 1 << 17, 1 << 19],
};

/// Noise on the levels of a split table at the start of annealing, by depth, in standard deviations.
const SPLIT_NOISE: [f64; 4] = [0.12, 0.15, 0.12, 0.08];

/// Bits that one unit of excess kurtosis counts when tables are compared: a residual with long tails
/// costs the next stage, and outliers cost more than a Gaussian shows.
/// Bent tables are for single stages, and their residual's tails are the source's.
const KURTOSIS_WEIGHT: [f64; 2] = [0.005, 0.001];

/// Starts whose tables are rounded and polished.
const FINALISTS: usize = 3;

const SEEDS: [u64; 3] = [7, 8, 9];
const TEST_SEED: u64 = 1234;
const TEST_SIZE: usize = 1 << 20;

/// Trains all tables; writes them, or with `--check` compares them with those written.
pub(crate) fn run(options: &[String]) -> Result<()> {
    let check = match options {
        [] => false,
        [option] if option == "--check" => true,
        _ => bail!("train-tables has one option, --check"),
    };
    let scalar = in_parallel((1..=8).collect(), train_scalar);
    // The longest first.
    let mut trellis = in_parallel(vec![4, 3, 2, 1, 7, 6, 5], |depth| {
        train_trellis(depth, FULL)
    });
    trellis.sort_by_key(Table::depth);
    println!("{HEADER}");
    for table in scalar.iter().chain(&trellis) {
        println!("{}", measured(table));
    }
    let text = source::write(&scalar, &trellis);
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/lagar-codec/src/tables/trained.rs");
    if !check {
        std::fs::write(&path, text)?;
    } else if std::fs::read_to_string(&path)? != text {
        bail!("{} is not what this program trains", path.display());
    }
    Ok(())
}

/// Maps on all processors; the results are in the order of the jobs.
fn in_parallel(jobs: Vec<u8>, job: impl Fn(u8) -> Table + Sync) -> Vec<Table> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut results: Vec<(usize, Table)> = std::thread::scope(|scope| {
        let worker = || {
            let mut done = Vec::new();
            loop {
                let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some(&depth) = jobs.get(i) else {
                    return done;
                };
                done.push((i, job(depth)));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let done = workers
            .into_iter()
            .map(|w| w.join().expect("a training thread"));
        done.flatten().collect()
    });
    results.sort_by_key(|&(i, _)| i);
    results.into_iter().map(|(_, table)| table).collect()
}

const HEADER: &str = "| code | K | mean squared error | bits lost | residual's kurtosis | twice |\n|---|---|---|---|---|---|";

/// One row of the report, on fresh values.
fn measured(table: &Table) -> String {
    let mut test = Sample::new(TEST_SEED, TEST_SIZE);
    let (depth, error) = (table.depth(), test.measure_table(table));
    let kind = match (table.split(), depth < table.window()) {
        (Some(_), _) => "split trellis",
        (None, true) => "bent trellis",
        (None, false) => "scalar",
    };
    let twice = error.mse * test.residual(table).measure_table(table).mse;
    let (mse, lost) = (error.mse, error.bits_lost(depth));
    format!(
        "| {kind} | {depth} | {mse:.6} | {lost:.4} | {:.2} | {twice:.6} |",
        error.kurtosis
    )
}

/// The figure that tables of one depth are compared by.
fn score(error: Error, depth: u8) -> f64 {
    let weight = KURTOSIS_WEIGHT[usize::from(depth > 4)];
    error.bits_lost(depth) + weight * (error.kurtosis - 3.0).abs()
}

/// The best of `candidates`, by [`score`] on a sample.
fn best(candidates: Vec<Table>, sample: &mut Sample) -> Table {
    let scored = candidates.into_iter().map(|table| {
        let error = sample.measure_table(&table);
        (score(error, table.depth()), table)
    });
    scored
        .min_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, table)| table)
        .expect("at least one candidate")
}

fn with_sigma(table: Result<Table, lagar_codec::CodecError>, sigma: f64) -> Table {
    table
        .and_then(|table| table.with_sigma(sigma as f32))
        .expect("training makes valid tables")
}

/// The Lloyd–Max codebook; at depth 8 all signed bytes in the order of the windows.
fn train_scalar(depth: u8) -> Table {
    let magnitudes = Magnitudes::new(&Random::new(SEEDS[2]).gaussians(1 << 20));
    let mut compare = Sample::new(SEEDS[1], 1 << 17);
    if depth == 8 {
        let bytes: Vec<i8> = (0..=255u8).map(|w| w as i8).collect();
        let sigmas = (24..=40).map(f64::from);
        let tables = sigmas.map(|sigma| with_sigma(Table::from_levels(8, 8, bytes.clone()), sigma));
        return best(tables.collect(), &mut compare);
    }
    let levels = magnitudes.lloyd_max(depth);
    let largest = levels[levels.len() - 1];
    let sigmas = (0..20).map(|i| 127.0 / largest * (1.0 - f64::from(i) / 100.0));
    let tables = sigmas.map(|sigma| {
        with_sigma(
            Table::from_levels(depth, depth, scalar::round(&levels, sigma)),
            sigma,
        )
    });
    best(tables.collect(), &mut compare)
}

fn train_trellis(depth: u8, effort: Effort) -> Table {
    let [small, large, compare] = [0, 1, 2].map(|i| Sample::new(SEEDS[i], effort.sizes[i]));
    let samples = Samples {
        small,
        large,
        compare,
    };
    if depth <= 4 {
        train_split(depth, effort, samples)
    } else {
        train_bent(depth, effort, samples)
    }
}

/// One sample to anneal on, one to settle on, one to compare tables on.
struct Samples {
    small: Sample,
    large: Sample,
    compare: Sample,
}

impl Samples {
    fn anneal(
        &mut self,
        table: &mut impl Fit,
        depth: u8,
        effort: Effort,
        random: &mut Random,
        noise: f64,
    ) {
        let Effort { noisy, .. } = effort;
        let mut anneal = |sample, noise, rounds| {
            halves::anneal(table, depth, sample, random, noise, rounds);
        };
        anneal(&mut self.small, noise, (noisy, noisy / 100));
        anneal(&mut self.large, 0.0, (0, noisy / 50));
    }
}

fn train_split(depth: u8, effort: Effort, mut samples: Samples) -> Table {
    let mut trained: Vec<(f64, Halves)> = (0..effort.starts)
        .map(|start| {
            let mut random = Random::new(100 + start as u64);
            let mut halves = Halves::random(&mut random, start);
            let noise = SPLIT_NOISE[usize::from(depth - 1)];
            samples.anneal(&mut halves, depth, effort, &mut random, noise);
            let error = samples.compare.measure(depth, &halves.levels(), 1.0);
            (score(error, depth), halves)
        })
        .collect();
    trained.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let mut candidates = Vec::new();
    for (_, halves) in trained.iter().take(FINALISTS) {
        let largest = halves
            .levels()
            .iter()
            .fold(0.0f32, |max, level| max.max(level.abs()));
        for percent in [90, 95, 100, 105] {
            let sigma = 63.0 / f64::from(largest) * f64::from(percent) / 100.0;
            let mut split = halves.round(sigma);
            halves::polish(&mut split, depth, sigma as f32, &mut samples.large);
            candidates.push(with_sigma(Table::from_split(depth, split), sigma));
        }
    }
    best(candidates, &mut samples.compare)
}

fn train_bent(depth: u8, effort: Effort, mut samples: Samples) -> Table {
    let mut trained: Vec<(f64, Bent, f64)> = Vec::new();
    for start in 0..4 * effort.starts {
        let mut random = Random::new(100 + start as u64);
        let mut sums = Sums::ordered(depth, &mut random);
        let noise = bent::NOISE * 0.5f64.powi(depth.into());
        samples.anneal(&mut sums, depth, effort, &mut random, noise);
        let rounded = (24..=38).step_by(2).filter_map(|sigma| {
            let bent = sums.round(sigma.into());
            let error = samples.large.measure(depth, &bent.levels()?, sigma as f32);
            Some((score(error, depth), bent, f64::from(sigma)))
        });
        trained.extend(rounded.min_by(|(a, ..), (b, ..)| a.total_cmp(b)));
    }
    trained.sort_by(|(a, ..), (b, ..)| a.total_cmp(b));
    let polished = trained
        .iter()
        .take(2 * FINALISTS)
        .map(|&(_, mut bent, sigma)| {
            halves::polish(&mut bent, depth, sigma as f32, &mut samples.large);
            let levels = (0..=255).map(|w| bent.level(w) as i8).collect();
            with_sigma(Table::from_levels(depth, 8, levels), sigma)
        });
    let candidates = polished.collect();
    best(candidates, &mut samples.compare)
}

#[cfg(test)]
mod tests;
