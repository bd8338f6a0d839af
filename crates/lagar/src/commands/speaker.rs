//! What `run`, `chat` and `demo` share: from options and a prompt to generated text.

use super::completion::{Completion, Writer};
use crate::args::SamplingArgs;
use crate::interrupt::Interrupt;
use lagar_engine::chat::{CalendarTime, ChatTemplate, Message, RenderOptions};
use lagar_engine::generate::{
    DraftLength, GenerateOptions, GenerationConfig, Generator, ModelSequence,
};
use lagar_engine::sampling::SamplingOptions;
use lagar_engine::{EngineError, Model};
use lagar_kernels::Cpu;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// How tokens are chosen where neither the command line nor the checkpoint says.
const SAMPLING: SamplingOptions = SamplingOptions {
    temperature: 0.8,
    top_p: 0.95,
    ..SamplingOptions::GREEDY
};

/// A model, ready to continue texts: what it said last stays computed.
#[derive(Debug)]
pub(super) struct Speaker<'a> {
    cpu: &'a Cpu,
    model: Arc<Model>,
    /// The model that drafts where it can; see [`Speaker::drafting`].
    draft: Option<Arc<Model>>,
    generator: Generator<ModelSequence<'a>>,
    /// Tokens that end a text.
    eos: Vec<u32>,
    pub(super) sampling: SamplingOptions,
}

impl<'a> Speaker<'a> {
    /// With the sampling that the checkpoint recommends.
    pub(super) fn new(cpu: &'a Cpu, model: Arc<Model>) -> anyhow::Result<Self> {
        let config = GenerationConfig::of(&model)?;
        let sequence = ModelSequence::new(Arc::clone(&model), cpu, model.spec().context)?;
        Ok(Self {
            cpu,
            generator: Generator::new(sequence),
            model,
            draft: None,
            sampling: config.sampling(SAMPLING),
            eos: config.eos,
        })
    }

    /// With a lower tier that drafts.
    pub(super) fn with_draft(mut self, draft: Option<Arc<Model>>) -> anyhow::Result<Self> {
        self.draft = draft;
        self.start_drafting()?;
        Ok(self)
    }

    /// With the sampling that the options ask for, and the checkpoint's where they are silent.
    pub(super) fn with_options(mut self, args: &SamplingArgs) -> Self {
        let sampling = &mut self.sampling;
        if args.greedy {
            *sampling = SamplingOptions::GREEDY;
        }
        let set = |to: &mut f32, from: Option<f32>| *to = from.unwrap_or(*to);
        set(&mut sampling.temperature, args.temperature);
        set(&mut sampling.top_p, args.top_p);
        set(&mut sampling.min_p, args.min_p);
        set(&mut sampling.repeat_penalty, args.repeat_penalty);
        sampling.top_k = args.top_k.unwrap_or(sampling.top_k);
        sampling.seed = args.seed.unwrap_or_else(fresh_seed);
        self
    }

    pub(super) fn model(&self) -> &Model {
        &self.model
    }

    /// Goes on with another tier of the model; what was computed stays.
    pub(super) fn set_model(&mut self, model: Arc<Model>) -> anyhow::Result<()> {
        let drafting = self.drafting();
        self.model = Arc::clone(&model);
        self.generator.set_model(model);
        if drafting == self.drafting() {
            return Ok(());
        }
        self.start_drafting()?;
        Ok(())
    }

    /// Whether there is a draft, and it is of a lower tier than the model.
    pub(super) fn drafting(&self) -> bool {
        let tiers = self.model.tiers();
        let position = |tier| tiers.iter().position(|known| Some(*known) == tier);
        let draft = self.draft.as_ref();
        draft.is_some_and(|draft| position(draft.tier()) < position(self.model.tier()))
    }

    fn start_drafting(&mut self) -> Result<(), EngineError> {
        let draft = self.draft.as_ref().filter(|_| self.drafting());
        let sequence = draft
            .map(|draft| ModelSequence::new(Arc::clone(draft), self.cpu, draft.spec().context));
        self.generator
            .set_draft(sequence.transpose()?, DraftLength::Adaptive);
        Ok(())
    }

    /// The tokens of a text as it stands.
    pub(super) fn text(&self, text: &str) -> anyhow::Result<Vec<u32>> {
        Ok(self.model.tokenizer().encode(text)?)
    }

    /// The tokens of a conversation, up to where the model's answer begins.
    pub(super) fn conversation(
        &self,
        template: &ChatTemplate,
        messages: &[Message],
    ) -> anyhow::Result<Vec<u32>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
        let options = RenderOptions {
            add_generation_prompt: true,
            now: now
                .and_then(|t| i64::try_from(t.as_secs()).ok())
                .map(CalendarTime::from_unix_seconds),
            ..RenderOptions::default()
        };
        Ok(template.encode(self.model.tokenizer(), messages, &options)?)
    }

    /// Continues `prompt` by at most `limit` tokens, up to a stop string or Ctrl-C.
    pub(super) fn complete(
        &mut self,
        prompt: &[u32],
        limit: Option<usize>,
        stop: &[String],
        interrupt: &Interrupt,
        writer: &mut Writer,
    ) -> anyhow::Result<Completion> {
        let options = GenerateOptions {
            sampling: self.sampling,
            max_tokens: limit,
            stop,
            eos: &self.eos,
            cancel: Some(interrupt.flag()),
        };
        self.model.reset_streaming();
        let mut generation = self
            .generator
            .generate(self.model.tokenizer(), prompt, &options)?;
        let mut text = String::new();
        while let Some(piece) = generation.next_piece()? {
            writer.write(&piece)?;
            text.push_str(&piece);
        }
        Ok(Completion {
            text,
            outcome: generation.finish(),
            drafting: self.drafting(),
            streamed: self.model.streaming(),
        })
    }
}

/// A seed that differs from run to run.
fn fresh_seed() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}
