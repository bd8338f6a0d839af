//! Encoding a strip of 256 rows: scales, error feedback and the trellis search.

use lagar_codec::{
    BLOCK_COLS, GROUP, StageLayout, TILE_ROWS, Table, pack_windows, scale_code, scale_value,
};
use lagar_kernels::{Cpu, Encoder};

use super::loss::{Before, Loss};
use super::stage::{Job, SiteCode, StageCode};
use super::tables::Tables;
use crate::PressError;

/// Share of the largest group scale that a row scale leaves as headroom: error feedback makes
/// later targets a little larger than the weights themselves.
const HEADROOM: f32 = 2.0;

/// Times that the scales of a group are fitted to the levels found with them, and the group coded again.
const REFITS: usize = 1;

/// The bytes of one stage of one strip of 256 rows.
pub(super) struct Strip {
    pub(super) row_scales: Vec<u8>,
    /// For each group, its tile and its scales; nothing in those of depth 0.
    pub(super) groups: Vec<Tile>,
    /// What this stage and those before it lose.
    pub(super) loss: Loss,
}

#[derive(Default)]
pub(super) struct Tile {
    pub(super) codes: Vec<u8>,
    pub(super) scales: Vec<u8>,
}

/// Encodes rows `256 · strip ..` of one linear, stage by stage.
pub(super) fn encode_strip(
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
    let mut original = vec![0f32; stored * layout.cols()];
    (job.rows)(first, &mut original);
    let transformed = |original: &[f32]| {
        let mut weights = vec![0f32; height * width];
        let own = &mut weights[..stored * width];
        cpu.transform(code.transform, original, stored, own);
        weights
    };
    let mut weights = transformed(&original);
    let measure = code.least_damped();
    let before = Before::new(cpu, measure, weights[..stored * width].to_vec(), stored);
    if let Some(outliers) = job.outliers {
        outliers.subtract(first, layout.cols(), &mut original);
        weights = transformed(&original);
    }
    if let Some(low_rank) = job.low_rank {
        low_rank.subtract(first, width, &mut weights[..stored * width]);
    }

    // Padded rows matter as little as the least.
    let mut importance = match job.row_importance {
        [] => vec![1.0; stored],
        all => all[first..first + stored].to_vec(),
    };
    let least = importance.iter().copied().fold(f32::INFINITY, f32::min);
    importance.resize(height, least);
    let mut stages = Vec::with_capacity(job.layouts.len());
    for ((code, layout), tables) in code.stages.iter().zip(&job.layouts).zip(job.tables) {
        let importance = &importance[..];
        let stage = encode_stage(cpu, code, layout, tables, strip, importance, &mut weights);
        let mut stage = stage.map_err(|row| PressError::TooLarge {
            tensor: job.name.to_owned(),
            row: first + row,
        })?;
        stage.loss = before.loss(cpu, measure, &weights[..stored * width]);
        stages.push(stage);
    }
    Ok(stages)
}

/// Encodes one stage of a strip: `weights`, `height × width`, become what the stage leaves of them. The
/// error is a row that is too large.
pub(super) fn encode_stage(
    cpu: &Cpu,
    code: &StageCode<'_>,
    layout: &StageLayout,
    tables: &Tables,
    strip: usize,
    importance: &[f32],
    weights: &mut [f32],
) -> Result<Strip, usize> {
    let width = layout.padded_cols();
    let height = layout.tile_height(strip);
    let row_scales: Vec<u16> = weights
        .chunks_exact(width)
        .map(|row| row_scale(row, layout.depths(), tables))
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
        tables,
        table: tables.any(),
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
        loss: Loss::default(),
    })
}

/// The bf16 bits of a row's scale: the largest root mean square of its groups in units of their
/// tables, with headroom.
fn row_scale(row: &[f32], depths: &[u8], tables: &Tables) -> u16 {
    let groups = row.chunks(GROUP).zip(depths);
    let largest = groups
        .filter(|(_, depth)| **depth > 0)
        .map(|(group, &depth)| root_mean_square(group) / tables.of(depth).sigma())
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
    tables: &'a Tables,
    /// That of the current group.
    table: &'a Table,
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
        self.table = self.tables.of(group.depth);
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
