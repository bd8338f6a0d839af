//! The tensors that a description asks for.

use super::{LinearSpec, ModelSpec};

/// What a tensor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// The token embedding, and the head where it is tied.
    Embedding,
    /// The weight of a linear.
    Linear,
    /// A bias or the factors of a norm.
    Vector,
}

/// A tensor that a model needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
}

impl ModelSpec {
    /// Every tensor of the model, tied ones once, in the order of the forward pass.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut tensors = vec![TensorSpec {
            name: self.embedding.clone(),
            shape: vec![self.vocabulary, self.hidden],
            role: Role::Embedding,
        }];
        for block in &self.blocks {
            for norm in block.norms() {
                tensors.push(vector(&norm.weight, norm.width));
            }
            for linear in block.linears() {
                push_linear(&mut tensors, linear);
            }
        }
        tensors.push(vector(&self.final_norm.weight, self.final_norm.width));
        if !self.is_tied() {
            push_linear(&mut tensors, &self.head);
        }
        tensors
    }

    /// Number of parameters, tied tensors once.
    pub fn parameters(&self) -> u64 {
        self.tensors()
            .iter()
            .map(|tensor| tensor.shape.iter().map(|d| *d as u64).product::<u64>())
            .sum()
    }
}

fn vector(name: &str, width: usize) -> TensorSpec {
    TensorSpec {
        name: name.into(),
        shape: vec![width],
        role: Role::Vector,
    }
}

fn push_linear(tensors: &mut Vec<TensorSpec>, linear: &LinearSpec) {
    tensors.push(TensorSpec {
        name: linear.weight.clone(),
        shape: vec![linear.outputs, linear.inputs],
        role: Role::Linear,
    });
    if let Some(bias) = &linear.bias {
        tensors.push(vector(bias, linear.outputs));
    }
}
