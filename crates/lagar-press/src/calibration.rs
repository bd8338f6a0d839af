//! The text that a press reads.

use lagar_engine::Tokenizer;

use crate::evaluate::Windows;
use crate::warnings::warnings;
use crate::{PressError, Progress};

/// Windows of calibration text for a model: at most `tokens` tokens of `text`. Tells what is odd about it.
pub(crate) fn windows(
    tokenizer: &Tokenizer,
    text: &str,
    tokens: usize,
    context: usize,
    progress: &dyn Progress,
) -> Result<Windows, PressError> {
    let ids = tokenizer.encode_plain(text)?;
    for warning in warnings(tokenizer, text, &ids, context)? {
        progress.note(&format!("warning: {warning}"));
    }
    cut(tokenizer, ids, Some(tokens), context, "calibration")
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
    let ids = tokenizer.encode_plain(text)?;
    cut(tokenizer, ids, tokens, context, purpose)
}

fn cut(
    tokenizer: &Tokenizer,
    mut ids: Vec<u32>,
    tokens: Option<usize>,
    context: usize,
    purpose: &'static str,
) -> Result<Windows, PressError> {
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
