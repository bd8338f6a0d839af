//! Encoding the window stages of some linears that read the same input.

use std::sync::Mutex;

use lagar_codec::{
    BLOCK_COLS, CODES_PADDING, GROUP, MAX_DEPTH, StageLayout, TILE_ROWS, Table, Transform,
    pack_windows, scale_code, scale_value,
};
use lagar_kernels::{Cpu, Encoder};

use super::feedback::Feedback;
use crate::{PressError, Progress};

/// Window width of the trellis code.
const TRELLIS_WINDOW: u8 = 8;

/// Share of the largest group scale that a row scale leaves as headroom: error feedback makes
/// later targets a little larger than the weights themselves.
const HEADROOM: f32 = 2.0;

/// Times that the scales of a group are fitted to the levels found with them, and the group coded again.
const REFITS: usize = 1;

/// What a stage of the press becomes: a window stage for each depth that occurs, lowest first. Their groups
/// are disjoint, and they share their row scales.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EncodedStage {
    pub(crate) row_scales: Vec<u8>,
    pub(crate) windows: Vec<EncodedWindows>,
}

/// The stored bytes of a window stage; lengths as [`StageLayout`] says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EncodedWindows {
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

/// How one stage is coded.
pub(crate) struct StageCode<'a> {
    pub(crate) feedback: &'a Feedback,
    /// Factor on the fitted scales of a group of some depth. Levels that fit best in least squares are smaller
    /// than what they stand for, by the share of the variance that is lost; the tier of a first stage of few
    /// bits is better without all of that shrinking.
    pub(crate) stretch: fn(u8) -> f32,
}

/// The bytes of one stage of one strip of 256 rows.
struct Strip {
    row_scales: Vec<u8>,
    /// For each group, its tile and its scales; nothing in those of depth 0.
    groups: Vec<Tile>,
}

#[derive(Default)]
struct Tile {
    codes: Vec<u8>,
    scales: Vec<u8>,
}

/// The table of windows of some depth.
pub(crate) fn trellis_table(depth: u8) -> &'static Table {
    Table::trained(depth, TRELLIS_WINDOW)
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
        .map(|job| job.layouts.iter().map(EncodedStage::empty).collect())
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
    for windows in encoded.iter_mut().flatten().flat_map(|s| &mut s.windows) {
        windows.codes.resize(windows.codes.len() + CODES_PADDING, 0);
    }
    Ok(encoded)
}

impl EncodedStage {
    /// One without any rows yet.
    fn empty(layout: &StageLayout) -> Self {
        let windows = split_depths(layout.depths());
        Self {
            row_scales: Vec::with_capacity(layout.row_scales_len()),
            windows: windows
                .map(|depths| EncodedWindows {
                    depths,
                    codes: Vec::new(),
                    scales: Vec::new(),
                })
                .collect(),
        }
    }

