//! From tokens to logits.

use std::time::Instant;

use lagar_kernels::Cpu;

use super::block::Part;
use super::linear::Input;
use super::scratch::room;
use super::{Activations, Model, NoObserver, Observer, Session, block};
use crate::EngineError;

impl Model {
    /// Looks up the embeddings of tokens; `x` is tokens × hidden.
    ///
    /// # Errors
    /// A token outside the vocabulary; embeddings in tiers that stay on the disk, and are damaged.
    ///
    /// # Panics
    /// If `x` has another length.
    pub fn embed(&self, cpu: &Cpu, tokens: &[u32], x: &mut [f32]) -> Result<(), EngineError> {
        assert_eq!(x.len(), tokens.len() * self.spec.hidden, "tokens × hidden");
        self.check_tokens(tokens, 0)?;
        self.scratch
            .with(|scratch| self.embedding.rows(cpu, tokens, &mut scratch.rows, x))
    }

    /// Applies the norm before the head to `n` vectors, in place; `x` is n × hidden.
    ///
    /// # Panics
    /// If `x` has another length.
    pub fn final_norm(&self, cpu: &Cpu, x: &mut [f32], n: usize) {
        assert_eq!(x.len(), n * self.spec.hidden, "n × hidden");
        self.scratch.with(|scratch| {
            let before = room(&mut scratch.normed, x.len());
            before.copy_from_slice(x);
            block::norm(cpu, &self.spec.final_norm, &self.final_norm, before, x);
        });
    }

    /// Multiplies by the head: `hidden` is n × hidden after [`Model::final_norm`], `out` n ×
    /// vocabulary.
    ///
    /// # Errors
    /// A head that is read from the disk while the model runs, and cannot be read or is damaged.
    ///
    /// # Panics
    /// If a length is another.
    pub fn logits(
        &self,
        cpu: &Cpu,
        hidden: &[f32],
        n: usize,
        out: &mut [f32],
    ) -> Result<(), EngineError> {
        assert_eq!(hidden.len(), n * self.spec.hidden, "n × hidden");
        assert_eq!(out.len(), n * self.spec.vocabulary, "n × vocabulary");
        self.timed(|| self.head(cpu, hidden, n, self.activations, out))
    }

    /// [`Model::logits`] in this arithmetic.
    pub(super) fn head(
        &self,
        cpu: &Cpu,
        hidden: &[f32],
        n: usize,
        activations: Activations,
        out: &mut [f32],
    ) -> Result<(), EngineError> {
        self.scratch.with(|scratch| {
            let mut input = Input::new(hidden, n, activations, &mut scratch.prepared);
            let pieces = self.weights.head_pieces();
            if pieces == 1 {
                self.weights.head(cpu, 0)?.multiply(cpu, &mut input, out);
                return Ok(());
            }
            let mut first = 0;
            for piece in 0..pieces {
                let piece = self.weights.head(cpu, piece)?;
                let width = piece.outputs;
                let logits = room(&mut scratch.logits, n * width);
                piece.multiply(cpu, &mut input, logits);
                let targets = out.chunks_exact_mut(self.spec.vocabulary);
                for (target, logits) in targets.zip(logits.chunks_exact(width)) {
                    target[first..first + width].copy_from_slice(logits);
                }
                first += width;
            }
            Ok(())
        })
    }

