//! `lagar run`.

use super::completion::{Speaker, Writer};
use super::model;
use crate::args::RunArgs;
use crate::context::Context;
use crate::exit::{self, Blame, Fault};
use crate::interrupt::{Interrupt, Second};
use crate::terminal;
use anyhow::Context as _;
use lagar_engine::chat::Message;
use lagar_engine::generate::StopReason;
use serde::Serialize;
use std::io::{IsTerminal, Read};
use std::time::Instant;

/// Tokens that are made where `-n` does not say otherwise.
const TOKENS: usize = 256;

/// The object of `run --json`.
#[derive(Debug, Serialize)]
struct Completed {
    text: String,
    /// Tokens that were made.
    tokens: usize,
    /// From the prompt's first token to the last one made.
    seconds: f64,
    prompt_tokens: usize,
    seed: u64,
}

pub(crate) fn run(context: &Context, args: &RunArgs) -> anyhow::Result<()> {
    let text = prompt(args)?;
    let cpu = context.cpu();
    let model = model::open(
        context,
        &args.model,
        args.sampling.tier.as_deref(),
        args.sampling.kv,
    )?;
    let mut speaker = Speaker::new(&cpu, &model)?.with_options(&args.sampling);
    let prompt = if args.raw || !speaker.can_chat() {
        speaker.text(&text)?
    } else {
        speaker.conversation(&[Message::new("user", text)])?
    };
    let interrupt = Interrupt::catch(Second::Exits)?;
    let limit = args.sampling.tokens.map_or(TOKENS, Into::into);
    let mut writer = if context.json {
        Writer::silent()
    } else {
        Writer::stdout()
    };
    let started = Instant::now();
    let done = speaker.complete(
        &prompt,
        Some(limit),
        &args.sampling.stop,
        &interrupt,
        &mut writer,
    )?;
    let seconds = started.elapsed().as_secs_f64();
    writer.end()?;
    interrupt.check()?;
    if done.outcome.stop == StopReason::ContextFull {
        context.messages.say(&format!(
            "stopped: the context of {} tokens is full",
            model.spec().context
        ));
    }
    context.messages.detail(&done.speed());
    if context.json {
        terminal::print_json(&Completed {
            text: done.text,
            tokens: done.outcome.tokens.len(),
            seconds,
            prompt_tokens: done.outcome.prompt_tokens,
            seed: speaker.sampling.seed,
        })?;
    }
    Ok(())
}

/// The prompt from the command line, or all of stdin.
fn prompt(args: &RunArgs) -> anyhow::Result<String> {
    if let Some(prompt) = &args.prompt {
        return Ok(prompt.clone());
    }
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        let message =
            "no prompt: give one as an argument or through a pipe; to talk, use lagar chat";
        return Err(exit::fault(Fault::Usage, message));
    }
    let mut bytes = Vec::new();
    stdin
        .lock()
        .read_to_end(&mut bytes)
        .context("cannot read the prompt from standard input")?;
    let mut text = String::from_utf8(bytes)
        .map_err(|e| {
            let place = e.utf8_error().valid_up_to();
            anyhow::anyhow!(
                "the prompt on standard input is not UTF-8 text: byte {place} begins no character"
            )
        })
        .blame(Fault::Input)?;
    // `echo` and editors end the last line; the prompt does not.
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}
