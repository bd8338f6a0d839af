//! Encoding one window stage of some linears that read the same input.

use std::sync::Mutex;

use lagar_codec::{BLOCK_COLS, GROUP, StageLayout, TILE_ROWS, Table, Transform, ZERO_SCALE};
use lagar_codec::{scale_code, scale_value};
use lagar_kernels::{BlockEncoder, Cpu};

use super::feedback::Feedback;
use crate::{PressError, Progress};

/// Share of the largest group scale that a row scale leaves as headroom: error feedback makes
/// later targets a little larger than the weights themselves.
const HEADROOM: f32 = 2.0;

/// The stored bytes of a window stage; lengths as [`StageLayout`] says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EncodedStage {
    pub(crate) codes: Vec<u8>,
    pub(crate) scales: Vec<u8>,
    pub(crate) row_scales: Vec<u8>,
}

/// A linear to encode.
pub(crate) struct Job<'a> {
    /// Shape and depths.
    pub(crate) layout: StageLayout,
    /// Reads rows `first..` of the weight matrix (row-major, as many as fit) as f32.
    pub(crate) rows: &'a (dyn Fn(usize, &mut [f32]) -> Result<(), PressError> + Sync),
}

/// What the linears of one site share.
pub(crate) struct SiteCode<'a> {
    pub(crate) transform: &'a Transform,
    pub(crate) feedback: &'a Feedback,
    pub(crate) table: &'a Table,
}

/// The bytes of one strip of 256 rows.
struct Strip {
    codes: Vec<u8>,
    scales: Vec<u8>,
    row_scales: Vec<u8>,
}

/// Encodes every job by LDLQ: columns in blocks of four, each block's path found by Viterbi, its
/// rounding error fed into the columns after it. Strips of 256 rows are independent of each other,
/// so the result doesn't depend on the number of threads.
pub(crate) fn encode_site(
    cpu: &Cpu,
    code: &SiteCode<'_>,
    jobs: &[Job<'_>],
    progress: &dyn Progress,
) -> Result<Vec<EncodedStage>, PressError> {
    let strips: Vec<(usize, usize)> = jobs
        .iter()
        .enumerate()
        .flat_map(|(job, j)| (0..j.layout.tile_rows()).map(move |strip| (job, strip)))
        .collect();
    let done: Vec<Mutex<Option<Result<Strip, PressError>>>> =
        strips.iter().map(|_| Mutex::new(None)).collect();
    cpu.pool().run(strips.len(), &|i| {
        let (job, strip) = strips[i];
        let result = if progress.cancelled() {
            Err(PressError::Interrupted)
        } else {
            encode_strip(cpu, code, &jobs[job], strip)
        };
        let layout = &jobs[job].layout;
        progress.advance((layout.tile_height(strip) * layout.padded_cols()) as u64);
        *done[i].lock().expect("no holder panics") = Some(result);
    });

    let mut stages: Vec<EncodedStage> = jobs
        .iter()
        .map(|job| EncodedStage {
            codes: Vec::with_capacity(job.layout.codes_len()),
            scales: Vec::with_capacity(job.layout.scales_len()),
            row_scales: Vec::with_capacity(job.layout.row_scales_len()),
        })
        .collect();
    for (&(job, _), slot) in strips.iter().zip(done) {
        let strip = slot.into_inner().expect("no holder panics").expect("every strip is run")?;
        let stage = &mut stages[job];
        stage.codes.extend(strip.codes);
        stage.scales.extend(strip.scales);
        stage.row_scales.extend(strip.row_scales);
    }
    for (stage, job) in stages.iter_mut().zip(jobs) {
        stage.codes.resize(job.layout.codes_len(), 0);
    }
    Ok(stages)
}

/// Encodes rows `256 · strip ..` of one linear.
fn encode_strip(
    cpu: &Cpu,
    code: &SiteCode<'_>,
    job: &Job<'_>,
    strip: usize,
) -> Result<Strip, PressError> {
    let layout = &job.layout;
    let width = layout.padded_cols();
    let height = layout.tile_height(strip);
    let first = strip * TILE_ROWS;
    let stored = (layout.rows() - first).min(height);
    let mut weights = vec![0f32; height * width];
    {
        let mut original = vec![0f32; stored * layout.cols()];
        (job.rows)(first, &mut original)?;
        cpu.transform(code.transform, &original, stored, &mut weights[..stored * width]);
    }

    let row_scales: Vec<u16> = weights
        .chunks_exact(width)
        .map(|row| row_scale(row, code.table.sigma()))
        .collect();
    let mut encoder = StripEncoder {
        cpu,
        code,
        layout,
        height,
        weights: &weights,
        row_scales: &row_scales,
        errors: vec![0.0; width * height],
        blocks: BlockEncoder::new(cpu.isa(), code.table, height),
    };
    let mut result = Strip {
        codes: Vec::with_capacity(layout.codes_offset(strip, layout.groups()) - layout.codes_offset(strip, 0)),
        scales: Vec::new(),
        row_scales: row_scales.iter().flat_map(|s| s.to_le_bytes()).collect(),
    };
    for g in 0..layout.groups() {
        encoder.group(g, &mut result);
    }
    Ok(result)
}

/// The bf16 bits of a row's scale: the largest root mean square of its groups in units of the
/// table, with headroom.
fn row_scale(row: &[f32], sigma: f32) -> u16 {
    let largest = row.chunks(GROUP).map(root_mean_square).fold(0.0, f32::max);
    half::bf16::from_f32(largest / sigma * HEADROOM).to_bits()
}

fn root_mean_square(values: &[f32]) -> f32 {
    let sum: f32 = values.iter().map(|v| v * v).sum();
    (sum / values.len() as f32).sqrt()
}

/// State while the groups of a strip are coded in order.
struct StripEncoder<'a> {
    cpu: &'a Cpu,
    code: &'a SiteCode<'a>,
    layout: &'a StageLayout,
    height: usize,
    /// `height × width`, transformed.
    weights: &'a [f32],
    row_scales: &'a [u16],
    /// `W − Ŵ` of the columns coded so far: `width × height`, a row for each column.
    errors: Vec<f32>,
    blocks: BlockEncoder<'a>,
}