    /// Appends tokens to a sequence and returns their hidden states after the final norm, tokens ×
    /// hidden: what [`Model::logits`] takes. Observers see the input of every site.
    ///
    /// Long inputs are processed in pieces; neither that nor how a sequence is divided into calls
    /// changes a bit of the result.
    ///
    /// # Errors
    /// A token outside the vocabulary, more tokens than the session's context has room for, or
    /// weights on the disk that cannot be read or are damaged. The session is then as it was.
    pub fn forward<'s>(
        &self,
        cpu: &Cpu,
        session: &'s mut Session,
        tokens: &[u32],
        observer: &mut dyn Observer,
    ) -> Result<&'s [f32], EngineError> {
        self.run(cpu, session, tokens, tokens.len(), observer)?;
        Ok(&session.hidden[..tokens.len() * self.spec.hidden])
    }

    /// Appends tokens to a sequence and returns the logits that follow the last one, one per token
    /// of the vocabulary. Without tokens there is nothing to follow: the result is empty.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn next_logits<'s>(
        &self,
        cpu: &Cpu,
        session: &'s mut Session,
        tokens: &[u32],
        observer: &mut dyn Observer,
    ) -> Result<&'s [f32], EngineError> {
        self.last_logits(cpu, session, tokens, tokens.len().min(1), observer)
    }

    /// Appends tokens to a sequence and returns the logits that follow each of the last
    /// `positions` of them, positions × vocabulary. Each has the same bits as if its token had been
    /// appended alone.
    ///
    /// # Errors
    /// As [`Model::forward`].
    ///
    /// # Panics
    /// If `positions` is more than the number of tokens.
    pub fn last_logits<'s>(
        &self,
        cpu: &Cpu,
        session: &'s mut Session,
        tokens: &[u32],
        positions: usize,
        observer: &mut dyn Observer,
    ) -> Result<&'s [f32], EngineError> {
        assert!(positions <= tokens.len(), "logits follow tokens");
        self.run(cpu, session, tokens, positions, observer)?;
        if positions == 0 {
            return Ok(&[]);
        }
        let Session { hidden, logits, .. } = session;
        let logits = room(logits, positions * self.spec.vocabulary);
        let hidden = &hidden[..positions * self.spec.hidden];
        self.logits(cpu, hidden, positions, logits)?;
        Ok(logits)
    }

    /// Appends one token to each of several sequences, all in one pass, so that the weights are read once for all of
    /// them. `logits` becomes sequences × vocabulary: what follows each, the same bits as without the
    /// others.
    ///
    /// # Errors
    /// As [`Model::forward`]; all sessions are then as they were.
    ///
    /// # Panics
    /// If there are not as many tokens as sessions, or `logits` has another length.
    pub fn batch_logits(
        &self,
        cpu: &Cpu,
        sessions: &mut [&mut Session],
        tokens: &[u32],
        logits: &mut [f32],
    ) -> Result<(), EngineError> {
        let n = sessions.len();
        assert_eq!(tokens.len(), n, "a token for each session");
        assert_eq!(logits.len(), n * self.spec.vocabulary, "n × vocabulary");
        for (session, &token) in sessions.iter().zip(tokens) {
            self.check_room(session, &[token])?;
        }
        let before: Vec<usize> = sessions.iter().map(|session| session.len()).collect();
        let mut x = vec![0.0; n * self.spec.hidden];
        let done = self
            .timed(|| self.batch(cpu, sessions, tokens, &mut x))
            .and_then(|()| self.logits(cpu, &x, n, logits));
        if done.is_err() {
            for (session, before) in sessions.iter_mut().zip(before) {
                session.truncate(before);
            }
        }
        done
    }

    /// Takes a token of each sequence through all blocks; `x` is then their hidden states.
    fn batch(
        &self,
        cpu: &Cpu,
        sessions: &mut [&mut Session],
        tokens: &[u32],
        x: &mut [f32],
    ) -> Result<(), EngineError> {
        self.embed(cpu, tokens, x)?;
        for layer in 0..self.spec.blocks.len() {
            let caches = sessions.iter_mut().map(|s| &mut s.caches[layer]);
            let mut parts: Vec<_> = caches.map(|cache| Part { cache, n: 1 }).collect();
            let observer = &mut NoObserver;
            self.layer_in(cpu, layer, x, &mut parts, self.activations, observer)?;
        }
        self.final_norm(cpu, x, tokens.len());
        if let Some(stream) = self.weights.stream() {
            stream.counters().pass(tokens.len());
        }
        Ok(())
    }

    /// Appends tokens; the hidden states of the last `keep` of them are then at the front of
    /// `session.hidden`.
    fn run(
        &self,
        cpu: &Cpu,
        session: &mut Session,
        tokens: &[u32],
        keep: usize,
        observer: &mut dyn Observer,
    ) -> Result<(), EngineError> {
        self.check_room(session, tokens)?;
        let before = session.len();
        let done = self.timed(|| self.pieces(cpu, session, tokens, observer, keep));
        if done.is_err() {
            session.truncate(before);
        }
        done
    }

    /// Takes tokens through all blocks, as many at a time as the session says.
    fn pieces(
        &self,
        cpu: &Cpu,
        session: &mut Session,
        tokens: &[u32],
        observer: &mut dyn Observer,
        keep: usize,
    ) -> Result<(), EngineError> {
        let width = self.spec.hidden;
        let Session {
            caches,
            chunk,
            hidden,
            ..
        } = session;
        let chunk = chunk.unwrap_or(self.chunk());
        let hidden = room(hidden, tokens.len().min(keep + chunk) * width);
        let (mut left, mut kept) = (tokens.len(), 0);
        for tokens in tokens.chunks(chunk) {
            let n = tokens.len();
            let x = &mut hidden[kept * width..(kept + n) * width];
            self.embed(cpu, tokens, x)?;
            for (layer, cache) in caches.iter_mut().enumerate() {
                self.layer(cpu, layer, x, n, cache, observer)?;
            }
            self.final_norm(cpu, x, n);
            observer.input(self.spec.head_site(), x, n);
            let skipped = left.saturating_sub(keep).min(n);
            x.copy_within(skipped * width.., 0);
            left -= n;
            kept += n - skipped;
            if let Some(stream) = self.weights.stream() {
                stream.counters().pass(n);
            }
        }
        Ok(())
    }

    /// Counts the time of a piece of work where weights are read from the disk.
    fn timed<T>(&self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        if let Some(stream) = self.weights.stream() {
            stream.counters().computed(start);
        }
        result
    }

    /// Whether a session has room for these tokens, and the vocabulary has them.
    fn check_room(&self, session: &Session, tokens: &[u32]) -> Result<(), EngineError> {
        let asked = session.len() + tokens.len();
        if asked > session.context {
            return Err(EngineError::ContextExceeded {
                asked,
                context: session.context,
            });
        }
        self.check_tokens(tokens, session.len())
    }

    pub(super) fn check_tokens(&self, tokens: &[u32], first: usize) -> Result<(), EngineError> {
        let vocabulary = self.spec.vocabulary;
        match tokens
            .iter()
            .position(|token| *token as usize >= vocabulary)
        {
            None => Ok(()),
            Some(at) => Err(EngineError::TokenOutOfRange {
                token: tokens[at],
                position: first + at,
                vocabulary,
            }),
        }
    }
}
