//! The weights that a pass asks for, one block after another, wherever they are.

use std::ops::Deref;
use std::sync::Arc;

use lagar_kernels::Cpu;

use super::block::BlockWeights;
use super::embedding::Embedding;
use super::linear::{Linear, Weight};
use super::source::Source;
use super::stream::{Held, Stream};
use crate::EngineError;
use crate::spec::{LinearSpec, ModelSpec};

/// The blocks and the head of a model.
#[derive(Debug)]
pub(super) enum Weights {
    /// In memory, or in mapped files.
    Resident {
        blocks: Vec<BlockWeights>,
        head: Arc<Linear>,
    },
    /// Read from the disk as they are asked for.
    Streamed(Stream),
}

/// Borrowed weights. Streamed ones are let go of when this is dropped.
///
/// A thread holds at most one: streaming may wait for it to be dropped before it reads another.
#[derive(Debug)]
pub(super) enum Borrowed<'a, T> {
    Resident(&'a T),
    Streamed(Held<'a, T>),
}

impl<T> Deref for Borrowed<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Resident(weights) => weights,
            Self::Streamed(held) => held,
        }
    }
}

impl Weights {
    /// Everything in memory; also the embedding, which may be the head.
    pub(super) fn resident(
        spec: &ModelSpec,
        source: &impl Source,
    ) -> Result<(Embedding, Self), EngineError> {
        let embedding = Arc::new(source.linear(&embedding_spec(spec))?);
        let head = match spec.is_tied() {
            true => Arc::clone(&embedding),
            false => Arc::new(source.linear(&spec.head)?),
        };
        let blocks = spec.blocks.iter().map(|block| source.block(block));
        let weights = Self::Resident {
            blocks: blocks.collect::<Result<_, _>>()?,
            head,
        };
        Ok((Embedding::Resident(embedding), weights))
    }

    /// The weights of a block.
    pub(super) fn block(
        &self,
        cpu: &Cpu,
        layer: usize,
    ) -> Result<Borrowed<'_, BlockWeights>, EngineError> {
        match self {
            Self::Resident { blocks, .. } => Ok(Borrowed::Resident(&blocks[layer])),
            Self::Streamed(stream) => Ok(Borrowed::Streamed(stream.block(cpu, layer)?)),
        }
    }

    /// Number of pieces of rows in which the output head comes, one after the other: usually one.
    pub(super) fn head_pieces(&self) -> usize {
        match self {
            Self::Resident { .. } => 1,
            Self::Streamed(stream) => stream.head_pieces(),
        }
    }

    /// A piece of the output head.
    pub(super) fn head(
        &self,
        cpu: &Cpu,
        piece: usize,
    ) -> Result<Borrowed<'_, Linear>, EngineError> {
        match self {
            Self::Resident { head, .. } => Ok(Borrowed::Resident(head)),
            Self::Streamed(stream) => Ok(Borrowed::Streamed(stream.head(cpu, piece)?)),
        }
    }

    /// Where weights are read from the disk.
    pub(super) fn stream(&self) -> Option<&Stream> {
        match self {
            Self::Resident { .. } => None,
            Self::Streamed(stream) => Some(stream),
        }
    }

    /// Whether any matrix is pressed.
    pub(super) fn is_pressed(&self) -> bool {
        match self {
            Self::Resident { blocks, head } => {
                matches!(head.weight, Weight::Pressed(_))
                    || blocks.iter().any(BlockWeights::is_pressed)
            }
            Self::Streamed(stream) => !stream.is_decoded(),
        }
    }
}

/// The embedding as a linear, vocabulary × hidden.
pub(super) fn embedding_spec(spec: &ModelSpec) -> LinearSpec {
    LinearSpec {
        weight: spec.embedding.clone(),
        bias: None,
        outputs: spec.vocabulary,
        inputs: spec.hidden,
    }
}
