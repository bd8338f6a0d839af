//! What a press is asked to do.

use serde::{Deserialize, Serialize};

/// Settings of a press. Together with the checkpoint, the text and the version they decide every
/// byte of the result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PressOptions {
    /// Bits per weight of every linear, the embedding and the output head, 1 to 8.
    pub bits: u8,
    /// Tokens of calibration text that are read, at most.
    pub tokens: usize,
    /// Positions of a calibration window; the model's own context if that is shorter.
    pub context: usize,
    /// Seeds the random signs of the input transforms.
    pub seed: u64,
    /// Share of the mean diagonal that is added to the diagonal of every Hessian.
    pub damping: f32,
}

impl Default for PressOptions {
    fn default() -> Self {
        Self {
            bits: 4,
            tokens: 131_072,
            context: 2048,
            seed: 0,
            damping: 0.1,
        }
    }
}
