//! From tokens to logits.

use lagar_kernels::Cpu;

use super::linear::{Input, Linear};
use super::scratch::room;
use super::{Model, Observer, Session, block};
use crate::EngineError;

/// Which of a call's hidden states to keep.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    All,
    Last,
}

impl Model {
    /// Looks up the embeddings of tokens; `x` is tokens × hidden.
    ///
    /// # Errors
    /// A token outside the vocabulary.
    ///
    /// # Panics
    /// If `x` has another length.
    pub fn embed(&self, cpu: &Cpu, tokens: &[u32], x: &mut [f32]) -> Result<(), EngineError> {
        assert_eq!(x.len(), tokens.len() * self.spec.hidden, "tokens × hidden");
        self.check_tokens(tokens, 0)?;
        self.scratch
            .with(|scratch| self.embedding.rows(cpu, tokens, &mut scratch.rows, x));
        Ok(())
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
    /// # Panics
    /// If a length is another.
    pub fn logits(&self, cpu: &Cpu, hidden: &[f32], n: usize, out: &mut [f32]) {
        assert_eq!(hidden.len(), n * self.spec.hidden, "n × hidden");
        assert_eq!(out.len(), n * self.spec.vocabulary, "n × vocabulary");
        self.scratch.with(|scratch| {
            let mut input = Input::new(hidden, n, self.activations, &mut scratch.prepared);
            self.head().multiply(cpu, &mut input, out);
        });
    }

    /// Appends tokens to a sequence and returns their hidden states after the final norm, tokens ×
    /// hidden: what [`Model::logits`] takes. Observers see the input of every site.
    ///
    /// Long inputs are processed in pieces; neither that nor how a sequence is divided into calls
    /// changes a bit of the result.
    ///
    /// # Errors
    /// A token outside the vocabulary, or more tokens than the session's context has room for. The
    /// session is then as it was.
    pub fn forward<'s>(
        &self,
        cpu: &Cpu,
        session: &'s mut Session,
        tokens: &[u32],
        observer: &mut dyn Observer,
    ) -> Result<&'s [f32], EngineError> {
        self.run(cpu, session, tokens, observer, Keep::All)?;
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
        self.run(cpu, session, tokens, observer, Keep::Last)?;
        if tokens.is_empty() {
            return Ok(&[]);
        }
        let Session { hidden, logits, .. } = session;
        let logits = room(logits, self.spec.vocabulary);
        self.logits(cpu, &hidden[..self.spec.hidden], 1, logits);
        Ok(logits)
    }

    fn run(
        &self,
        cpu: &Cpu,
        session: &mut Session,
        tokens: &[u32],
        observer: &mut dyn Observer,
        keep: Keep,
    ) -> Result<(), EngineError> {
        let asked = session.len() + tokens.len();
        if asked > session.context {
            return Err(EngineError::ContextExceeded {
                asked,
                context: session.context,
            });
        }
        self.check_tokens(tokens, session.len())?;
        let width = self.spec.hidden;
        let kept = match keep {
            Keep::All => tokens.len(),
            Keep::Last => tokens.len().min(session.chunk),
        };
        let Session {
            caches,
            chunk,
            hidden,
            ..
        } = session;
        let hidden = room(hidden, kept * width);
        for (i, tokens) in tokens.chunks(*chunk).enumerate() {
            let first = match keep {
                Keep::All => i * *chunk * width,
                Keep::Last => 0,
            };
            let n = tokens.len();
            let x = &mut hidden[first..first + n * width];
            self.embed(cpu, tokens, x)?;
            for (layer, cache) in caches.iter_mut().enumerate() {
                self.layer(cpu, layer, x, n, cache, observer);
            }
            self.final_norm(cpu, x, n);
            observer.input(self.spec.head_site(), x, n);
            if keep == Keep::Last {
                x.copy_within((n - 1) * width.., 0);
            }
        }
        Ok(())
    }

    fn head(&self) -> &Linear {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    fn check_tokens(&self, tokens: &[u32], first: usize) -> Result<(), EngineError> {
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
