//! `generation_config.json`: what a checkpoint's makers recommend.

use serde_json::{Map, Value};

use crate::{EngineError, SamplingOptions};

/// End tokens and recommended sampling of a checkpoint.
///
/// `config.json` may hold the same keys (older checkpoints have their end token only there), so it
/// can be read as one, too.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationConfig {
    /// Tokens that end a text.
    pub eos: Vec<u32>,
    /// `do_sample`: false asks for the most likely token always.
    pub do_sample: Option<bool>,
    /// Recommended temperature.
    pub temperature: Option<f32>,
    /// Recommended top-k.
    pub top_k: Option<usize>,
    /// Recommended top-p.
    pub top_p: Option<f32>,
    /// Recommended min-p.
    pub min_p: Option<f32>,
    /// Recommended `repetition_penalty`.
    pub repeat_penalty: Option<f32>,
}

impl GenerationConfig {
    /// Reads `generation_config.json`; `file` is the name that errors mention.
    ///
    /// # Errors
    ///
    /// [`EngineError::Json`] if the bytes are no JSON object, [`EngineError::Config`] if a key that
    /// is read has a value of the wrong type.
    pub fn from_json(file: &str, bytes: &[u8]) -> Result<Self, EngineError> {
        let keys: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|source| EngineError::Json {
                file: file.into(),
                source,
            })?;
        let keys = Keys { file, keys: &keys };
        Ok(Self {
            eos: keys.tokens("eos_token_id")?,
            do_sample: keys.read("do_sample", "true or false", Value::as_bool)?,
            temperature: keys.number("temperature")?,
            top_k: keys.read("top_k", "a whole number", |value| {
                value.as_u64().and_then(|k| usize::try_from(k).ok())
            })?,
            top_p: keys.number("top_p")?,
            min_p: keys.number("min_p")?,
            repeat_penalty: keys.number("repetition_penalty")?,
        })
    }

    /// The recommended sampling; what is not recommended stays as in `base`.
    pub fn sampling(&self, base: SamplingOptions) -> SamplingOptions {
        if self.do_sample == Some(false) {
            return SamplingOptions {
                repeat_penalty: self.repeat_penalty.unwrap_or(base.repeat_penalty),
                seed: base.seed,
                ..SamplingOptions::GREEDY
            };
        }
        SamplingOptions {
            temperature: self.temperature.unwrap_or(base.temperature),
            top_k: self.top_k.unwrap_or(base.top_k),
            top_p: self.top_p.unwrap_or(base.top_p),
            min_p: self.min_p.unwrap_or(base.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(base.repeat_penalty),
            seed: base.seed,
        }
    }
}

struct Keys<'a> {
    file: &'a str,
    keys: &'a Map<String, Value>,
}

impl Keys<'_> {
    fn read<T>(
        &self,
        key: &str,
        expected: &str,
        parse: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, EngineError> {
        match self.keys.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => parse(value).map(Some).ok_or_else(|| {
                EngineError::config(self.file, key, format!("must be {expected}, not {value}"))
            }),
        }
    }

    fn number(&self, key: &str) -> Result<Option<f32>, EngineError> {
        self.read(key, "a number", |value| {
            value.as_f64().map(|number| number as f32)
        })
    }

    /// One token id, or a list of them.
    fn tokens(&self, key: &str) -> Result<Vec<u32>, EngineError> {
        let token = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let parse = |value: &Value| match value {
            Value::Array(list) => list.iter().map(token).collect(),
            single => token(single).map(|id| vec![id]),
        };
        let tokens = self.read(key, "a token id or a list of token ids", parse)?;
        Ok(tokens.unwrap_or_default())
    }
}