    fn extend(&mut self, strip: Strip) {
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

/// Encodes rows `256 · strip ..` of one linear, stage by stage.
fn encode_strip(
    cpu: &Cpu,
    code: &SiteCode<'_>,
    job: &Job<'_>,
    strip: usize,
) -> Result<Vec<Strip>, PressError> {
    let layout = &job.layouts[0];
    let width = layout.padded_cols();
    let height = layout.tile_height(strip);
    let first = strip * TILE_ROWS;
    let stored = (layout.rows() - first).min(height);
    let mut weights = vec![0f32; height * width];
    {
        let mut original = vec![0f32; stored * layout.cols()];
        (job.rows)(first, &mut original);
        cpu.transform(
            code.transform,
            &original,
            stored,
            &mut weights[..stored * width],
        );
    }

    // Padded rows matter as little as the least.
    let mut importance = match job.row_importance {
        [] => vec![1.0; stored],
        all => all[first..first + stored].to_vec(),
    };
    let least = importance.iter().copied().fold(f32::INFINITY, f32::min);
    importance.resize(height, least);
    let mut stages = Vec::with_capacity(job.layouts.len());
    for (code, layout) in code.stages.iter().zip(&job.layouts) {
        let importance = &importance[..];
        let stage = encode_stage(cpu, code, layout, strip, importance, &mut weights);
        stages.push(stage.map_err(|row| PressError::TooLarge {
            tensor: job.name.to_owned(),
            row: first + row,
        })?);
    }
    Ok(stages)
}

/// Encodes one stage of a strip: `weights`, `height × width`, become what the stage leaves of them. The
/// error is a row that is too large.
fn encode_stage(
    cpu: &Cpu,
    code: &StageCode<'_>,
    layout: &StageLayout,
    strip: usize,
    importance: &[f32],
    weights: &mut [f32],
) -> Result<Strip, usize> {
    let width = layout.padded_cols();
    let height = layout.tile_height(strip);
    let row_scales: Vec<u16> = weights
        .chunks_exact(width)
        .map(|row| row_scale(row, layout.depths()))
        .collect();
    let overflows = |(row, &scale): (&[f32], &u16)| {
        !half::bf16::from_bits(scale).is_finite() || row.iter().any(|w| !w.is_finite())
    };
    let mut rows = weights.chunks_exact(width).zip(&row_scales);
    if let Some(row) = rows.position(overflows) {
        return Err(row);
    }
    let mut encoder = StripEncoder {
        cpu,
        code,
        layout,
        table: trellis_table(MAX_DEPTH),
        height,
        weights,
        row_scales: &row_scales,
        importance,
        errors: vec![0.0; width * height],
        encoder: Encoder::new(cpu.isa()),
        windows: Vec::new(),
        aims: vec![0.0; height * BLOCK_COLS],
        row_weights: vec![0.0; height],
    };
    let groups = (0..layout.groups()).map(|g| encoder.group(g)).collect();
    let errors = encoder.errors;
    for (r, row) in weights.chunks_exact_mut(width).enumerate() {
        for (c, weight) in row.iter_mut().enumerate() {
            *weight = errors[c * height + r];
        }
    }
    Ok(Strip {
        row_scales: row_scales.iter().flat_map(|s| s.to_le_bytes()).collect(),
        groups,
    })
}

/// The bf16 bits of a row's scale: the largest root mean square of its groups in units of their
/// tables, with headroom.
fn row_scale(row: &[f32], depths: &[u8]) -> u16 {
    let groups = row.chunks(GROUP).zip(depths);
    let largest = groups
        .filter(|(_, depth)| **depth > 0)
        .map(|(group, &depth)| root_mean_square(group) / trellis_table(depth).sigma())
        .fold(0.0, f32::max);
    half::bf16::from_f32(largest * HEADROOM).to_bits()
}

fn root_mean_square(values: &[f32]) -> f32 {
    let unit = power_of_two(values.iter().copied());
    let sum: f32 = values.iter().map(|v| (v / unit) * (v / unit)).sum();
    (sum / values.len() as f32).sqrt() * unit
}

/// The size of the largest value, rounded down to a power of two. Squares of values in this unit
/// neither overflow nor all vanish, and dividing by it changes no digit.
fn power_of_two(values: impl Iterator<Item = f32>) -> f32 {
    let largest = values.fold(0f32, |largest, v| largest.max(v.abs()));
    // The exponent alone; at least the smallest whose reciprocal is finite.
    f32::from_bits(largest.to_bits() & 0x7f80_0000).max(f32::MIN_POSITIVE)
}

/// State while the groups of a strip are coded in order.
struct StripEncoder<'a> {
    cpu: &'a Cpu,
    code: &'a StageCode<'a>,
    layout: &'a StageLayout,
    /// That of the current group.
    table: &'static Table,
    height: usize,
    /// `height × width`, transformed.
    weights: &'a [f32],
    row_scales: &'a [u16],
    /// How much an error in each row matters.
    importance: &'a [f32],
    /// `W − Ŵ` of the columns coded so far: `width × height`, a row for each column.
    errors: Vec<f32>,
    encoder: Encoder,
    /// Windows of the current tile so far.
    windows: Vec<u8>,
    /// The current block's targets in level units, in coding order.
    aims: Vec<f32>,
    /// What an error of one level costs in each row.
    row_weights: Vec<f32>,
}

impl StripEncoder<'_> {
    /// Codes the tile of column group `g`.
    fn group(&mut self, g: usize) -> Tile {
        let group = self.layout.group(g);
        let (height, width) = (self.height, self.layout.padded_cols());
        if group.depth == 0 {
            for (column, errors) in group
                .range()
                .zip(self.errors[group.first * height..].chunks_exact_mut(height))
            {
                for (r, error) in errors.iter_mut().enumerate() {
                    *error = self.weights[r * width + column];
                }
            }
            return Tile::default();
        }
        self.table = trellis_table(group.depth);
        // Targets, a row for each column of the group: the weights and what feedback adds.
        let mut targets = vec![0f32; group.cols * height];
        for (c, column) in targets.chunks_exact_mut(height).enumerate() {
            for (r, target) in column.iter_mut().enumerate() {
                *target = self.weights[r * width + group.first + c];
            }
        }
        if group.first > 0 {
            // targetsᵀ += Mᵀ · errorsᵀ over all columns before the group.
            self.cpu.gemm_tn(
                self.code.feedback.from(0, group.first),
                width,
                &self.errors,
                height,
                &mut targets,
                height,
                group.cols,
                height,
                group.first,
                1.0,
            );
        }
        let mut codes = self.group_scales(&targets);
        for pass in 0..=REFITS {
            let scales = self.scales(&codes);
            let mut targets = if pass == REFITS {
                std::mem::take(&mut targets)
            } else {
                targets.clone()
            };
            self.windows.clear();
            self.weigh_rows(&scales);
            for block in 0..group.cols / BLOCK_COLS {
                self.block(group.first, block, &mut targets, &scales);
            }
            if pass < REFITS {
                self.refit(&targets, &mut codes);
            }
        }
        let (depth, window) = (self.table.depth(), self.table.window());
        // A zero byte comes first.
        let mut stream = vec![0; 1 + self.windows.len() * usize::from(depth) / 8];
        pack_windows(depth, window, &self.windows, &mut stream[1..]);
        Tile {
            codes: stream,
            scales: codes,
        }
    }

