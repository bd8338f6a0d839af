//! Speculation: a cheaper model guesses tokens, which the model that counts then judges together.
//!
//! The draft chooses by the same sampler, with the same draw for each position, from its own
//! logits. The target computes all guesses in one pass and chooses at each position by its own
//! logits, up to the first token that was not guessed. So every token is the target's own choice,
//! greedy or sampled; how many were guessed, and how well, changes only the time it takes.
//!
//! After Leviathan, Kalman and Matias, "Fast inference from transformers via speculative decoding"
//! (arXiv 2211.17192). Their way of sampling keeps the distribution; this one keeps the text.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::Sequence;
use super::cached::Cached;
use super::pace::Pace;
use crate::{EngineError, Sampler};

/// The draft's side of a generation.
#[derive(Debug)]
pub(super) struct Draft<S> {
    /// Holds a beginning of the target's tokens.
    cached: Cached<S>,
    pace: Pace,
}

impl<S: Sequence> Draft<S> {
    pub(super) fn new(sequence: S, pace: Pace) -> Self {
        Self {
            cached: Cached::new(sequence),
            pace,
        }
    }

    pub(super) fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Forgets all but the first `len` tokens.
    pub(super) fn truncate(&mut self, len: usize) {
        self.cached.truncate(len);
    }

    /// Guesses at most `most` of the tokens that follow `cached` and `pending`; `None` if that was
    /// cancelled. An end token is never among them: nothing follows it.
    ///
    /// The sampler has accepted all tokens so far, and is left like that if the text goes on.
    pub(super) fn propose(
        &mut self,
        cached: &[u32],
        pending: &[u32],
        most: usize,
        sampler: &mut Sampler,
        eos: &[u32],
        cancel: Option<&AtomicBool>,
    ) -> Result<Option<Vec<u32>>, EngineError> {
        let mut unseen = [&cached[self.cached.len()..], pending].concat();
        // The last token that is proposed needs no place.
        let room = (self.cached.room() + 1).saturating_sub(unseen.len());
        let count = self.pace.next(most.min(room));
        let mut proposed = Vec::with_capacity(count);
        while proposed.len() < count {
            let started = Instant::now();
            let Some(logits) = self.cached.extend(&unseen, 1, cancel)? else {
                return Ok(None);
            };
            let token = match sampler.sample(logits) {
                Ok(token) => token,
                // What spoils the draft's logits need not spoil the target's.
                Err(EngineError::Logits { .. }) => break,
                Err(error) => return Err(error),
            };
            // A guess costs one token, and after a row of right guesses two; more is catching up.
            if unseen.len() <= 2 {
                self.pace.proposed(started.elapsed());
            }
            if eos.contains(&token) {
                break;
            }
            sampler.accept(&[token]);
            proposed.push(token);
            unseen = vec![token];
        }
        sampler.retract(&proposed);
        Ok(Some(proposed))
    }

    /// Takes note of the target's pass over one token and the `proposed` ones, and of how many of
    /// these it accepted.
    pub(super) fn judged(&mut self, proposed: usize, accepted: usize, pass: Duration) {
        self.pace.judged(proposed, accepted, pass);
    }
}
