//! How a model computes.

use lagar_kernels::KvFormat;

/// The arithmetic of pressed linears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activations {
    /// Inputs are rounded to bytes, one scale for each group of 128 columns; sums of products are
    /// exact integers. The fast path.
    #[default]
    Int8,
    /// Inputs stay f32.
    F32,
}

/// How a model computes. The default is the fast path for what the model is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelOptions {
    /// The arithmetic of pressed linears. Dense ones always take f32 inputs.
    pub activations: Activations,
    /// The element type of cached keys and values; by default F16 for pressed weights with int8
    /// activations, else F32.
    pub kv: Option<KvFormat>,
}

impl ModelOptions {
    /// The options with this arithmetic.
    #[must_use]
    pub fn with_activations(mut self, activations: Activations) -> Self {
        self.activations = activations;
        self
    }

    /// The options with this type of cached keys and values.
    #[must_use]
    pub fn with_kv(mut self, kv: KvFormat) -> Self {
        self.kv = Some(kv);
        self
    }
}
