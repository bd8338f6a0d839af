//! A linear map, whatever its weight is made of.

use std::ops::Range;
use std::sync::Arc;

use lagar_codec::Transform;
use lagar_format::{Dtype, Region};
use lagar_kernels::{Cpu, DenseWeight, WindowProduct};

use super::options::Activations;
use super::scratch::room;
use crate::checkpoint::read_f32;
use crate::stored::{LowRank, Pressed};

/// `y = W x + b`.
#[derive(Clone, Debug)]
pub(super) struct Linear {
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    pub(super) weight: Weight,
    pub(super) bias: Option<Vec<f32>>,
}

/// A matrix, outputs × inputs.
#[derive(Clone, Debug)]
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
    /// Whose result lies here, for the current input.
    transform: Option<Arc<Transform>>,
    /// n × padded width, unless activations are bytes.
    transformed: Vec<f32>,
    /// The same as bytes, if they are.
    rounded: lagar_codec::Activations,
    /// n × rank: between the factors of a low-rank stage.
    between: Vec<f32>,
    /// `between`, rounded to bytes.
    between_rounded: lagar_codec::Activations,
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
        match self.activations {
            Activations::Int8 => {
                cpu.transform_to_bytes(transform, self.x, self.n, &mut prepared.rounded);
            }
            Activations::F32 => {
                let len = self.n * transform.padded_width();
                let transformed = room(&mut prepared.transformed, len);
                cpu.transform(transform, self.x, self.n, transformed);
            }
        }
        prepared.transform = Some(Arc::clone(transform));
    }

    /// The products of the window stages of pressed linears, whose transform has been prepared.
    fn window_products(&self, cpu: &Cpu, of: &mut [(&Linear, &mut [f32])]) {
        let views: Vec<_> = (of.iter())
            .map(|(linear, _)| match &linear.weight {
                Weight::Dense { .. } => Vec::new(),
                Weight::Pressed(pressed) => pressed.stage_views(),
            })
            .collect();
        let mut products: Vec<_> = (views.iter().zip(of))
            .map(|(stages, (_, y))| WindowProduct {
                stages,
                y,
                add: false,
            })
            .collect();
        let prepared = &*self.prepared;
        match self.activations {
            Activations::Int8 => cpu.window_matmuls_int8(&mut products, &prepared.rounded),
            Activations::F32 => {
                let width = views[0][0].layout().padded_cols();
                let x = &prepared.transformed[..self.n * width];
                cpu.window_matmuls_f32(&mut products, x, self.n);
            }
        }
    }

    /// Adds the product of a low-rank stage, whose transform has been prepared.
    fn low_rank_product(&mut self, cpu: &Cpu, stage: &LowRank, y: &mut [f32]) {
        let (n, rank) = (self.n, stage.rank());
        let (u, v) = (stage.u.checked_view(), stage.v.checked_view());
        let Prepared {
            transformed,
            rounded,
            between,
            between_rounded,
            ..
        } = &mut *self.prepared;
        let between = room(between, n * rank);
        match self.activations {
            Activations::Int8 => {
                cpu.window_matmul_int8(&v, rounded, between, false);
                cpu.quantize(between, n, rank, between_rounded);
                cpu.window_matmul_int8(&u, between_rounded, y, true);
            }
            Activations::F32 => {
                let x = &transformed[..n * v.layout().padded_cols()];
                cpu.window_matmul_f32(&v, x, n, between, false);
                cpu.window_matmul_f32(&u, between, n, y, true);
            }
        }
    }
}

impl Linear {
    /// Bytes that a product reads of the weight.
    pub(super) fn bytes(&self) -> u64 {
        match &self.weight {
            Weight::Dense { region, .. } => region.len() as u64,
            Weight::Pressed(pressed) => pressed.bytes(),
        }
    }

    /// `W x + b`; `y` is n × outputs.
    pub(super) fn multiply(&self, cpu: &Cpu, input: &mut Input<'_>, y: &mut [f32]) {
        Self::products(cpu, input, &mut [(self, y)]);
        self.add_bias(cpu, y, input.n);
    }

    /// Adds the bias, if there is one, to `n` vectors.
    pub(super) fn add_bias(&self, cpu: &Cpu, y: &mut [f32], n: usize) {
        if let Some(bias) = &self.bias {
            cpu.add_bias(y, bias, n);
        }
    }

    /// `W x` of linears with the same input; each `y` is n × outputs. The window stages of neighbours that share a transform are one
    /// piece of work.
    pub(super) fn products(cpu: &Cpu, input: &mut Input<'_>, mut of: &mut [(&Self, &mut [f32])]) {
        while let Some((first, _)) = of.first() {
            let transform = first.transform();
            let together = of.iter().take_while(|(linear, _)| {
                let both = linear.transform().zip(transform);
                both.is_some_and(|(own, first)| Arc::ptr_eq(own, first))
            });
            let (now, later) = of.split_at_mut(together.count().max(1));
            of = later;
            if let Some(transform) = transform {
                input.prepare(cpu, transform);
                input.window_products(cpu, now);
            }
            for (linear, y) in now {
                linear.other_products(cpu, input, y);
            }
        }
    }

