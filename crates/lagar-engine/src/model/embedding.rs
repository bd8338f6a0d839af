//! Looking up the embeddings of tokens.

mod on_demand;

use std::sync::Arc;

use lagar_kernels::Cpu;

use super::linear::{Linear, RowScratch, Weight};
use crate::EngineError;
pub(super) use on_demand::OnDemand;

/// The token embedding, vocabulary × hidden.
#[derive(Debug)]
pub(super) enum Embedding {
    /// In memory or in a mapped file, and checked.
    Resident(Arc<Linear>),
    /// In a mapped file, of which only the rows that are asked for are touched.
    OnDemand(Box<OnDemand>),
}

impl Embedding {
    /// Writes the rows of tokens; `out` is tokens × hidden.
    pub(super) fn rows(
        &self,
        cpu: &Cpu,
        tokens: &[u32],
        scratch: &mut RowScratch,
        out: &mut [f32],
    ) -> Result<(), EngineError> {
        match self {
            Self::Resident(linear) => {
                linear.rows(cpu, tokens, scratch, out);
                Ok(())
            }
            Self::OnDemand(on_demand) => on_demand.rows(cpu, tokens, scratch, out),
        }
    }

    pub(super) fn is_pressed(&self) -> bool {
        match self {
            Self::Resident(linear) => matches!(linear.weight, Weight::Pressed(_)),
            Self::OnDemand(on_demand) => on_demand.is_pressed(),
        }
    }
}
