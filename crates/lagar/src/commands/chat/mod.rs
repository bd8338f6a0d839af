//! `lagar chat`.

mod input;
mod slash;

use super::completion::{Completion, Speaker, Writer};
use super::model;
use crate::args::ChatArgs;
use crate::context::Context;
use crate::exit::{self, Fault};
use crate::interrupt::{Interrupt, Second};
use crate::terminal::Messages;
use anyhow::Context as _;
use input::{Input, Lines};
use lagar_engine::chat::Message;
use slash::Line;
use std::path::Path;

pub(crate) fn chat(context: &Context, args: &ChatArgs) -> anyhow::Result<()> {
    if context.json {
        return Err(exit::fault(
            Fault::Usage,
            "a chat has no JSON form; use lagar run --json",
        ));
    }
    let model = model::open(
        context,
        &args.model,
        args.sampling.tier.as_deref(),
        args.sampling.kv,
    )?;
    let cpu = context.cpu();
    let speaker = Speaker::new(&cpu, &model)?.with_options(&args.sampling);
    let mut stop = args.sampling.stop.clone();
    if !speaker.can_chat() {
        // Without a template of its own a model goes on to write the person's lines as well.
        stop.push("\nUser:".to_owned());
    }
    let limit = args.sampling.tokens.map(Into::into);
    let mut chat = Chat {
        messages: context.messages,
        speaker,
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
        if let Err(error) = result {
            self.messages.say(&exit::one_line(&error));
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
                self.messages.detail(&completion.speed());
            }
            // What could not be answered was not said.
            Err(_) => self.conversation.truncate(before),
        }
        answered.map(|_| ())
    }

    fn complete(&mut self, interrupt: &Interrupt) -> anyhow::Result<Completion> {
        let prompt = self.speaker.conversation(&self.conversation)?;
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
