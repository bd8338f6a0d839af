//! Text to token ids and back, as the checkpoint's `tokenizer.json` says.

mod config;
mod stream;

pub use config::TokenizerConfig;
pub use stream::TextStream;

use std::collections::HashSet;
use std::panic::catch_unwind;

use crate::EngineError;

/// A checkpoint's tokenizer.
///
/// A `tokenizer.json` may carry truncation and padding left over from training or export; neither
/// belongs to a language model's text, so both are ignored. Decoding never "cleans up" spaces
/// before punctuation (`clean_up_tokenization_spaces`): that would change the model's text.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    file: String,
    vocabulary: usize,
    bos: Option<u32>,
    eos: Option<u32>,
    /// Tokens without text. (The library's own test fails for special tokens that are normalized,
    /// as Llama 2's are: it looks for their normalized form.)
    special: HashSet<u32>,
    /// What the post-processor of `tokenizer.json` puts before a text.
    template_bos: Option<u32>,
    /// What [`encode`](Tokenizer::encode) puts there.
    added_bos: Option<u32>,
    /// The letter a, to decode other tokens after it.
    letter: Vec<u32>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("file", &self.file)
            .field("vocabulary", &self.vocabulary)
            .field("bos", &self.bos)
            .field("eos", &self.eos)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Loads a tokenizer from the bytes of `tokenizer.json`.
    ///
    /// `file` is the name that errors mention. `config` is the checkpoint's
    /// `tokenizer_config.json`, which names the beginning and end tokens.
    ///
    /// # Errors
    ///
    /// [`EngineError::Tokenizer`] if the bytes are no tokenizer, or `config` names a beginning or
    /// end token that the vocabulary lacks.
    pub fn from_bytes(
        file: &str,
        bytes: &[u8],
        config: &TokenizerConfig,
    ) -> Result<Self, EngineError> {
        let refuse = |problem: String| EngineError::Tokenizer {
            file: file.into(),
            problem,
        };
        // The library panics on some tables of merges that do not fit the vocabulary.
        let read = catch_unwind(|| tokenizers::Tokenizer::from_bytes(bytes));
        let mut inner = read
            .map_err(|_| "its parts do not fit together".to_owned())
            .and_then(|read| read.map_err(|error| error.to_string()))
            .map_err(|why| refuse(format!("not a tokenizer.json that can be read: {why}")))?;
        inner
            .with_truncation(None)
            .map_err(|error| refuse(format!("truncation cannot be switched off: {error}")))?;
        inner.with_padding(None);
        let vocabulary = inner
            .get_vocab(true)
            .values()
            .max()
            .map_or(0, |&last| last as usize + 1);
        if vocabulary == 0 {
            return Err(refuse("the vocabulary is empty".into()));
        }
        let id = |role: &str, token: Option<&str>| {
            token
                .map(|token| {
                    inner.token_to_id(token).ok_or_else(|| {
                        refuse(format!(
                            "no token {token:?}, which tokenizer_config.json names as {role}"
                        ))
                    })
                })
                .transpose()
        };
        let bos = id("bos_token", config.bos_token())?;
        let eos = id("eos_token", config.eos_token())?;
        let special = inner
            .get_added_tokens_decoder()
            .into_iter()
            .filter_map(|(id, token)| token.special.then_some(id))
            .collect();
        let letter = encode(&inner, "a", false)?;
        let template_bos = template_bos(&inner)?;
        let added_bos = match config.add_bos_token() {
            None => template_bos,
            Some(false) => None,
            Some(true) => bos.or(template_bos),
        };
        Ok(Self {
            inner,
            file: file.into(),
            vocabulary,
            bos: bos.or(template_bos),
            eos,
            special,
            template_bos,
            added_bos,
            letter,
        })
    }

    /// One more than the largest token id.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The token that begins a text, where `tokenizer_config.json` names one or the tokenizer adds
    /// one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text, where `tokenizer_config.json` names one.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The id of a token given by its exact content.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Refuses a tokenizer with more tokens than the model has embeddings.
    ///
    /// Fewer are usual: many models pad their vocabulary.
    ///
    /// # Errors
    ///
    /// [`EngineError::Tokenizer`], with both sizes.
    pub fn check_vocabulary(&self, model: usize) -> Result<(), EngineError> {
        if self.vocabulary <= model {
            return Ok(());
        }
        Err(EngineError::Tokenizer {
            file: self.file.clone(),
            problem: format!(
                "it has token ids up to {}, but the model's vocabulary is {model}; \
                 this tokenizer belongs to another model",
                self.vocabulary - 1
            ),
        })
    }

    /// Encodes a text with the special tokens that the tokenizer adds (usually BOS, or none).
    ///
    /// Where `tokenizer_config.json` says `add_bos_token`, that decides about BOS. Special tokens
    /// written out in the text become their ids.
    ///
    /// # Errors
    ///
    /// [`EngineError::Tokenize`] if the text has characters that the vocabulary cannot express.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let mut ids = encode(&self.inner, text, true)?;
        match (self.template_bos, self.added_bos) {
            (None, Some(bos)) => ids.insert(0, bos),
            (Some(_), None) => drop(ids.remove(0)),
            _ => {}
        }
        Ok(ids)
    }

    /// Encodes a text as it stands: no special tokens but those written out in it, as a rendered
    /// chat template has them.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        encode(&self.inner, text, false)
    }

    /// The token that [`encode`](Self::encode) puts before every text, if any.
    pub fn added_bos(&self) -> Option<u32> {
        self.added_bos
    }

    /// The text of whole sequences of tokens, special tokens left out.
    ///
    /// Bytes that are no UTF-8 become U+FFFD. Ids outside the vocabulary have no text.
    ///
    /// # Errors
    ///
    /// [`EngineError::Tokenize`] if the tokenizer's decoder fails.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, EngineError> {
        let shown: Vec<u32> = tokens
            .iter()
            .copied()
            .filter(|&token| !self.is_special(token))
            .collect();
        self.inner
            .decode(&shown, false)
            .map_err(|error| EngineError::Tokenize {
                action: format!("decode {} tokens", tokens.len()),
                problem: error.to_string(),
            })
    }

    /// The text of tokens as it reads inside a text, where no decoder strips a first space.
    fn decode_inside(&self, tokens: &[u32]) -> Result<String, EngineError> {
        let mut text = self.decode(&[&self.letter, tokens].concat())?;
        let letter = self.decode(&self.letter)?;
        if text.starts_with(&letter) {
            return Ok(text.split_off(letter.len()));
        }
        self.decode(tokens)
    }

    /// A decoder that takes tokens one at a time, to stream what follows the text of `before`
    /// (the prompt's tokens, or none).
    pub fn stream<'a>(&'a self, before: &[u32]) -> TextStream<'a> {
        TextStream::new(self, before)
    }

    fn is_special(&self, token: u32) -> bool {
        self.special.contains(&token)
    }
}

/// The token that the tokenizer's post-processor puts before a text.
fn template_bos(inner: &tokenizers::Tokenizer) -> Result<Option<u32>, EngineError> {
    let plain = encode(inner, "a", false)?;
    let whole = encode(inner, "a", true)?;
    let first = whole.first().copied();
    Ok(first.filter(|first| whole.len() > plain.len() && plain.first() != Some(first)))
}

fn encode(
    inner: &tokenizers::Tokenizer,
    text: &str,
    add_special: bool,
) -> Result<Vec<u32>, EngineError> {
    inner
        .encode_fast(text, add_special)
        .map(|encoding| encoding.get_ids().to_vec())
        .map_err(|error| EngineError::Tokenize {
            action: format!("encode a text of {} bytes", text.len()),
            problem: error.to_string(),
        })
}