    /// What its input is transformed by, if it is pressed.
    fn transform(&self) -> Option<&Arc<Transform>> {
        match &self.weight {
            Weight::Dense { .. } => None,
            Weight::Pressed(pressed) => Some(&pressed.transform),
        }
    }

    /// The product with a dense weight; adds those of a pressed one that are not of its window stages.
    fn other_products(&self, cpu: &Cpu, input: &mut Input<'_>, y: &mut [f32]) {
        let n = input.n;
        match &self.weight {
            Weight::Dense { dtype, region } => {
                let weight = dense(*dtype, region);
                cpu.dense_matmul(weight, self.outputs, self.inputs, input.x, n, y);
            }
            Weight::Pressed(pressed) => {
                for low_rank in &pressed.low_rank {
                    input.low_rank_product(cpu, low_rank, y);
                }
                for stage in &pressed.sparse {
                    cpu.sparse_matmul(&stage.checked_view(), input.x, n, y);
                }
            }
        }
    }

    /// `W x` without the window stages, in f32; `None` where that is nothing.
    pub(super) fn unscaled_products(&self, cpu: &Cpu, x: &[f32], n: usize) -> Option<Vec<f32>> {
        let Weight::Pressed(pressed) = &self.weight else {
            return None;
        };
        if pressed.low_rank.is_empty() && pressed.sparse.is_empty() {
            return None;
        }
        let mut y = vec![0.0; n * self.outputs];
        if !pressed.low_rank.is_empty() {
            let mut transformed = vec![0.0; n * pressed.transform.padded_width()];
            cpu.transform(&pressed.transform, x, n, &mut transformed);
            for low_rank in &pressed.low_rank {
                let mut between = vec![0.0; n * low_rank.rank()];
                let (v, u) = (low_rank.v.checked_view(), low_rank.u.checked_view());
                cpu.window_matmul_f32(&v, &transformed, n, &mut between, false);
                cpu.window_matmul_f32(&u, &between, n, &mut y, true);
            }
        }
        for stage in &pressed.sparse {
            cpu.sparse_matmul(&stage.checked_view(), x, n, &mut y);
        }
        Some(y)
    }

    /// Rows of the weight without the window stages, rows × inputs; `None` where that is nothing.
    pub(super) fn unscaled_rows(&self, cpu: &Cpu, rows: &[u32]) -> Option<Vec<f32>> {
        let Weight::Pressed(pressed) = &self.weight else {
            return None;
        };
        if pressed.low_rank.is_empty() && pressed.sparse.is_empty() {
            return None;
        }
        let mut out = vec![0.0; rows.len() * self.inputs];
        let padded = pressed.transform.padded_width();
        let mut sum = vec![0.0; rows.len() * padded];
        for low_rank in &pressed.low_rank {
            let mut u = vec![0.0; rows.len() * low_rank.rank()];
            cpu.window_rows(&low_rank.u.checked_view(), rows, &mut u);
            let v = low_rank.dense_v(cpu);
            cpu.add_product(&u, v, low_rank.rank(), padded, &mut sum);
        }
        cpu.transform_transpose(&pressed.transform, &sum, rows.len(), &mut out);
        for stage in &pressed.sparse {
            cpu.add_sparse_rows(&stage.checked_view(), rows, &mut out);
        }
        Some(out)
    }

    /// Writes rows of the weight, in the space of `x`; `out` is rows × inputs. A pressed weight
    /// gives the sum of the stages of the row, taken back through `Tᵀ`, and what is sparse.
    pub(super) fn rows(&self, cpu: &Cpu, rows: &[u32], scratch: &mut RowScratch, out: &mut [f32]) {
        match &self.weight {
            Weight::Dense { dtype, region } => {
                for (row, out) in rows.iter().zip(out.chunks_exact_mut(self.inputs)) {
                    read_f32(*dtype, region, *row as usize * self.inputs, out);
                }
            }
            Weight::Pressed(Pressed {
                transform,
                stages,
                low_rank,
                sparse,
            }) => {
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
                for low_rank in low_rank {
                    let u = room(&mut scratch.term, rows.len() * low_rank.rank());
                    cpu.window_rows(&low_rank.u.checked_view(), rows, u);
                    let v = low_rank.dense_v(cpu);
                    cpu.add_product(u, v, low_rank.rank(), transform.padded_width(), sum);
                }
                cpu.transform_transpose(transform, sum, rows.len(), out);
                for stage in sparse {
                    cpu.add_sparse_rows(&stage.checked_view(), rows, out);
                }
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
