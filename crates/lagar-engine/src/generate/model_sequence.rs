//! A model's own sequence, to generate on.

use lagar_kernels::Cpu;

use super::{GenerationConfig, Sequence};
use crate::{EngineError, Model, NoObserver, Session};

/// A [`Session`] of a model, and what computes it.
#[derive(Debug)]
pub struct ModelSequence<'m> {
    model: &'m Model,
    cpu: &'m Cpu,
    session: Session,
}

impl<'m> ModelSequence<'m> {
    /// An empty sequence with room for `context` tokens.
    ///
    /// # Errors
    /// As [`Model::session`].
    pub fn new(model: &'m Model, cpu: &'m Cpu, context: usize) -> Result<Self, EngineError> {
        Ok(Self {
            model,
            cpu,
            session: model.session(context)?,
        })
    }
}

impl Sequence for ModelSequence<'_> {
    fn len(&self) -> usize {
        self.session.len()
    }

    fn context(&self) -> usize {
        self.session.context()
    }

    fn truncate(&mut self, len: usize) {
        self.session.truncate(len);
    }

    fn extend(&mut self, tokens: &[u32]) -> Result<&[f32], EngineError> {
        self.model
            .next_logits(self.cpu, &mut self.session, tokens, &mut NoObserver)
    }
}

impl GenerationConfig {
    /// What a model's files say: `generation_config.json`, with the end tokens of `config.json` and
    /// of the tokenizer added.
    ///
    /// # Errors
    /// As [`GenerationConfig::from_json`].
    pub fn of(model: &Model) -> Result<Self, EngineError> {
        let read = |file: &str| match model.file(file) {
            Some(bytes) => Self::from_json(file, bytes),
            None => Ok(Self::default()),
        };
        let mut config = read("generation_config.json")?;
        config.eos.extend(read("config.json")?.eos);
        config.eos.extend(model.tokenizer().eos());
        config.eos.sort_unstable();
        config.eos.dedup();
        Ok(config)
    }
}
