//! A model straight from a checkpoint's weights.

use std::sync::Arc;

use super::linear::{Linear, Weight};
use super::source::{Parts, Source};
use super::weights::Weights;
use super::{Model, ModelOptions};
use crate::checkpoint::CARRIED_FILES;
use crate::spec::LinearSpec;
use crate::{Checkpoint, EngineError};

impl Model {
    /// A model of a checkpoint's own weights. They stay in the mapped files, in their own element
    /// type, until a product reads them.
    ///
    /// # Errors
    /// A missing or malformed tokenizer; the checkpoint itself was checked when it was opened.
    pub fn from_checkpoint(
        checkpoint: Checkpoint,
        options: &ModelOptions,
    ) -> Result<Self, EngineError> {
        let spec = checkpoint.spec();
        let files = checkpoint.files();
        let file_bytes = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let small: Vec<_> = files
            .iter()
            .filter(|(name, _)| CARRIED_FILES.contains(&name.as_str()))
            .cloned()
            .collect();
        // With the separator that a file's name follows.
        let origin = checkpoint.path().join("").display().to_string();
        let (embedding, weights) = Weights::resident(spec, &checkpoint)?;
        let parts = Parts {
            embedding,
            weights,
            final_norm: checkpoint.norm(&spec.final_norm)?,
            tokenizer: Arc::new(super::tokenizer(&origin, &small, spec)?),
            spec: spec.clone(),
            files: small,
            origin,
            file_bytes,
            opened: None,
            tier: 0,
        };
        Ok(Self::from_parts(parts, options))
    }
}

impl Source for Checkpoint {
    fn matrix(&self, spec: &LinearSpec) -> Result<Linear, EngineError> {
        let tensor = self.tensor(&spec.weight)?;
        tensor.check(&[spec.outputs, spec.inputs])?;
        Ok(Linear {
            outputs: spec.outputs,
            inputs: spec.inputs,
            weight: Weight::Dense {
                dtype: tensor.dtype(),
                region: tensor.region().clone(),
            },
            bias: None,
        })
    }

    fn vector(&self, name: &str, width: usize) -> Result<Vec<f32>, EngineError> {
        let tensor = self.tensor(name)?;
        tensor.check(&[width])?;
        Ok(tensor.to_f32())
    }
}
