//! A linear map, whatever its weight is made of.

use std::ops::Range;
use std::sync::Arc;

use lagar_codec::Transform;
use lagar_format::{Dtype, Region};
use lagar_kernels::{Cpu, DenseWeight};

use super::options::Activations;
use super::scratch::room;
use crate::checkpoint::read_f32;
use crate::stored::Pressed;

/// `y = W x + b`.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    pub(super) weight: Weight,
    pub(super) bias: Option<Vec<f32>>,
}

/// A matrix, outputs × inputs.
#[derive(Debug)]
pub(super) enum Weight {
    /// Elements as a checkpoint has them.
    Dense {
        /// F32, F16 or BF16.
        dtype: Dtype,
        /// Little-endian, row-major.
        region: Region,
    },
    /// Straight from the codes.
    Pressed(Pressed),
}

/// `n` vectors on their way into linears, and what has been computed from them so far: linears
/// that share a transform share the work.
#[derive(Debug)]
pub(super) struct Input<'a> {
    x: &'a [f32],
    n: usize,
    activations: Activations,
    prepared: &'a mut Prepared,
}

/// Buffers of an [`Input`].
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// Whose result `transformed` is, for the current input.
    transform: Option<Arc<Transform>>,
    /// n × padded width.
    transformed: Vec<f32>,
    /// `transformed`, rounded to bytes.
    rounded: lagar_codec::Activations,
}

impl<'a> Input<'a> {
    /// `n` vectors, `x` being n × width.
    pub(super) fn new(
        x: &'a [f32],
        n: usize,
        activations: Activations,
        prepared: &'a mut Prepared,
    ) -> Self {
        prepared.transform = None;
        Self {
            x,
            n,
            activations,
            prepared,
        }
    }

    fn prepare(&mut self, cpu: &Cpu, transform: &Arc<Transform>) {
        let prepared = &mut *self.prepared;
        let known = prepared.transform.as_ref();
        if known.is_some_and(|known| Arc::ptr_eq(known, transform)) {
            return;
        }
        let width = transform.padded_width();
        let transformed = room(&mut prepared.transformed, self.n * width);
        cpu.transform(transform, self.x, self.n, transformed);
        if self.activations == Activations::Int8 {
            cpu.quantize(transformed, self.n, width, &mut prepared.rounded);
        }
        prepared.transform = Some(Arc::clone(transform));
    }
}

impl Linear {
    /// Multiplies; `y` is n × outputs.
    pub(super) fn multiply(&self, cpu: &Cpu, input: &mut Input<'_>, y: &mut [f32]) {
        let n = input.n;
        match &self.weight {
            Weight::Dense { dtype, region } => {
                let weight = dense(*dtype, region);
                cpu.dense_matmul(weight, self.outputs, self.inputs, input.x, n, y);
            }
            Weight::Pressed(Pressed { transform, stages }) => {
                input.prepare(cpu, transform);
                for (i, stage) in stages.iter().enumerate() {
                    let stage = stage.checked_view();
                    match input.activations {
                        Activations::Int8 => {
                            cpu.window_matmul_int8(&stage, &input.prepared.rounded, y, i > 0);
                        }
                        Activations::F32 => {
                            let x = &input.prepared.transformed[..n * transform.padded_width()];
                            cpu.window_matmul_f32(&stage, x, n, y, i > 0);
                        }
                    }
                }
            }
        }
        if let Some(bias) = &self.bias {
            cpu.add_bias(y, bias, n);
        }
    }

    /// Writes rows of the weight, in the space of `x`; `out` is rows × inputs. A pressed weight
    /// gives `Σ stages` of the row, taken back through `Tᵀ`.
    pub(super) fn rows(&self, cpu: &Cpu, rows: &[u32], scratch: &mut RowScratch, out: &mut [f32]) {
        match &self.weight {
            Weight::Dense { dtype, region } => {
                for (row, out) in rows.iter().zip(out.chunks_exact_mut(self.inputs)) {
                    read_f32(*dtype, region, *row as usize * self.inputs, out);
                }
            }
            Weight::Pressed(Pressed { transform, stages }) => {
                let len = rows.len() * transform.padded_width();
                let sum = room(&mut scratch.sum, len);
                for (i, stage) in stages.iter().enumerate() {
                    let stage = stage.checked_view();
                    if i == 0 {
                        cpu.window_rows(&stage, rows, sum);
                    } else {
                        let term = room(&mut scratch.term, len);
                        cpu.window_rows(&stage, rows, term);
                        for (sum, term) in sum.iter_mut().zip(term) {
                            *sum += *term;
                        }
                    }
                }
                cpu.transform_transpose(transform, sum, rows.len(), out);
            }
        }
    }

    /// Consecutive rows of the weight.
    pub(super) fn row_range(&self, cpu: &Cpu, rows: Range<usize>) -> Vec<f32> {
        let mut out = vec![0.0; rows.len() * self.inputs];
        let rows: Vec<u32> = rows.map(|row| row as u32).collect();
        self.rows(cpu, &rows, &mut RowScratch::default(), &mut out);
        out
    }
}

/// Buffers of [`Linear::rows`].
#[derive(Debug, Default)]
pub(super) struct RowScratch {
    sum: Vec<f32>,
    term: Vec<f32>,
}

/// Dense weights as the kernels take them.
fn dense(dtype: Dtype, bytes: &[u8]) -> DenseWeight<'_> {
    match dtype {
        Dtype::F32 => DenseWeight::F32(bytes),
        Dtype::F16 => DenseWeight::F16(bytes),
        Dtype::BF16 => DenseWeight::Bf16(bytes),
        other => panic!("{other} was refused on loading"),
    }
}