impl StripEncoder<'_> {
    fn group(&mut self, g: usize, strip: &mut Strip) {
        let group = self.layout.group(g);
        let (height, width) = (self.height, self.layout.padded_cols());
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
        let scales = self.group_scales(&targets, &mut strip.scales);
        self.blocks.begin_tile(&mut strip.codes);
        for block in 0..group.cols / BLOCK_COLS {
            self.block(group.first, block, &mut targets, &scales, &mut strip.codes);
        }
    }

    /// Appends the scale codes of a group; returns the scales.
    fn group_scales(&self, targets: &[f32], codes: &mut Vec<u8>) -> Vec<f32> {
        let height = self.height;
        let mut squares = vec![0f32; height];
        for column in targets.chunks_exact(height) {
            for (sum, t) in squares.iter_mut().zip(column) {
                *sum += t * t;
            }
        }
        let columns = (targets.len() / height) as f32;
        squares
            .iter()
            .zip(self.row_scales)
            .map(|(sum, &bits)| {
                let row_scale = half::bf16::from_bits(bits).to_f32();
                let wanted = (sum / columns).sqrt() / self.code.table.sigma();
                let code = if row_scale > 0.0 { scale_code(wanted / row_scale) } else { ZERO_SCALE };
                codes.push(code);
                scale_value(code) * row_scale
            })
            .collect()
    }

    /// Codes four columns, notes their error and feeds it into the rest of the group.
    fn block(
        &mut self,
        first: usize,
        block: usize,
        targets: &mut [f32],
        scales: &[f32],
        codes: &mut Vec<u8>,
    ) {
        let height = self.height;
        let column = first + block * BLOCK_COLS;
        let (own, rest) = targets[block * BLOCK_COLS * height..].split_at_mut(BLOCK_COLS * height);
        let (aims, weights) = self.blocks.inputs();
        for (r, &scale) in scales.iter().enumerate() {
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            weights[r] = scale * scale;
            for j in 0..BLOCK_COLS {
                aims[r * BLOCK_COLS + j] = own[j * height + r] * inverse;
            }
        }
        let levels = self.blocks.encode(codes);
        let width = self.layout.padded_cols();
        for j in 0..BLOCK_COLS {
            let error = &mut self.errors[(column + j) * height..][..height];
            for (r, e) in error.iter_mut().enumerate() {
                let level = f32::from(levels[r * BLOCK_COLS + j]);
                *e = self.weights[r * width + column + j] - level * scales[r];
            }
        }
        // The rest of the group: rank-4 update.
        for (ahead, target) in rest.chunks_exact_mut(height).enumerate() {
            for j in 0..BLOCK_COLS {
                let m = self.code.feedback.from(column + j, column + BLOCK_COLS + ahead)[0];
                let error = &self.errors[(column + j) * height..][..height];
                for (t, e) in target.iter_mut().zip(error) {
                    *t += m * e;
                }
            }
        }
    }
}
