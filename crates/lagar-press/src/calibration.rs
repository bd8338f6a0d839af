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
    tokenize(tokenizer, text, Some(tokens), context, "calibration")
}

/// Tokenizes a text once and cuts it into windows, at least one; `purpose` says in errors what the
/// text is for.
pub(crate) fn tokenize(
    tokenizer: &Tokenizer,
    text: &str,
    tokens: Option<usize>,
    context: usize,
    purpose: &'static str,
) -> Result<Windows, PressError> {
    let mut ids = tokenizer.encode_plain(text)?;
    if let Some(limit) = tokens {
        ids.truncate(limit);
    }
    let tokens = ids.len();
    let windows = Windows::new(ids, tokenizer.added_bos(), context);
    if windows.is_empty() {
        return Err(PressError::TextTooShort {
            purpose,
            tokens,
            needed: 2,
        });
    }
    Ok(windows)
}
