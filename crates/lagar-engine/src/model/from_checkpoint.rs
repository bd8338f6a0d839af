//! A model straight from a checkpoint's weights.

use super::linear::{Linear, Weight};
use super::source::{Parts, Source};
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
        let files = checkpoint.files();
        let bytes = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let small = files
            .iter()
            .filter(|(name, _)| CARRIED_FILES.contains(&name.as_str()))
            .cloned()
            .collect();
        let parts = Parts::new(checkpoint.spec(), &checkpoint, small, bytes)?;
        Self::from_parts(parts, options)
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
