//! Signs that a calibration text is not what the model was made for.

use std::collections::HashMap;

use lagar_engine::{EngineError, Tokenizer};

/// Share of a text's tokens that may be pieces of characters, or unknown.
const PIECES: f64 = 0.5;
/// A token of text that the vocabulary was made for stands for more bytes than this…
const FEWEST_BYTES: f64 = 1.6;
/// … and for no smaller share of what a token of the vocabulary has on average: a vocabulary of single letters is
/// no reason for a warning.
const SHARE_OF_MEAN: f64 = 0.5;
/// Tokens of a text that are looked at, and of a vocabulary.
const LOOKED_AT: usize = 1 << 16;

/// What is odd about a text of these tokens, one line each.
pub(crate) fn warnings(
    tokenizer: &Tokenizer,
    text: &str,
    tokens: &[u32],
    context: usize,
) -> Result<Vec<String>, EngineError> {
    let mut warnings = Vec::new();
    if tokens.len() < context {
        warnings.push(format!(
            "the calibration text has {} tokens, less than one window of {context}: the press learns little about \
             longer texts; give more",
            tokens.len()
        ));
    }
    if tokens.is_empty() {
        return Ok(warnings);
    }
    if !text.chars().any(char::is_alphabetic) {
        warnings.push(
            "there is not one letter in the calibration text; take text like that which the model will see"
                .to_owned(),
        );
        return Ok(warnings);
    }
    let looked_at = &tokens[..tokens.len().min(LOOKED_AT)];
    let mut known: HashMap<u32, bool> = HashMap::new();
    let mut pieces = 0;
    for &token in looked_at {
        let is_piece = match known.get(&token) {
            Some(&is_piece) => is_piece,
            None => {
                let is_piece = is_piece(&tokenizer.decode(&[token])?);
                known.insert(token, is_piece);
                is_piece
            }
        };
        pieces += usize::from(is_piece);
    }
    let share = pieces as f64 / looked_at.len() as f64;
    let bytes = text.len() as f64 / tokens.len() as f64;
    if share > PIECES {
        warnings.push(format!(
            "{:.0} % of the calibration text's tokens are pieces of characters or unknown: the model's vocabulary was \
             not made for its language; take text like that which the model will see",
            100.0 * share
        ));
    } else if bytes < FEWEST_BYTES && bytes < SHARE_OF_MEAN * mean_bytes(tokenizer)? {
        warnings.push(format!(
            "a token of the calibration text stands for {bytes:.1} bytes on average: the model's vocabulary was not \
             made for text like this; take text like that which the model will see"
        ));
    }
    Ok(warnings)
}

/// Whether a token alone is no text.
fn is_piece(text: &str) -> bool {
    text.is_empty() || text.contains('\u{fffd}')
}

/// Bytes of the text of a token of the vocabulary, on average.
fn mean_bytes(tokenizer: &Tokenizer) -> Result<f64, EngineError> {
    let (mut bytes, mut count) = (0, 0);
    for token in (0..tokenizer.vocabulary()).take(LOOKED_AT) {
        let text = tokenizer.decode(&[token as u32])?;
        if !is_piece(&text) {
            bytes += text.len();
            count += 1;
        }
    }
    Ok(f64::from(bytes as u32) / f64::from(count.max(1)))
}
