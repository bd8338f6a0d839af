//! A sequence, and which tokens are in it.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Sequence;
use crate::EngineError;

/// A sequence whose tokens are known.
#[derive(Debug)]
pub(super) struct Cached<S> {
    sequence: S,
    /// The tokens in the sequence's cache.
    tokens: Vec<u32>,
}

impl<S: Sequence> Cached<S> {
    /// Empties the sequence first: its tokens are not known.
    pub(super) fn new(mut sequence: S) -> Self {
        sequence.truncate(0);
        Self {
            sequence,
            tokens: Vec::new(),
        }
    }

    pub(super) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// How many tokens more the sequence can hold.
    pub(super) fn room(&self) -> usize {
        self.sequence.context() - self.tokens.len()
    }

    pub(super) fn context(&self) -> usize {
        self.sequence.context()
    }

    pub(super) fn sequence_mut(&mut self) -> &mut S {
        &mut self.sequence
    }

    /// Forgets all but the first `len` tokens.
    pub(super) fn truncate(&mut self, len: usize) {
        self.sequence.truncate(len);
        self.tokens.truncate(len);
    }

    /// Appends tokens, at least one, and returns the logits that follow each of the last
    /// `positions` of them; `None` if that was cancelled before the last was computed. A long input
    /// goes in pieces, and `positions` has to fit in one.
    pub(super) fn extend(
        &mut self,
        tokens: &[u32],
        positions: usize,
        cancel: Option<&AtomicBool>,
    ) -> Result<Option<&[f32]>, EngineError> {
        let cancelled = || cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed));
        let size = self.sequence.piece();
        let (first, last) = tokens.split_at((tokens.len() - 1) / size * size);
        for piece in first.chunks(size) {
            if cancelled() {
                return Ok(None);
            }
            self.sequence.extend(piece, 0)?;
            self.tokens.extend_from_slice(piece);
        }
        if cancelled() {
            return Ok(None);
        }
        let logits = self.sequence.extend(last, positions)?;
        self.tokens.extend_from_slice(last);
        Ok(Some(logits))
    }
}
