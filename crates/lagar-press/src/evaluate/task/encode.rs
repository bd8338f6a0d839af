//! From the texts of a question to token ids, as `lm-eval`'s `HFLM` does it.

use lagar_engine::Tokenizer;

use crate::PressError;

/// A context and what is to follow it, as token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// What the model is given, with BOS where the tokenizer adds one; at least one token.
    pub context: Vec<u32>,
    /// What is scored; at least one token.
    pub continuation: Vec<u32>,
}

/// Encodes a pair of texts; `None` where the continuation adds no token.
///
/// Spaces at the end of the context belong to the continuation, since tokens begin with them. Both are encoded
/// together, and what lies past the tokens of the context alone is the continuation. Without a
/// context, the continuation follows the token that begins (or else ends) a text.
pub(super) fn encode_pair(
    tokenizer: &Tokenizer,
    context: &str,
    continuation: &str,
) -> Result<Option<Example>, PressError> {
    let prefix = tokenizer.bos().or(tokenizer.eos());
    let (mut context_ids, mut ids);
    if context.is_empty() {
        context_ids = Vec::new();
        ids = tokenizer.encode_plain(continuation)?;
    } else {
        let bare = context.trim_end_matches(is_space);
        context_ids = encode(tokenizer, bare, prefix)?;
        ids = encode(tokenizer, &format!("{context}{continuation}"), prefix)?;
        ids.drain(..context_ids.len().min(ids.len()));
    }
    if context_ids.is_empty() {
        match prefix {
            Some(prefix) if ids.first() != Some(&prefix) => context_ids.push(prefix),
            _ if ids.is_empty() => {}
            _ => context_ids.push(ids.remove(0)),
        }
    }
    Ok((!ids.is_empty()).then_some(Example {
        context: context_ids,
        continuation: ids,
    }))
}

/// With BOS where the tokenizer adds one, but never a second time.
fn encode(tokenizer: &Tokenizer, text: &str, prefix: Option<u32>) -> Result<Vec<u32>, PressError> {
    let plain = tokenizer.encode_plain(text)?;
    if prefix.is_some() && plain.first().copied() == prefix {
        return Ok(plain);
    }
    Ok(tokenizer.encode(text)?)
}

/// What Python's `rstrip` takes off: white space, and four control characters that separate.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}
