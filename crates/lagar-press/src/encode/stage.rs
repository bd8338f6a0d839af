//! Encoding the window stages of some linears that read the same input.

use std::sync::Mutex;

use lagar_codec::{CODES_PADDING, StageLayout, TILE_ROWS, Transform};
use lagar_format::{Levels, TableRecord};
use lagar_kernels::Cpu;

use super::feedback::Feedback;
use super::loss::Loss;
use super::low_rank::Product;
use super::outliers::Outliers;
use super::strip::{Strip, encode_stage, encode_strip};
use super::tables::Tables;
use crate::{PressError, Progress};

/// What a stage of the press becomes: a window stage for each depth that occurs, lowest first. Their groups
/// are disjoint, and they share their row scales.
#[derive(Debug, PartialEq)]
pub(crate) struct EncodedStage {
    pub(crate) row_scales: Vec<u8>,
    pub(crate) windows: Vec<EncodedWindows>,
    /// What this stage and those before it lose.
    pub(crate) loss: Loss,
}

/// The stored bytes of a window stage; lengths as [`StageLayout`] says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EncodedWindows {
    pub(crate) table: TableRecord,
    /// Depth of each column group: 0, or the one depth of these windows.
    pub(crate) depths: Vec<u8>,
    pub(crate) codes: Vec<u8>,
    pub(crate) scales: Vec<u8>,
}

/// A linear to encode.
pub(crate) struct Job<'a> {
    /// The tensor's name, for errors.
    pub(crate) name: &'a str,
    /// Shape and depths of each stage. Groups of depth 0 are left to the stages after it.
    pub(crate) layouts: Vec<StageLayout>,
    /// Of each stage.
    pub(crate) tables: &'a [Tables],
    /// What a sparse stage already holds of the matrix.
    pub(crate) outliers: Option<&'a Outliers>,
    /// What another stage already holds of the transformed matrix.
    pub(crate) low_rank: Option<&'a Product>,
    /// How much an error in each row matters next to one in the others; all alike if empty.
    pub(crate) row_importance: &'a [f32],
    /// Reads rows `first..` of the weight matrix (row-major, as many as fit) as f32.
    pub(crate) rows: &'a (dyn Fn(usize, &mut [f32]) + Sync),
}

/// What the linears of one site share.
pub(crate) struct SiteCode<'a> {
    pub(crate) transform: &'a Transform,
    /// First to last: each codes what those before it leave.
    pub(crate) stages: &'a [StageCode<'a>],
}

impl SiteCode<'_> {
    /// The feedback that knows the Hessian best.
    pub(super) fn least_damped(&self) -> &Feedback {
        let feedbacks = self.stages.iter().map(|stage| stage.feedback);
        let least = feedbacks.min_by(|a, b| a.damping().total_cmp(&b.damping()));
        least.expect("a press has a stage")
    }
}

/// How one stage is coded.
pub(crate) struct StageCode<'a> {
    pub(crate) feedback: &'a Feedback,
    /// Factor on the fitted scales of a group of some depth. Levels that fit best in least squares are smaller
    /// than what they stand for, by the share of the variance that is lost; the tier of a first stage of few
    /// bits is better without all of that shrinking.
    pub(crate) stretch: fn(u8) -> f32,
}

