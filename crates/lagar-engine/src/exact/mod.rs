//! Original weights from a file's exact section.
//!
//! [`Tensors`] reads the tensors of a file one by one, apart from any model: what the tiers below
//! `full` predict of a tensor ([`Prediction`]), and the original that is coded against it
//! ([`ExactTensor`]). The press codes with the one what restoring decodes with the other.

mod prediction;
mod tensor;

use std::sync::Arc;

use lagar_format::{Body, Container, ExactBody};

use crate::EngineError;
use crate::stored::{Stored, Take, Tier};
pub use prediction::Prediction;
pub use tensor::{ExactScratch, ExactTensor, exact_type};

/// The tensors of an open file.
///
/// Checksums are not checked here: [`Container::check`] does that. Whatever the bytes are, nothing is
/// read outside of them.
#[derive(Debug)]
pub struct Tensors {
    stored: Stored,
}

impl Tensors {
    /// The tensors of a file.
    pub fn new(container: Arc<Container>) -> Self {
        let stored = Stored::new(container);
        stored.trust(stored.container().tiers_complete() - 1);
        Self { stored }
    }

    /// The file.
    pub fn container(&self) -> &Arc<Container> {
        self.stored.container()
    }

    /// What the tiers up to `tier` make of tensor `number`, a position in the index; `None` unless
    /// it is a pressed linear.
    ///
    /// # Errors
    /// A tier that is not there or has nothing of the tensor; stages that do not fit together.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub fn prediction(
        &self,
        number: usize,
        tier: usize,
    ) -> Result<Option<Prediction>, EngineError> {
        let record = &self.container().index().tensors[number];
        match &record.body {
            Body::Linear { .. } => {
                let tier = Tier::new(&self.stored, tier, &self.stored);
                Prediction::open(&tier, record, &Take::All).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The original of tensor `number`, a position in the index; `None` unless it is coded.
    ///
    /// # Errors
    /// A file that was cut off before the end of tier `full`; an exact section that does not fit
    /// together.
    ///
    /// # Panics
    /// If there is no such tensor.
    pub fn exact(&self, number: usize) -> Result<Option<ExactTensor>, EngineError> {
        let index = self.container().index();
        let record = &index.tensors[number];
        let body = record.exact.as_ref().map(|exact| &exact.body);
        match (body, index.full_tier()) {
            (Some(ExactBody::Coded { .. }), Some(full)) => {
                let tier = Tier::new(&self.stored, full, &self.stored);
                ExactTensor::open(&tier, record, &Take::All).map(Some)
            }
            _ => Ok(None),
        }
    }
}
