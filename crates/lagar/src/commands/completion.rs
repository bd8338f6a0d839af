//! What `run`, `chat` and `demo` share: from a prompt to generated text.

use crate::args::SamplingArgs;
use crate::interrupt::Interrupt;
use crate::terminal::{self, Streamed};
use lagar_engine::chat::{CalendarTime, ChatTemplate, Message, RenderOptions};
use lagar_engine::sampling::SamplingOptions;
use lagar_engine::{Model, Session};
use lagar_kernels::Cpu;
use std::io::IsTerminal;
use std::time::{SystemTime, UNIX_EPOCH};

/// Tokens to continue.
#[derive(Debug)]
pub(super) struct Prompt {
    pub(super) tokens: Vec<u32>,
    /// How many of them the session holds already.
    pub(super) known: usize,
}

impl Prompt {
    /// A text as it stands.
    pub(super) fn text(model: &Model, text: &str) -> anyhow::Result<Self> {
        Ok(Self { tokens: model.tokenizer().encode(text)?, known: 0 })
    }

    /// A conversation, up to where the model's answer begins.
    pub(super) fn conversation(model: &Model, template: &ChatTemplate, messages: &[Message]) -> anyhow::Result<Self> {
        let mut options = RenderOptions::default();
        options.add_generation_prompt = true;
        options.now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| i64::try_from(since.as_secs()).ok())
            .map(CalendarTime::from_unix_seconds);
        Ok(Self { tokens: template.encode(model.tokenizer(), messages, &options)?, known: 0 })
    }
}

/// A seed that differs from run to run.
fn fresh_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
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
        Self { to: None, at_line_start: true }
    }

    pub(super) fn stdout() -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self { to: Some(Streamed::new(terminal)), at_line_start: false }
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