/// Encodes every job by LDLQ: columns in blocks of four, each block's path found by Viterbi, its
/// rounding error fed into the columns after it. A later stage does the same to what the earlier ones
/// leave. Strips of 256 rows are independent of each other, so the result doesn't depend on the number
/// of threads. The result has all stages of each job.
pub(crate) fn encode_site(
    cpu: &Cpu,
    code: &SiteCode<'_>,
    jobs: &[Job<'_>],
    progress: &dyn Progress,
) -> Result<Vec<Vec<EncodedStage>>, PressError> {
    let strips: Vec<(usize, usize)> = jobs
        .iter()
        .enumerate()
        .flat_map(|(job, j)| (0..j.layouts[0].tile_rows()).map(move |strip| (job, strip)))
        .collect();
    type Slot = Mutex<Option<Result<Vec<Strip>, PressError>>>;
    let done: Vec<Slot> = strips.iter().map(|_| Mutex::new(None)).collect();
    cpu.pool().run(strips.len(), &|i| {
        let (job, strip) = strips[i];
        let result = if progress.cancelled() {
            Err(PressError::Interrupted)
        } else {
            encode_strip(cpu, code, &jobs[job], strip)
        };
        let layouts = &jobs[job].layouts;
        let layout = &layouts[0];
        progress.advance((layouts.len() * layout.tile_height(strip) * layout.padded_cols()) as u64);
        *done[i].lock().expect("no holder panics") = Some(result);
    });

    let mut encoded: Vec<Vec<EncodedStage>> = jobs
        .iter()
        .map(|job| {
            let stages = job.layouts.iter().zip(job.tables);
            stages
                .map(|(layout, tables)| EncodedStage::empty(layout, tables))
                .collect()
        })
        .collect();
    for (&(job, _), slot) in strips.iter().zip(done) {
        let strips = slot
            .into_inner()
            .expect("no holder panics")
            .expect("every strip is run")?;
        for (stage, strip) in encoded[job].iter_mut().zip(strips) {
            stage.extend(strip);
        }
    }
    encoded.iter_mut().flatten().for_each(EncodedStage::finish);
    Ok(encoded)
}

/// Encodes a matrix of its own, without transform or feedback: `values` is `rows × padded columns`. The error is a row
/// that is too large.
pub(crate) fn encode_matrix(
    cpu: &Cpu,
    layout: &StageLayout,
    values: &[f32],
) -> Result<EncodedStage, usize> {
    let width = layout.padded_cols();
    let feedback = Feedback::none(width);
    let code = StageCode {
        feedback: &feedback,
        stretch: |_| 1.0,
    };
    let mut encoded = EncodedStage::empty(layout, &Tables::Trellis);
    for strip in 0..layout.tile_rows() {
        let height = layout.tile_height(strip);
        let first = strip * TILE_ROWS;
        let stored = (layout.rows() - first).min(height);
        let mut rows = values[first * width..(first + stored) * width].to_vec();
        rows.resize(height * width, 0.0);
        let importance = vec![1.0; height];
        let tables = &Tables::Trellis;
        let strip = encode_stage(cpu, &code, layout, tables, strip, &importance, &mut rows);
        encoded.extend(strip.map_err(|row| first + row)?);
    }
    encoded.finish();
    Ok(encoded)
}

impl EncodedStage {
    /// One without any rows yet.
    fn empty(layout: &StageLayout, tables: &Tables) -> Self {
        let windows = split_depths(layout.depths());
        Self {
            row_scales: Vec::with_capacity(layout.row_scales_len()),
            windows: windows
                .map(|depths| EncodedWindows {
                    table: table_record(tables, &depths),
                    depths,
                    codes: Vec::new(),
                    scales: Vec::new(),
                })
                .collect(),
            loss: Loss::default(),
        }
    }

    /// Adds what follows the last row.
    fn finish(&mut self) {
        for windows in &mut self.windows {
            windows.codes.resize(windows.codes.len() + CODES_PADDING, 0);
        }
    }

    fn extend(&mut self, strip: Strip) {
        self.loss.add(&strip.loss);
        self.row_scales.extend(strip.row_scales);
        for windows in &mut self.windows {
            let groups = windows.depths.iter().zip(&strip.groups);
            for (_, tile) in groups.filter(|(depth, _)| **depth > 0) {
                windows.codes.extend(&tile.codes);
                windows.scales.extend(&tile.scales);
            }
        }
    }
}

/// The table of windows of some depth, and 0 elsewhere. Without any depth, it is not read.
pub(crate) fn table_record(tables: &Tables, depths: &[u8]) -> TableRecord {
    let table = match depths.iter().copied().max() {
        None | Some(0) => tables.any(),
        Some(depth) => tables.of(depth),
    };
    let levels = match table.split() {
        Some(split) => Levels::Split {
            a: split.a,
            b: split.b,
            a_sign_bit: split.a_sign_bit,
            b_sign_bit: split.b_sign_bit,
        },
        None => Levels::Free(table.levels().to_vec()),
    };
    TableRecord {
        depth: table.depth(),
        window: table.window(),
        levels,
    }
}

/// For each depth that occurs, lowest first, the groups that have it: their depths, and 0 for all others. If
/// all are 0, that.
pub(crate) fn split_depths(depths: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut distinct: Vec<u8> = depths.iter().copied().filter(|&d| d > 0).collect();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.is_empty() {
        distinct.push(0);
    }
    distinct.into_iter().map(|only| {
        let keep = |&depth: &u8| if depth == only { depth } else { 0 };
        depths.iter().map(keep).collect()
    })
}

#[cfg(test)]
mod tests {
    use lagar_codec::{GROUP, reference};
    use lagar_kernels::Isa;

    use super::*;
    use crate::encode::{choose_transform, transform_hessian};
    use crate::progress::Silent;
    use crate::random::Random;

    const TRELLIS: [Tables; 3] = [Tables::Trellis, Tables::Trellis, Tables::Trellis];

    /// Nearly Gaussian numbers.
    fn gaussian(count: usize, seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed, 7);
        let mut next = || {
            (0..48)
                .map(|_| if random.bit() { 0.5f32 } else { -0.5 })
                .sum::<f32>()
                / 12f32.sqrt()
        };
        (0..count).map(|_| next()).collect()
    }

    /// Inputs whose columns are correlated and of unequal size, and their second moments.
    fn hessian(width: usize) -> Vec<f32> {
        let inputs = gaussian(4 * width * width, 3);
        let mut h = vec![0f32; width * width];
        for x in inputs.chunks_exact(width) {
            let mut x = x.to_vec();
            for i in 1..width {
                x[i] += 0.7 * x[i - 1];
            }
            for i in 0..width {
                for j in 0..width {
                    h[i * width + j] += x[i] * x[j] / (4 * width) as f32;
                }
            }
        }
        h
    }

    /// A random matrix in transformed space, and what a reader decodes from its code.
    struct Encoded {
        hessian: Vec<f32>,
        weights: Vec<f32>,
        /// The sum of the first stages: of one, of two …
        sums: Vec<Vec<f32>>,
        stages: Vec<EncodedStage>,
    }

    /// What a reader makes of a stage.
    fn decode(stage: &EncodedStage, rows: usize, width: usize) -> Vec<f32> {
        let mut sum = Vec::new();
        for windows in &stage.windows {
            let depth = windows.depths.iter().copied().fold(0, u8::max);
            let decoded = reference::dequantize(&reference::Stage {
                layout: &StageLayout::new(rows, width, &windows.depths).unwrap(),
                table: Tables::Trellis.of(depth.max(1)),
                codes: &windows.codes,
                scales: &windows.scales,
                row_scales: &stage.row_scales,
            });
            sum.resize(decoded.len(), 0.0);
            sum.iter_mut().zip(&decoded).for_each(|(s, d)| *s += d);
        }
        sum
    }

    /// Encodes a random matrix with these stages.
    fn encode(rows: usize, width: usize, bits: &[u8], threads: usize) -> Encoded {
        let groups = width.div_ceil(GROUP);
        let depths: Vec<_> = bits.iter().map(|&bits| vec![bits; groups]).collect();
        encode_depths(rows, width, &depths, threads)
    }

    /// Encodes a random matrix with the depths of each group, stage by stage.
    fn encode_depths(rows: usize, width: usize, depths: &[Vec<u8>], threads: usize) -> Encoded {
        let cpu = Cpu::new(Isa::best(), threads);
        let weights = gaussian(rows * width, 5);
        let original = hessian(width);
        let transform = choose_transform(&original, width, 1, 2).unwrap();
        let padded = transform.padded_width();
        let h = transform_hessian(&cpu, &transform, original);
        let feedback = Feedback::new(&cpu, h.clone(), padded, 0.01, "test").unwrap();
        let layout = |depths: &Vec<u8>| StageLayout::new(rows, width, depths).unwrap();
        let layouts: Vec<StageLayout> = depths.iter().map(layout).collect();
        let read = |first: usize, out: &mut [f32]| {
            out.copy_from_slice(&weights[first * width..][..out.len()]);
        };
        let code = |_: &Vec<u8>| StageCode {
            feedback: &feedback,
            stretch: |_| 1.0,
        };
        let codes: Vec<StageCode<'_>> = depths.iter().map(code).collect();
        let code = SiteCode {
            transform: &transform,
            stages: &codes,
        };
        let jobs = [Job {
            name: "test",
            layouts: layouts.clone(),
            tables: &TRELLIS,
            outliers: None,
            low_rank: None,
            row_importance: &[],
            rows: &read,
        }];
        let stages = encode_site(&cpu, &code, &jobs, &Silent).unwrap().remove(0);
        let mut sums = Vec::new();
        let mut sum = vec![0.0; rows * padded];
        for stage in &stages {
            let decoded = decode(stage, rows, width);
            sum.iter_mut().zip(&decoded).for_each(|(s, d)| *s += d);
            sums.push(sum.clone());
        }
        let mut transformed = vec![0.0; rows * padded];
        cpu.transform(&transform, &weights, rows, &mut transformed);
        Encoded {
            hessian: h,
            weights: transformed,
            sums,
            stages,
        }
    }

    /// The loss `tr(E H Eᵀ) / tr(W H Wᵀ)`.
    fn loss(h: &[f32], weights: &[f32], decoded: &[f32], width: usize) -> f64 {
        let quadratic = |rows: &mut dyn Iterator<Item = Vec<f64>>| -> f64 {
            rows.map(|row| {
                (0..width)
                    .map(|i| {
                        row[i]
                            * (0..width)
                                .map(|j| f64::from(h[i * width + j]) * row[j])
                                .sum::<f64>()
                    })
                    .sum::<f64>()
            })
            .sum()
        };
        let errors = weights.chunks_exact(width).zip(decoded.chunks_exact(width));
        let lost = quadratic(
            &mut errors.map(|(w, d)| w.iter().zip(d).map(|(w, d)| f64::from(w - d)).collect()),
        );
        let all = quadratic(
            &mut weights
                .chunks_exact(width)
                .map(|w| w.iter().map(|&w| f64::from(w)).collect()),
        );
        lost / all
    }

    /// What is measured while coding is what a reader finds, from a sample of the rows where there are many.
    #[test]
    fn the_reported_loss_is_that_of_the_decoded_weights() {
        for (rows, width, within) in [(16, 172, 1e-3), (12, 260, 1e-3), (300, 172, 0.2)] {
            for bits in [&[3][..], &[2, 2], &[1, 1, 2]] {
                let code = encode(rows, width, bits, 2);
                let padded = width.next_multiple_of(4);
                for (stage, sum) in code.stages.iter().zip(&code.sums) {
                    let expected = loss(&code.hessian, &code.weights, sum, padded).sqrt();
                    let found = stage.loss.relative_error();
                    let ratio = found / expected;
                    assert!((ratio - 1.0).abs() < within, "{found} {expected}");
                    let product = |a: &[f32], b: &[f32]| {
                        let pairs = a.iter().zip(b);
                        pairs
                            .map(|(&a, &b)| f64::from(a) * f64::from(b))
                            .sum::<f64>()
                    };
                    let expected = product(&code.weights, sum)
                        / (product(sum, sum) * product(&code.weights, &code.weights)).sqrt();
                    let found = stage.loss.weight_cosine();
                    assert!((found - expected).abs() < 1e-4, "{found} {expected}");
                }
            }
        }
    }

    /// Codes and scales of a group do not depend on the unit that weights are in, to the ends of
    /// what row scales can hold; beyond, the row is named.
    #[test]
    fn weights_of_any_size_have_the_same_codes() {
        let (rows, width) = (20, 64);
        let cpu = Cpu::new(Isa::best(), 1);
        let transform = choose_transform(&vec![1.0; width * width], width, 1, 2).unwrap();
        let feedback = Feedback::new(&cpu, vec![0.0; width * width], width, 0.1, "test").unwrap();
        let stages = [StageCode {
            feedback: &feedback,
            stretch: |_| 1.0,
        }];
        let code = SiteCode {
            transform: &transform,
            stages: &stages,
        };
        let weights = gaussian(rows * width, 5);
        let encode = |unit: f32| {
            let read = |first: usize, out: &mut [f32]| {
                let from = &weights[first * width..][..out.len()];
                out.iter_mut().zip(from).for_each(|(o, w)| *o = w * unit);
            };
            let job = Job {
                name: "up",
                layouts: vec![StageLayout::new(rows, width, &[3]).unwrap()],
                tables: &TRELLIS,
                outliers: None,
                low_rank: None,
                row_importance: &[],
                rows: &read,
            };
            encode_site(&cpu, &code, &[job], &Silent).map(|mut jobs| jobs.remove(0).remove(0))
        };
        let plain = encode(1.0).unwrap();
        for power in [-100, -60, 60, 100] {
            let scaled = encode(2f32.powi(power)).unwrap();
            assert_eq!(scaled.windows, plain.windows);
            let sizes = scaled.row_scales.as_chunks().0.iter();
            for (&new, &old) in sizes.zip(plain.row_scales.as_chunks().0) {
                let [new, old] = [new, old].map(|b| half::bf16::from_le_bytes(b).to_f32());
                assert_eq!(new, old * 2f32.powi(power));
            }
        }
        let message = encode(2f32.powi(127)).unwrap_err().to_string();
        assert!(message.contains("up: row 0"), "{message}");
    }

    #[test]
    fn a_reader_decodes_what_feedback_aimed_at_better_than_the_rate_of_plain_rounding() {
        for (rows, width) in [(300, 172), (16, 64), (20, 260)] {
            for (bits, scalar) in [
                (1, 0.363),
                (2, 0.1175),
                (3, 0.0345),
                (4, 0.0095),
                (6, 0.0007),
                (8, 0.0001),
            ] {
                let code = encode(rows, width, &[bits], 2);
                let padded = width.next_multiple_of(4);
                let loss = loss(&code.hessian, &code.weights, &code.sums[0], padded);
                assert!(loss < scalar, "{rows} × {width} at {bits} bits: {loss}");
            }
        }
    }

    /// Each stage divides the loss by nearly what its bits alone would: 4 a bit in theory, less for a
    /// residual that is coloured.
    #[test]
    fn a_later_stage_decodes_to_what_the_earlier_ones_left() {
        for (rows, width) in [(300, 172), (16, 64), (20, 260)] {
            for bits in [&[2, 2][..], &[2, 1, 1], &[1, 1, 1], &[4, 4], &[1, 8]] {
                let code = encode(rows, width, bits, 2);
                let padded = width.next_multiple_of(4);
                let loss = |sum: &Vec<f32>| loss(&code.hessian, &code.weights, sum, padded);
                let losses: Vec<f64> = code.sums.iter().map(loss).collect();
                for (stage, pair) in losses.windows(2).enumerate() {
                    let gain = pair[0] / pair[1];
                    let least = 2.1f64.powi(i32::from(bits[stage + 1]));
                    assert!(gain > least, "{rows} × {width}, {bits:?}: {losses:?}");
                }
            }
        }
    }

    /// Groups of several depths: each is a window stage of its own, and the loss lies between those of its
    /// lowest and its highest depth. Groups without any bits are made up for by those after them.
    #[test]
    fn every_group_has_a_depth_of_its_own() {
        for (rows, width) in [(300, 512), (40, 520usize)] {
            let padded = width.next_multiple_of(4);
            let groups = width.div_ceil(GROUP);
            let loss_of = |depths: &[&[u8]]| {
                let cycle = |d: &&[u8]| d.iter().copied().cycle().take(groups).collect();
                let depths: Vec<Vec<u8>> = depths.iter().map(cycle).collect();
                let code = encode_depths(rows, width, &depths, 2);
                for (stage, depths) in code.stages.iter().zip(&depths) {
                    let mut sum = vec![0; groups];
                    for windows in &stage.windows {
                        sum.iter_mut()
                            .zip(&windows.depths)
                            .for_each(|(s, d)| *s += d);
                    }
                    assert_eq!(&sum, depths);
                }
                let sum = code.sums.last().unwrap();
                loss(&code.hessian, &code.weights, sum, padded)
            };
            let [two, three, mixed] = [&[2][..], &[3], &[3, 2, 2, 3]].map(|d| loss_of(&[d]));
            assert!(
                three < 0.9 * mixed && mixed < 0.9 * two,
                "{two} {mixed} {three}"
            );
            let late = loss_of(&[&[2, 0], &[1, 3]]);
            assert!(late < 0.7 * two && late > 0.7 * three, "{late}");
            // The same errors fed back: but for the loss of the empty group itself nothing is lost.
            let sparse = loss_of(&[&[4, 4, 4, 0]]);
            assert!(sparse < 0.5 && sparse > 0.05, "{sparse}");
        }
    }

    /// So a tier's codes do not change when a file gets more tiers.
    #[test]
    fn a_stage_does_not_depend_on_those_after_it() {
        let mut two = encode(300, 172, &[2, 2], 2).stages;
        let mut three = encode(300, 172, &[2, 2, 1], 2).stages;
        three.pop();
        assert_eq!(two, three);
        two.pop();
        assert_eq!(two, encode(300, 172, &[2], 2).stages);
    }

    /// Errors of important rows are smaller than they would be, those of the others larger.
    #[test]
    fn important_rows_are_coded_at_the_cost_of_others() {
        let (rows, width) = (256, 64);
        let cpu = Cpu::new(Isa::best(), 2);
        let weights = gaussian(rows * width, 5);
        let transform = choose_transform(&vec![1.0; width * width], width, 1, 2).unwrap();
        let feedback = Feedback::new(&cpu, vec![0.0; width * width], width, 0.1, "test").unwrap();
        let layout = StageLayout::new(rows, width, &[2]).unwrap();
        let mut transformed = vec![0.0; rows * width];
        cpu.transform(&transform, &weights, rows, &mut transformed);
        // The sums of squared errors of the even rows and of the odd ones.
        let errors = |importance: &[f32]| {
            let code = SiteCode {
                transform: &transform,
                stages: &[StageCode {
                    feedback: &feedback,
                    stretch: |_| 1.0,
                }],
            };
            let read = |first: usize, out: &mut [f32]| {
                out.copy_from_slice(&weights[first * width..][..out.len()]);
            };
            let job = Job {
                name: "test",
                layouts: vec![layout.clone()],
                tables: &TRELLIS,
                outliers: None,
                low_rank: None,
                row_importance: importance,
                rows: &read,
            };
            let encoded = encode_site(&cpu, &code, &[job], &Silent).unwrap();
            let decoded = decode(&encoded[0][0], rows, width);
            let mut sums = [0f32; 2];
            for (i, (w, d)) in transformed.iter().zip(&decoded).enumerate() {
                sums[i / width % 2] += (w - d) * (w - d);
            }
            sums
        };
        let alike = errors(&[]);
        assert_eq!(alike, errors(&vec![0.5; rows]));
        let importance: Vec<f32> = (0..rows).map(|r| [1.0, 0.05][r % 2]).collect();
        let uneven = errors(&importance);
        assert!(
            uneven[0] < 0.9 * alike[0] && uneven[1] > 1.05 * alike[1],
            "{alike:?} {uneven:?}"
        );
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_threads() {
        let one = encode(600, 260, &[2, 2], 1).stages;
        assert_eq!(one, encode(600, 260, &[2, 2], 3).stages);
    }
}
