//! Changing a model's small parameters: vectors, and the row scales of pressed matrices.

use std::sync::Arc;

use lagar_codec::Transform;
use lagar_format::Region;
use lagar_kernels::Cpu;

use super::Model;
use super::embedding::Embedding;
use super::linear::{Linear, Weight};
use super::weights::Weights;
use crate::stored::Pressed;

impl Model {
    /// The row scales of each stage of a pressed matrix, as they are stored: one little-endian bf16
    /// for each padded row. `None` if there is no such matrix or it is not pressed.
    ///
    /// # Panics
    /// If weights are read from the disk while the model runs.
    pub fn row_scales(&self, name: &str) -> Option<Vec<Region>> {
        let stages = self.pressed(name)?.stages.iter();
        Some(stages.map(|stage| stage.row_scales.clone()).collect())
    }

    /// What is done to the inputs of a pressed matrix. `None` if there is no such matrix or it is not pressed.
    ///
    /// # Panics
    /// If weights are read from the disk while the model runs.
    pub fn transform(&self, name: &str) -> Option<&Transform> {
        Some(&self.pressed(name)?.transform)
    }

    /// The pressed matrix of a name.
    fn pressed(&self, name: &str) -> Option<&Pressed> {
        match &self.matrix(name)?.weight {
            Weight::Pressed(pressed) => Some(pressed),
            Weight::Dense { .. } => None,
        }
    }

    /// Replaces the row scales of one stage of a pressed matrix. A tied embedding stays tied.
    ///
    /// # Panics
    /// If the model has no such stage, the length is another, or weights are read from the disk while
    /// the model runs.
    pub fn set_row_scales(&mut self, name: &str, stage: usize, scales: Vec<u8>) {
        let edit = |linear: &mut Linear| {
            let Weight::Pressed(pressed) = &mut linear.weight else {
                panic!("{name} is not pressed");
            };
            let stage = &mut pressed.stages[stage];
            assert_eq!(scales.len(), stage.row_scales.len(), "a bf16 a padded row");
            stage.row_scales = Region::from_vec(scales);
        };
        let Weights::Resident { blocks, head } = &mut self.weights else {
            panic!("{RESIDENT}");
        };
        if name == self.spec.head.weight {
            edit(Arc::make_mut(head));
            if self.spec.is_tied() {
                self.embedding = Embedding::Resident(Arc::clone(head));
            }
            return;
        }
        if name == self.spec.embedding {
            let Embedding::Resident(embedding) = &mut self.embedding else {
                panic!("{RESIDENT}");
            };
            return edit(Arc::make_mut(embedding));
        }
        for (spec, weights) in self.spec.blocks.iter().zip(blocks) {
            let mut linears = spec.linears().zip(weights.linears_mut());
            if let Some((_, linear)) = linears.find(|(spec, _)| spec.weight == name) {
                return edit(linear);
            }
        }
        panic!("the model has no matrix {name}");
    }

    /// The share of a pressed matrix's products that its row scales have no part in, that of its low-rank and sparse
    /// stages, for `n` vectors `x`: `n × outputs`. `None` if the matrix has no such stages, or is not pressed.
    ///
    /// # Panics
    /// If weights are read from the disk while the model runs, or `x` is not `n` vectors.
    pub fn unscaled_products(
        &self,
        cpu: &Cpu,
        name: &str,
        x: &[f32],
        n: usize,
    ) -> Option<Vec<f32>> {
        let linear = self.matrix(name)?;
        assert_eq!(x.len(), n * linear.inputs, "vectors of {name}");
        linear.unscaled_products(cpu, x, n)
    }

    /// The same share of some rows of the matrix itself, rows × inputs.
    ///
    /// # Panics
    /// If weights are read from the disk while the model runs, or there is no such row.
    pub fn unscaled_rows(&self, cpu: &Cpu, name: &str, rows: &[u32]) -> Option<Vec<f32>> {
        self.matrix(name)?.unscaled_rows(cpu, rows)
    }

    /// The matrix of a name.
    fn matrix(&self, name: &str) -> Option<&Linear> {
        let Weights::Resident { blocks, head } = &self.weights else {
            panic!("{RESIDENT}");
        };
        if name == self.spec.head.weight {
            return Some(head);
        }
        if name == self.spec.embedding {
            let Embedding::Resident(embedding) = &self.embedding else {
                panic!("{RESIDENT}");
            };
            return Some(embedding);
        }
        let all = self.spec.blocks.iter().zip(blocks);
        let mut linears = all.flat_map(|(spec, weights)| spec.linears().zip(weights.linears()));
        let (_, linear) = linears.find(|(spec, _)| spec.weight == name)?;
        Some(linear)
    }

    /// A norm's weights or a bias; `None` if the model has no such vector.
    ///
    /// # Panics
    /// If weights are read from the disk while the model runs.
    pub fn vector(&self, name: &str) -> Option<&[f32]> {
        let Weights::Resident { blocks, head } = &self.weights else {
            panic!("{RESIDENT}");
        };
        if name == self.spec.final_norm.weight {
            return Some(&self.final_norm);
        }
        if Some(name) == self.spec.head.bias.as_deref() {
            return head.bias.as_deref();
        }
        self.spec
            .blocks
            .iter()
            .zip(blocks)
            .find_map(|(spec, weights)| {
                let mut norms = spec.norms().zip(weights.norms());
                if let Some((_, norm)) = norms.find(|(spec, _)| spec.weight == name) {
                    return Some(norm);
                }
                let mut linears = spec.linears().zip(weights.linears());
                let named = linears.find(|(spec, _)| spec.bias.as_deref() == Some(name));
                named.and_then(|(_, linear)| linear.bias.as_deref())
            })
    }

    /// Replaces a norm's weights or a bias.
    ///
    /// # Panics
    /// If the model has no such vector, the length is another, or weights are read from the disk while
    /// the model runs.
    pub fn set_vector(&mut self, name: &str, values: &[f32]) {
        let Weights::Resident { blocks, head } = &mut self.weights else {
            panic!("{RESIDENT}");
        };
        if name == self.spec.final_norm.weight {
            return self.final_norm.copy_from_slice(values);
        }
        if Some(name) == self.spec.head.bias.as_deref() {
            let bias = Arc::make_mut(head).bias.as_mut().expect("a bias");
            return bias.copy_from_slice(values);
        }
        for (spec, weights) in self.spec.blocks.iter().zip(blocks) {
            if let Some(at) = spec.norms().position(|norm| norm.weight == name) {
                let norm = weights.norms_mut().nth(at).expect("as many as described");
                return norm.copy_from_slice(values);
            }
            let mut linears = spec.linears().zip(weights.linears_mut());
            let named = linears.find(|(spec, _)| spec.bias.as_deref() == Some(name));
            if let Some((_, linear)) = named {
                let bias = linear.bias.as_mut().expect("a bias");
                return bias.copy_from_slice(values);
            }
        }
        panic!("the model has no vector {name}");
    }
}

const RESIDENT: &str = "parameters of weights that are read from the disk cannot be changed";