    /// A row's weight is its importance times its squared scale, relative to the largest so that none
    /// underflows.
    fn weigh_rows(&mut self, scales: &[f32]) {
        let largest = scales.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
        let rows = scales.iter().zip(self.importance);
        for (weight, (scale, importance)) in self.row_weights.iter_mut().zip(rows) {
            *weight = (scale / largest) * (scale / largest) * importance;
        }
    }

    /// What scale codes stand for in each row.
    fn scales(&self, codes: &[u8]) -> Vec<f32> {
        let rows = codes.iter().zip(self.row_scales);
        rows.map(|(&code, &bits)| scale_value(code) * half::bf16::from_bits(bits).to_f32())
            .collect()
    }

    /// Replaces each row's scale code by that of the scale which fits the levels just found best to what
    /// they aimed at, in least squares.
    fn refit(&self, targets: &[f32], codes: &mut [u8]) {
        let levels = self.table.levels();
        let stretch = (self.code.stretch)(self.table.depth());
        let height = self.height;
        for (r, code) in codes.iter_mut().enumerate() {
            let aims = targets.iter().skip(r).step_by(height);
            let unit = power_of_two(aims.clone().copied());
            let (mut product, mut square) = (0f32, 0f32);
            for (c, &aim) in aims.enumerate() {
                let at = (c / BLOCK_COLS * height + r) * BLOCK_COLS + c % BLOCK_COLS;
                let level = f32::from(levels[usize::from(self.windows[at])]);
                product += level * (aim / unit);
                square += level * level;
            }
            let row_scale = half::bf16::from_bits(self.row_scales[r]).to_f32();
            let fitted = product / square * unit / row_scale * stretch;
            // Not a number in a row of zeros, and no use where the levels point away.
            if fitted > 0.0 {
                *code = scale_code(fitted);
            }
        }
    }

