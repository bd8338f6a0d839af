//! The checkpoint's chat template.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use minijinja::value::Serde;
use minijinja::{Environment, Value};
use serde::{Deserialize, Serialize};

use super::calendar::CalendarTime;
use super::environment::{NAME, environment, refuse};
use crate::{EngineError, Model, TokenizerConfig};

/// What a model without a template of its own gets: one line for each message, as in
/// `User: Hello`, and `Assistant:` where the answer is to begin. Nothing was trained on exactly
/// this, but a model that has only ever read books can go on with it.
const PLAIN: &str = "\
{%- for message in messages -%}
    {%- if message.role != 'system' -%}{{ message.role | capitalize }}: {% endif -%}
    {{ message.content | trim }}{{ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}Assistant:{%- endif -%}";

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message by `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }
}

/// How a conversation is rendered.
#[derive(Clone, Debug, Default)]
pub struct RenderOptions {
    /// Whether the text ends where the model's answer is to begin.
    pub add_generation_prompt: bool,
    /// What `strftime_now` shows; without it templates see no such function, and those that use it
    /// with care fall back to a fixed date.
    pub now: Option<CalendarTime>,
    /// Further variables of the template, such as `enable_thinking`.
    pub variables: BTreeMap<String, serde_json::Value>,
}

/// A checkpoint's chat template, or the plain one for a checkpoint that has none.
///
/// Templates are Jinja, rendered as `transformers` does: blocks are trimmed, undefined values are
/// empty, and templates may call `raise_exception` and `strftime_now` and use `{% generation %}`,
/// loop controls, Python's string methods and Python's JSON.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: BTreeMap<String, String>,
    plain: bool,
}

impl ChatTemplate {
    /// The template of a checkpoint: the text of `chat_template.jinja` if there is one, else what
    /// `tokenizer_config.json` holds, else the plain one.
    ///
    /// # Errors
    ///
    /// [`EngineError::ChatTemplate`] if the template does not parse.
    pub fn from_checkpoint(
        jinja: Option<&str>,
        config: &TokenizerConfig,
    ) -> Result<Self, EngineError> {
        let own = jinja.or(config.chat_template());
        let mut template = Self::new(own.unwrap_or(PLAIN), config)?;
        template.plain = own.is_none();
        Ok(template)
    }

    /// The template of a model, from its files as [`from_checkpoint`](Self::from_checkpoint).
    ///
    /// # Errors
    ///
    /// [`EngineError::ChatTemplate`] if the template does not parse, and those of
    /// [`TokenizerConfig::from_json`].
    pub fn of(model: &Model) -> Result<Self, EngineError> {
        let config = match model.file("tokenizer_config.json") {
            Some(bytes) => {
                TokenizerConfig::from_json(&model.shown("tokenizer_config.json"), bytes)?
            }
            None => TokenizerConfig::default(),
        };
        let jinja = model
            .file("chat_template.jinja")
            .map(|bytes| {
                let file = model.shown("chat_template.jinja");
                std::str::from_utf8(bytes).map_err(|_| refusal(&format!("{file} is not UTF-8")))
            })
            .transpose()?;
        Self::from_checkpoint(jinja, &config)
    }

    /// A template from its source; `config` names the special tokens that it may use.
    ///
    /// # Errors
    ///
    /// [`EngineError::ChatTemplate`] if the template does not parse.
    pub fn new(source: &str, config: &TokenizerConfig) -> Result<Self, EngineError> {
        Ok(Self {
            environment: environment(source)?,
            special_tokens: config
                .special_tokens()
                .map(|(role, token)| (role.into(), token.into()))
                .collect(),
            plain: false,
        })
    }

    /// Whether this is the plain template, because the checkpoint has none.
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// The text of a conversation, special tokens written out; encode it with
    /// [`Tokenizer::encode_plain`](crate::Tokenizer::encode_plain). Only the plain template leaves
    /// the beginning token to the tokenizer: [`encode`](Self::encode) knows which.
    ///
    /// # Errors
    ///
    /// [`EngineError::ChatTemplate`] if the template fails, or refuses the conversation (many want
    /// user and assistant to alternate, or know no system message); if there is no message.
    pub fn render(
        &self,
        messages: &[Message],
        options: &RenderOptions,
    ) -> Result<String, EngineError> {
        if messages.is_empty() {
            return Err(refusal("the conversation has no message"));
        }
        let mut variables: BTreeMap<&str, Value> = options
            .variables
            .iter()
            .map(|(name, value)| (name.as_str(), Value::from(Serde(value))))
            .collect();
        for (role, token) in &self.special_tokens {
            variables.insert(role, token.into());
        }
        variables.insert("messages", Value::from(Serde(messages)));
        variables.insert(
            "add_generation_prompt",
            options.add_generation_prompt.into(),
        );
        for unused in ["tools", "documents"] {
            variables.entry(unused).or_insert(().into());
        }
        if let Some(now) = options.now {
            let show = move |format: &str| now.format(format);
            variables.insert("strftime_now", Value::from_function(show));
        }
        // The template engine has panicked on slices of empty lists; a file must not do that to us.
        let render = || {
            let template = self.environment.get_template(NAME)?;
            template.render(variables)
        };
        catch_unwind(AssertUnwindSafe(render))
            .map_err(|_| refusal("the template engine crashed on it"))?
            .map_err(|error| refuse(&error))
    }

    /// Renders a conversation and encodes it.
    ///
    /// # Errors
    ///
    /// As [`render`](Self::render), and those of the tokenizer.
    pub fn encode(
        &self,
        tokenizer: &crate::Tokenizer,
        messages: &[Message],
        options: &RenderOptions,
    ) -> Result<Vec<u32>, EngineError> {
        let text = self.render(messages, options)?;
        if self.plain {
            tokenizer.encode(&text)
        } else {
            tokenizer.encode_plain(&text)
        }
    }
}

fn refusal(problem: &str) -> EngineError {
    EngineError::ChatTemplate {
        problem: problem.into(),
    }
}
