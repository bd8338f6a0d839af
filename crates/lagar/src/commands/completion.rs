//! What `run`, `chat` and `demo` share: from options and a prompt to generated text.

use crate::args::SamplingArgs;
use crate::interrupt::Interrupt;
use crate::terminal::{self, Streamed};
use lagar_engine::Model;
use lagar_engine::chat::{CalendarTime, ChatTemplate, Message, RenderOptions};
use lagar_engine::generate::{
    GenerateOptions, GenerationConfig, Generator, ModelSequence, Outcome,
};
use lagar_engine::sampling::SamplingOptions;
use lagar_kernels::Cpu;
use std::io::IsTerminal;
use std::time::{SystemTime, UNIX_EPOCH};

/// How tokens are chosen where neither the command line nor the checkpoint says.
const SAMPLING: SamplingOptions = SamplingOptions {
    temperature: 0.8,
    top_p: 0.95,
    ..SamplingOptions::GREEDY
};

/// A text that was made.
#[derive(Debug)]
pub(super) struct Completion {
    pub(super) text: String,
    pub(super) outcome: Outcome,
}

impl Completion {
    /// Tokens, time and speed in words.
    pub(super) fn speed(&self) -> String {
        let outcome = &self.outcome;
        let computed = outcome.prompt_tokens - outcome.reused_tokens;
        let mut words = format!(
            "prompt: {computed} tokens in {:.2} s",
            outcome.prefill.as_secs_f64()
        );
        if outcome.reused_tokens > 0 {
            words.push_str(&format!(" ({} were known)", outcome.reused_tokens));
        }
        words.push_str(&format!("; text: {} tokens", outcome.tokens.len()));
        if let Some(rate) = outcome.decode_rate() {
            words.push_str(&format!(", {rate:.1} tokens/s"));
        }
        words
    }
}

/// A model, ready to continue texts: what it said last stays computed.
#[derive(Debug)]
pub(super) struct Speaker<'a> {
    model: &'a Model,
    generator: Generator<ModelSequence<'a>>,
    template: ChatTemplate,
    /// Tokens that end a text.
    eos: Vec<u32>,
    pub(super) sampling: SamplingOptions,
}

impl<'a> Speaker<'a> {
    /// With the sampling that the checkpoint recommends.
    pub(super) fn new(cpu: &'a Cpu, model: &'a Model) -> anyhow::Result<Self> {
        let config = GenerationConfig::of(model)?;
        let sequence = ModelSequence::new(model, cpu, model.spec().context)?;
        Ok(Self {
            model,
            generator: Generator::new(sequence),
            template: ChatTemplate::of(model)?,
            sampling: config.sampling(SAMPLING),
            eos: config.eos,
        })
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

    /// Whether the model came with a chat template.
    pub(super) fn can_chat(&self) -> bool {
        !self.template.is_plain()
    }

    /// The tokens of a text as it stands.
    pub(super) fn text(&self, text: &str) -> anyhow::Result<Vec<u32>> {
        Ok(self.model.tokenizer().encode(text)?)
    }

    /// The tokens of a conversation, up to where the model's answer begins.
    pub(super) fn conversation(&self, messages: &[Message]) -> anyhow::Result<Vec<u32>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
        let options = RenderOptions {
            add_generation_prompt: true,
            now: now
                .and_then(|t| i64::try_from(t.as_secs()).ok())
                .map(CalendarTime::from_unix_seconds),
            ..RenderOptions::default()
        };
        Ok(self
            .template
            .encode(self.model.tokenizer(), messages, &options)?)
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
        })
    }
}

/// A seed that differs from run to run.
fn fresh_seed() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}

/// Where generated text goes while it is made.
#[derive(Debug)]
pub(super) struct Writer {
    to: Option<Streamed>,
    /// Whether the last character ended a line.
    at_line_start: bool,
}

impl Writer {
    pub(super) fn silent() -> Self {
        Self {
            to: None,
            at_line_start: true,
        }
    }

    pub(super) fn stdout() -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self {
            to: Some(Streamed::new(terminal)),
            at_line_start: false,
        }
    }

    fn write(&mut self, piece: &str) -> anyhow::Result<()> {
        let Some(to) = self.to else { return Ok(()) };
        if !piece.is_empty() {
            self.at_line_start = piece.ends_with('\n');
            terminal::print(&to.show(piece))?;
        }
        Ok(())
    }

    /// Ends the line, unless the text did.
    pub(super) fn end(&mut self) -> anyhow::Result<()> {
        if self.to.is_some() && !std::mem::replace(&mut self.at_line_start, true) {
            terminal::print("\n")?;
        }
        Ok(())
    }
}
