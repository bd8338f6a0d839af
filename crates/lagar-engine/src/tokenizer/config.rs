//! `tokenizer_config.json`: special tokens and chat templates.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::EngineError;

/// What a checkpoint's `tokenizer_config.json` says that matters for generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizerConfig {
    special: BTreeMap<String, String>,
    add_bos_token: Option<bool>,
    chat_templates: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ChatTemplates {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

const SPECIAL_ROLES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

impl TokenizerConfig {
    /// Reads `tokenizer_config.json`; `file` is the name that errors mention.
    ///
    /// # Errors
    ///
    /// [`EngineError::Json`] if the bytes are no JSON, [`EngineError::Config`] if a key that is
    /// read has a value of the wrong type.
    pub fn from_json(file: &str, bytes: &[u8]) -> Result<Self, EngineError> {
        let root: Value = serde_json::from_slice(bytes).map_err(|source| EngineError::Json {
            file: file.into(),
            source,
        })?;
        let refuse = |key: &str, problem: &str| EngineError::config(file, key, problem);
        let Value::Object(keys) = root else {
            return Err(EngineError::Tokenizer {
                file: file.into(),
                problem: "the outermost value is not an object".into(),
            });
        };
        let present = |key: &str| keys.get(key).filter(|value| !value.is_null());

        let mut special = BTreeMap::new();
        for role in SPECIAL_ROLES {
            let Some(value) = present(role) else { continue };
            // Either the text itself, or a serialized AddedToken.
            let content = value
                .as_str()
                .or_else(|| value.get("content")?.as_str())
                .ok_or_else(|| refuse(role, "must be a string or an object with \"content\""))?;
            special.insert(role.to_string(), content.to_string());
        }
        let add_bos_token = present("add_bos_token")
            .map(|value| {
                value
                    .as_bool()
                    .ok_or_else(|| refuse("add_bos_token", "must be true or false"))
            })
            .transpose()?;
        let chat_templates = match present("chat_template") {
            None => BTreeMap::new(),
            Some(value) => match ChatTemplates::deserialize(value) {
                Ok(ChatTemplates::One(template)) => {
                    BTreeMap::from([("default".to_string(), template)])
                }
                Ok(ChatTemplates::Named(list)) => list
                    .into_iter()
                    .map(|entry| (entry.name, entry.template))
                    .collect(),
                Err(_) => {
                    return Err(refuse(
                        "chat_template",
                        "must be a string or a list of objects with \"name\" and \"template\"",
                    ));
                }
            },
        };
        Ok(Self {
            special,
            add_bos_token,
            chat_templates,
        })
    }

    /// The text of the token that begins a text.
    pub fn bos_token(&self) -> Option<&str> {
        self.special_token("bos_token")
    }

    /// The text of the token that ends a text.
    pub fn eos_token(&self) -> Option<&str> {
        self.special_token("eos_token")
    }

    /// Whether prompts begin with BOS; `None` leaves it to `tokenizer.json`.
    pub fn add_bos_token(&self) -> Option<bool> {
        self.add_bos_token
    }

    /// The chat template called `default`, or the only one.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_templates
            .get("default")
            .or_else(|| match self.chat_templates.len() {
                1 => self.chat_templates.values().next(),
                _ => None,
            })
            .map(String::as_str)
    }

    /// All special tokens by role (`bos_token`, `eos_token`, `unk_token`, ...), as chat templates
    /// see them.
    pub fn special_tokens(&self) -> impl Iterator<Item = (&str, &str)> {
        self.special
            .iter()
            .map(|(role, token)| (role.as_str(), token.as_str()))
    }

    fn special_token(&self, role: &str) -> Option<&str> {
        self.special.get(role).map(String::as_str)
    }
}
