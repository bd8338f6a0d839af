//! The way back through a linear.

use std::ops::Range;

use lagar_kernels::{Cpu, PredictScratch};

use crate::checkpoint::read_f32;
use crate::model::linear::{Linear, Weight};
use crate::model::scratch::room;

/// Weights of a strip of rows: 4 MiB of f32, which stay near while products pass over them.
const STRIP: usize = 1 << 20;
/// Strips are multiples of so many rows: sums of the products are added up in chunks of 128.
const STRIP_ROWS: usize = 128;
/// Rows that a task widens or decodes.
const TASK_ROWS: usize = 64;

/// Buffers of the way back, kept from linear to linear.
#[derive(Debug, Default)]
pub(super) struct Strips {
    /// rows × inputs.
    weights: Vec<f32>,
    /// rows × n.
    dy: Vec<f32>,
}

/// Gradients of a linear's outputs: `n` rows `stride` apart, from column `first` on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outputs<'a> {
    pub(super) dy: &'a [f32],
    pub(super) stride: usize,
    pub(super) first: usize,
    pub(super) n: usize,
}

impl Linear {
    /// `dx += Wᵀ dy`, where `dx` is n × inputs.
    pub(super) fn add_backward(
        &self,
        cpu: &Cpu,
        from: Outputs<'_>,
        strips: &mut Strips,
        dx: &mut [f32],
    ) {
        let Outputs {
            dy,
            stride,
            first,
            n,
        } = from;
        let inputs = self.inputs;
        let step = (STRIP / inputs.max(1)).max(1).next_multiple_of(STRIP_ROWS);
        for row in (0..self.outputs).step_by(step) {
            let rows = row..self.outputs.min(row + step);
            let count = rows.len();
            let weights = room(&mut strips.weights, count * inputs);
            self.widen(cpu, rows, weights);
            let columns = room(&mut strips.dy, count * n);
            cpu.transpose(dy, stride, n, first + row, count, columns);
            cpu.gemm_tn(
                columns, n, weights, inputs, dx, inputs, n, inputs, count, 1.0,
            );
        }
    }

    /// Rows of the weight in the space of `x`, the first a multiple of 16; `out` is rows × inputs.
    fn widen(&self, cpu: &Cpu, rows: Range<usize>, out: &mut [f32]) {
        let task_len = TASK_ROWS * self.inputs;
        let first_row = |task: usize| rows.start + task * TASK_ROWS;
        match &self.weight {
            Weight::Dense { dtype, region } => {
                cpu.pool().chunks(out, task_len, |task, out| {
                    read_f32(*dtype, region, first_row(task) * self.inputs, out);
                });
            }
            Weight::Pressed(pressed) => {
                cpu.pool().chunks(out, task_len, |task, out| {
                    let first = first_row(task);
                    let rows = first..first + out.len() / self.inputs;
                    let mut scratch = PredictScratch::default();
                    pressed.predict(cpu, rows, &mut scratch, out);
                });
            }
        }
    }
}
