//! The text that a press reads.

use lagar_engine::Tokenizer;

use crate::PressError;
use crate::evaluate::Windows;

/// Windows of calibration text for a model: at most `tokens` tokens of `text`.
pub(crate) fn windows(
    tokenizer: &Tokenizer,
    text: &str,
    tokens: usize,
    context: usize,
) -> Result<Windows, PressError> {
    let windows = tokenize(tokenizer, text, Some(tokens), context)?;
    if windows.is_empty() {
        return Err(PressError::TextTooShort {
            purpose: "calibration",
            tokens: windows.text_tokens(),
            needed: 2,
        });
    }
    Ok(windows)
}

/// Tokenizes a text once and cuts it into windows.
pub(crate) fn tokenize(
    tokenizer: &Tokenizer,
    text: &str,
    tokens: Option<usize>,
    context: usize,
) -> Result<Windows, PressError> {
    let mut ids = tokenizer.encode_plain(text)?;
    if let Some(limit) = tokens {
        ids.truncate(limit);
    }
    Ok(Windows::new(ids, tokenizer.added_bos(), context))
}