    /// The scale codes of a group before anything of it is coded.
    fn group_scales(&self, targets: &[f32]) -> Vec<u8> {
        let height = self.height;
        let units: Vec<f32> = (0..height)
            .map(|r| power_of_two(targets.iter().skip(r).step_by(height).copied()))
            .collect();
        let mut squares = vec![0f32; height];
        for column in targets.chunks_exact(height) {
            for ((sum, t), unit) in squares.iter_mut().zip(column).zip(&units) {
                *sum += (t / unit) * (t / unit);
            }
        }
        let columns = (targets.len() / height) as f32;
        squares
            .iter()
            .zip(&units)
            .zip(self.row_scales)
            .map(|((sum, unit), &bits)| {
                let row_scale = half::bf16::from_bits(bits).to_f32();
                let wanted = (sum / columns).sqrt() * unit / self.table.sigma();
                // 0 / 0, of a row of zeros, is coded as zero.
                scale_code(wanted / row_scale)
            })
            .collect()
    }

    /// Codes four columns, notes their error and feeds it into the rest of the group.
    fn block(&mut self, first: usize, block: usize, targets: &mut [f32], scales: &[f32]) {
        let height = self.height;
        let column = first + block * BLOCK_COLS;
        let (own, rest) = targets[block * BLOCK_COLS * height..].split_at_mut(BLOCK_COLS * height);
        for (r, &scale) in scales.iter().enumerate() {
            // A scale so small that this overflows is as good as zero.
            let inverse = Some(1.0 / scale).filter(|i| i.is_finite()).unwrap_or(0.0);
            for j in 0..BLOCK_COLS {
                self.aims[r * BLOCK_COLS + j] = own[j * height + r] * inverse;
            }
        }
        let table = self.table;
        let coded = self.windows.len();
        let previous = self.windows.last().copied().unwrap_or(0);
        self.windows.resize(coded + height * BLOCK_COLS, 0);
        let windows = &mut self.windows[coded..];
        self.encoder
            .encode_block(table, previous, &self.aims, &self.row_weights, windows);
        let width = self.layout.padded_cols();
        for j in 0..BLOCK_COLS {
            let error = &mut self.errors[(column + j) * height..][..height];
            for (r, e) in error.iter_mut().enumerate() {
                let level = f32::from(table.levels()[usize::from(windows[r * BLOCK_COLS + j])]);
                *e = self.weights[r * width + column + j] - level * scales[r];
            }
        }
        // The rest of the group: rank-4 update.
        for (ahead, target) in rest.chunks_exact_mut(height).enumerate() {
            for j in 0..BLOCK_COLS {
                let m = self
                    .code
                    .feedback
                    .from(column + j, column + BLOCK_COLS + ahead)[0];
                let error = &self.errors[(column + j) * height..][..height];
                for (t, e) in target.iter_mut().zip(error) {
                    *t += m * e;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lagar_codec::reference;
    use lagar_kernels::Isa;

    use super::*;
    use crate::encode::{choose_transform, transform_hessian};
    use crate::progress::Silent;
    use crate::random::Random;

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
                table: trellis_table(depth),
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
            let job = Job {
                name: "test",
                layouts: vec![layout.clone()],
                row_importance: importance,
                rows: &|first: usize, out: &mut [f32]| {
                    out.copy_from_slice(&weights[first * width..][..out.len()]);
                },
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
