//! `lagar chat`.

mod input;
mod slash;

use super::completion::{self, Completion, Prompt, Request, Writer};
use super::model;
use crate::args::ChatArgs;
use crate::context::Context;
use crate::exit::{self, Fault};
use crate::interrupt::{Interrupt, Second};
use crate::terminal::Messages;
use anyhow::Context as _;
use input::{Input, Lines};
use lagar_engine::chat::{ChatTemplate, Message};
use lagar_engine::sampling::SamplingOptions;
use lagar_engine::{Model, Session};
use lagar_kernels::Cpu;
use slash::Line;
use std::path::Path;

pub(crate) fn chat(context: &Context, args: &ChatArgs) -> anyhow::Result<()> {
    if context.json {
        return Err(exit::fault(Fault::Usage, "a chat has no JSON form; use lagar run --json"));
    }
    let model = model::open(context, &args.model, args.sampling.tier.as_deref(), args.sampling.kv)?;
    let mut chat = Chat {
        cpu: context.cpu(),
        messages: context.messages,
        template: completion::template(&model)?,
        options: completion::sampling(&args.sampling, &model)?,
        limit: args.sampling.tokens.map_or(model.spec().context, Into::into),
        stop: args.sampling.stop.clone(),
        session: model.session(model.spec().context)?,
        seen: Vec::new(),
        conversation: Vec::new(),
        model: &model,
    };
    chat.begin(args.system.as_deref());
    context.messages.say("/help lists what can be done; Ctrl-D leaves");
    let interrupt = Interrupt::catch(Second::Ignored)?;
    let mut lines = Lines::new(context.messages)?;
    let result = chat.converse(&mut lines, &interrupt);
    lines.close();
    result
}

struct Chat<'a> {
    cpu: Cpu,
    messages: Messages,
    model: &'a Model,
    template: ChatTemplate,
    options: SamplingOptions,
    limit: usize,
    stop: Vec<String>,
    session: Session,
    /// The tokens whose keys and values the session holds.
    seen: Vec<u32>,
    conversation: Vec<Message>,
}

impl Chat<'_> {
    /// Forgets everything and starts with this instruction.
    fn begin(&mut self, system: Option<&str>) {
        self.conversation.clear();
        self.conversation.extend(system.map(|text| Message::new("system", text)));
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
                    let system = self.conversation.first().filter(|m| m.role == "system").map(|m| m.content.clone());
                    self.begin(system.as_deref());
                }
                Line::System(text) => self.begin(text),
                Line::Save(path) => self.report(self.save(&path)),
                Line::Wrong(why) => self.messages.say(&why),
                Line::Say(text) => {
                    let answered = self.answer(text, interrupt);
                    // Nobody is left to read further answers.
                    if answered.as_ref().is_err_and(|e| e.is::<exit::StdoutClosed>()) {
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
                self.conversation.push(Message::new("assistant", completion.text.trim()));
                self.messages.detail(&completion.speed());
            }
            // What could not be answered was not said.
            Err(_) => self.conversation.truncate(before),
        }
        answered.map(|_| ())
    }

    fn complete(&mut self, interrupt: &Interrupt) -> anyhow::Result<Completion> {
        let mut prompt = Prompt::conversation(self.model, &self.template, &self.conversation)?;
        // What the session holds already is not computed again; the last token is, for its logits.
        let common = self.seen.iter().zip(&prompt.tokens).take_while(|(a, b)| a == b).count();
        let kept = common.min(prompt.tokens.len().saturating_sub(1));
        self.session.truncate(kept);
        self.seen.truncate(kept);
        prompt.known = kept;
        let request =
            Request { prompt: &prompt, options: self.options, limit: self.limit, stop: &self.stop };
        interrupt.reset();
        let mut writer = Writer::stdout();
        let done =
            completion::complete(&self.cpu, self.model, &mut self.session, &request, interrupt, &mut writer);
        writer.end()?;
        // After an error the session may hold anything up to its length.
        let done = done.inspect_err(|_| self.session.truncate(kept))?;
        self.seen.extend(&prompt.tokens[kept..]);
        self.seen.extend(&done.tokens);
        self.seen.truncate(self.session.len());
        Ok(done)
    }

    fn save(&self, path: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(&self.conversation)?;
        text.push('\n');
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        self.messages.say(&format!("saved in {}", path.display()));
        Ok(())
    }
}
