//! `lagar run`.

use super::completion::{Completion, Writer};
use super::model::{self, Models};
use super::speaker::Speaker;
use crate::args::RunArgs;
use crate::context::Context;
use crate::exit::{self, Blame, Fault};
use crate::interrupt::{Interrupt, Second};
use crate::terminal;
use anyhow::Context as _;
use lagar_engine::chat::{ChatTemplate, Message};
use lagar_engine::generate::StopReason;
use serde::Serialize;
use std::io::{IsTerminal, Read};
use std::sync::Arc;
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
    /// Of a file; a checkpoint has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<String>,
    #[serde(flatten)]
    drafted: Option<Drafted>,
    #[serde(flatten)]
    streamed: Option<Streamed>,
}

/// What `--draft` adds.
#[derive(Debug, Serialize)]
struct Drafted {
    /// Passes of the tier that runs, after the prompt's.
    full_passes: usize,
    /// Tokens that the draft guessed.
    drafted: usize,
    /// How many of them were right.
    accepted: usize,
}

/// What `--resident` adds.
#[derive(Debug, Serialize)]
struct Streamed {
    bytes_read: u64,
    /// For each token after the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_read_per_token: Option<f64>,
    /// Of the time of all passes, 0 to 1.
    share_of_time_waiting: f64,
}

impl Completed {
    fn new(done: Completion, seconds: f64, speaker: &Speaker<'_>) -> Self {
        let bytes_read_per_token = done.bytes_read_per_token();
        let Completion {
            text,
            outcome,
            drafting,
            streamed,
        } = done;
        Self {
            text,
            tokens: outcome.tokens.len(),
            seconds,
            prompt_tokens: outcome.prompt_tokens,
            seed: speaker.sampling.seed,
            tier: speaker.model().tier().map(str::to_owned),
            drafted: drafting.then_some(Drafted {
                full_passes: outcome.full_passes,
                drafted: outcome.drafted,
                accepted: outcome.accepted,
            }),
            streamed: streamed.map(|report| Streamed {
                bytes_read: report.bytes_read,
                bytes_read_per_token,
                share_of_time_waiting: report.share_waiting(),
            }),
        }
    }
}

pub(crate) fn run(context: &Context, args: &RunArgs) -> anyhow::Result<()> {
    let text = prompt(args)?;
    let cpu = context.cpu();
    let Models { model, draft, .. } = model::open_to_generate(context, &args.model, &args.tiers)?;
    // A template that is not used may as well be broken.
    let template = match args.raw {
        true => None,
        false => Some(
            ChatTemplate::of(&model)
                .context("the model's way of talking is not understood; --raw goes without")?,
        ),
    };
    let mut speaker = Speaker::new(&cpu, Arc::clone(&model))?
        .with_draft(draft)?
        .with_options(&args.sampling);
    let prompt = match template.filter(|template| !template.is_plain()) {
        None => speaker.text(&text)?,
        Some(template) => speaker.conversation(&template, &[Message::new("user", text)])?,
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
    for line in done.details() {
        context.messages.detail(&line);
    }
    if context.json {
        terminal::print_json(&Completed::new(done, seconds, &speaker))?;
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
