//! Buffers that a forward pass reuses, so that a token allocates nothing.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::linear::{Prepared, RowScratch};
use crate::spec::Rope;

/// Intermediate values of a block, for as many vectors as it last had.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// n × hidden: after a norm, and results on their way into the residual stream.
    pub(super) normed: Vec<f32>,
    /// n × heads × head_dim.
    pub(super) query: Vec<f32>,
    /// n × kv_heads × head_dim.
    pub(super) key: Vec<f32>,
    /// n × kv_heads × head_dim.
    pub(super) value: Vec<f32>,
    /// n × heads × head_dim.
    pub(super) attended: Vec<f32>,
    /// n × MLP width.
    pub(super) gate: Vec<f32>,
    /// n × MLP width.
    pub(super) up: Vec<f32>,
    /// n × MLP width.
    pub(super) activated: Vec<f32>,
    /// n × rows of a piece of the head.
    pub(super) logits: Vec<f32>,
    pub(super) rows: RowScratch,
    pub(super) prepared: Prepared,
    pub(super) angles: Angles,
}

/// Cosines and sines of the positions that the pass is at.
#[derive(Debug, Default)]
pub(super) struct Angles {
    of: Option<(Arc<Rope>, Vec<Range<usize>>)>,
    pub(super) cos: Vec<f32>,
    pub(super) sin: Vec<f32>,
}

impl Angles {
    /// Fills in some runs of positions, unless they are there from the block before.
    pub(super) fn update(
        &mut self,
        rope: &Arc<Rope>,
        positions: impl Iterator<Item = Range<usize>> + Clone,
    ) {
        let same = |(known, runs): &(Arc<Rope>, Vec<Range<usize>>)| {
            Arc::ptr_eq(known, rope) && positions.clone().eq(runs.iter().cloned())
        };
        if !self.of.as_ref().is_some_and(same) {
            let all = positions.clone().flatten();
            rope.angles(all, &mut self.cos, &mut self.sin);
            self.of = Some((Arc::clone(rope), positions.collect()));
        }
    }
}

/// The first `len` values of a buffer that grows as needed. What they are is not specified.
pub(super) fn room(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// Scratch for every pass that runs at the same time; usually one.
#[derive(Debug, Default)]
pub(super) struct ScratchPool(Mutex<Vec<Scratch>>);

impl ScratchPool {
    /// Runs a function with scratch of its own.
    pub(super) fn with<T>(&self, function: impl FnOnce(&mut Scratch) -> T) -> T {
        let free = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = free().pop().unwrap_or_default();
        let result = function(&mut scratch);
        free().push(scratch);
        result
    }
}
