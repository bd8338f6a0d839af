//! `lagar chat`.

mod input;
mod slash;
mod tier;

use super::completion::{Completion, Writer};
use super::model::{self, Models};
use super::speaker::Speaker;
use crate::args::ChatArgs;
use crate::context::Context;
use crate::exit::{self, Fault};
use crate::interrupt::{Interrupt, Second};
use crate::terminal::Messages;
use anyhow::Context as _;
use input::{Input, Lines};
use lagar_engine::chat::{ChatTemplate, Message};
use lagar_engine::generate::StopReason;
use lagar_engine::{EngineError, ModelOptions};
use slash::Line;
use std::path::Path;

pub(crate) fn chat(context: &Context, args: &ChatArgs) -> anyhow::Result<()> {
    if context.json {
        return Err(exit::fault(
            Fault::Usage,
            "a chat has no JSON form; use lagar run --json",
        ));
    }
    let Models {
        model,
        draft,
        options,
    } = model::open_to_generate(context, &args.model, &args.tiers)?;
    let cpu = context.cpu();
    let template = ChatTemplate::of(&model)?;
    let read = model.file_bytes();
    let speaker = Speaker::new(&cpu, model)?
        .with_draft(draft)?
        .with_options(&args.sampling);
    let mut stop = args.sampling.stop.clone();
    if template.is_plain() {
        // Without a template of its own a model goes on to write the person's lines as well.
        stop.push("\nUser:".to_owned());
    }
    let limit = args.sampling.tokens.map(Into::into);
    let mut chat = Chat {
        messages: context.messages,
        speaker,
        options,
        read,
        template,
        limit,
        stop,
        conversation: Vec::new(),
    };
    chat.begin(args.system.as_deref());
    context
        .messages
        .say("/help lists what can be done; Ctrl-D leaves");
    let interrupt = Interrupt::catch(Second::Ignored)?;
    let mut lines = Lines::new(context.messages)?;
    let result = chat.converse(&mut lines, &interrupt);
    lines.close();
    result
}

struct Chat<'a> {
    messages: Messages,
    speaker: Speaker<'a>,
    /// How tiers are opened.
    options: ModelOptions,
    /// Bytes of the file that were opened so far, from its start.
    read: u64,
    template: ChatTemplate,
    limit: Option<usize>,
    stop: Vec<String>,
    conversation: Vec<Message>,
}

impl Chat<'_> {
    /// Forgets everything and starts with this instruction.
    fn begin(&mut self, system: Option<&str>) {
        self.conversation.clear();
        self.conversation
            .extend(system.map(|text| Message::new("system", text)));
    }

    fn converse(&mut self, lines: &mut Lines, interrupt: &Interrupt) -> anyhow::Result<()> {
        loop {
            let line = match lines.read()? {
                Input::Line(line) => line,
                Input::Interrupted => {
                    self.messages.say("Ctrl-D leaves");
                    continue;
                }
                Input::End => return Ok(()),
            };
            match Line::parse(&line) {
                Line::Nothing => {}
                Line::Quit => return Ok(()),
                Line::Help => slash::HELP.lines().for_each(|line| self.messages.say(line)),
                Line::Reset => {
                    let system = self
                        .conversation
                        .first()
                        .filter(|m| m.role == "system")
                        .map(|m| m.content.clone());
                    self.begin(system.as_deref());
                }
                Line::System(text) => self.begin(text),
                Line::Save(path) => self.report(self.save(&path)),
                Line::Tier(None) => self.show_tiers(),
                Line::Tier(Some(tier)) => {
                    let changed = self.change_tier(tier);
                    self.report(changed);
                }
                Line::Wrong(why) => self.messages.say(&why),
                Line::Say(text) => {
                    let answered = self.answer(text, interrupt);
                    // Nobody is left to read further answers.
                    if answered
                        .as_ref()
                        .is_err_and(|e| e.is::<exit::StdoutClosed>())
                    {
                        return answered;
                    }
                    self.report(answered);
                }
            }
        }
    }

    /// Says what went wrong; the conversation goes on.
    fn report(&self, result: anyhow::Result<()>) {
        let Err(error) = result else { return };
        self.messages.say(&exit::one_line(&error));
        if let Some(EngineError::ContextExceeded { .. }) = error.downcast_ref() {
            self.messages
                .say("/reset forgets the conversation and makes room");
        }
    }

    /// Answers what was said, as far as Ctrl-C lets it.
    fn answer(&mut self, text: &str, interrupt: &Interrupt) -> anyhow::Result<()> {
        let before = self.conversation.len();
        self.conversation.push(Message::new("user", text));
        let answered = self.complete(interrupt);
        match &answered {
            Ok(completion) => {
                self.conversation
                    .push(Message::new("assistant", completion.text.trim()));
                for line in completion.details() {
                    self.messages.detail(&line);
                }
                if completion.outcome.stop == StopReason::ContextFull {
                    self.messages.say(&format!(
                        "stopped: the context of {} tokens is full; /reset forgets the conversation and makes room",
                        self.speaker.model().spec().context
                    ));
                }
            }
            // What could not be answered was not said.
            Err(_) => self.conversation.truncate(before),
        }
        answered.map(|_| ())
    }

    fn complete(&mut self, interrupt: &Interrupt) -> anyhow::Result<Completion> {
        let prompt = self
            .speaker
            .conversation(&self.template, &self.conversation)?;
        interrupt.reset();
        let mut writer = Writer::stdout();
        let done = self
            .speaker
            .complete(&prompt, self.limit, &self.stop, interrupt, &mut writer);
        writer.end()?;
        done
    }

    fn save(&self, path: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(&self.conversation)?;
        text.push('\n');
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        self.messages.say(&format!("saved in {}", path.display()));
        Ok(())
    }
}
