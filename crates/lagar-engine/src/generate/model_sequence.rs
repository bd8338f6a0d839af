//! A model's own sequence, to generate on.

use std::sync::Arc;

use lagar_kernels::Cpu;

use super::{GenerationConfig, Generator, Sequence};
use crate::{EngineError, Model, NoObserver, Session};

/// A [`Session`] of a model, and what computes it.
#[derive(Debug)]
pub struct ModelSequence<'c> {
    model: Arc<Model>,
    cpu: &'c Cpu,
    session: Session,
}

impl<'c> ModelSequence<'c> {
    /// An empty sequence with room for `context` tokens.
    ///
    /// # Errors
    /// As [`Model::session`].
    pub fn new(model: Arc<Model>, cpu: &'c Cpu, context: usize) -> Result<Self, EngineError> {
        Ok(Self {
            session: model.session(context)?,
            model,
            cpu,
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

    fn piece(&self) -> usize {
        self.model.chunk()
    }

    fn truncate(&mut self, len: usize) {
        self.session.truncate(len);
    }

    fn extend(&mut self, tokens: &[u32], positions: usize) -> Result<&[f32], EngineError> {
        let Self {
            model,
            cpu,
            session,
        } = self;
        model.last_logits(cpu, session, tokens, positions, &mut NoObserver)
    }
}

impl Generator<ModelSequence<'_>> {
    /// Goes on with another tier of the same model. What is cached stays, as the tiers before
    /// computed it.
    ///
    /// # Panics
    ///
    /// If it is another model.
    pub fn set_model(&mut self, model: Arc<Model>) {
        let sequence = self.sequence_mut();
        assert_eq!(
            sequence.model.spec(),
            model.spec(),
            "a tier of the same model"
        );
        sequence.model = model;
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
            Some(bytes) => Self::from_json(&model.shown(file), bytes),
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
