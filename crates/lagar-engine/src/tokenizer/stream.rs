//! Decoding token by token.

use super::Tokenizer;
use crate::EngineError;

/// How many tokens may be held back. A UTF-8 character that lacks a byte has at most three, so
/// what still is no text after three more tokens never will be.
const MAX_HELD: usize = 3;

/// How many tokens of a prompt give the decoder its context at most.
const PROMPT_CONTEXT: usize = 8;

/// Turns tokens into text one at a time, never splitting a UTF-8 character.
///
/// A token's text depends on its neighbours: a character may be spread over several tokens, and
/// many decoders strip the space of a text's first word. So each piece is the difference between
/// the decoded text of a few tokens with and without the new one. The context that this takes is
/// what was shown last: at least one token, beginning where a character begins.
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// Context, then tokens that are held back.
    window: Vec<u32>,
    /// Number of context tokens in the window.
    shown: usize,
}

impl std::fmt::Debug for TextStream<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextStream")
            .field("window", &self.window)
            .field("shown", &self.shown)
            .finish_non_exhaustive()
    }
}

impl<'a> TextStream<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, before: &[u32]) -> Self {
        let mut window: Vec<u32> = before
            .iter()
            .rev()
            .copied()
            .filter(|&token| !tokenizer.is_special(token))
            .take(PROMPT_CONTEXT)
            .collect();
        window.reverse();
        // Begin where a character begins.
        while !window.is_empty()
            && tokenizer
                .decode(&window)
                .is_ok_and(|text| text.starts_with(char::REPLACEMENT_CHARACTER))
        {
            window.remove(0);
        }
        Self {
            tokenizer,
            shown: window.len(),
            window,
        }
    }

    /// Takes the next token and returns the text that is certain now, which may be none.
    ///
    /// # Errors
    ///
    /// [`EngineError::Tokenize`] if the tokenizer's decoder fails.
    pub fn push(&mut self, token: u32) -> Result<String, EngineError> {
        if self.tokenizer.is_special(token) {
            return Ok(String::new());
        }
        self.window.push(token);
        let mut text = String::new();
        loop {
            let piece = self.held_text()?;
            if !piece.ends_with(char::REPLACEMENT_CHARACTER) {
                text.push_str(&piece);
                if !piece.is_empty() {
                    self.show(self.window.len() - self.shown);
                }
                return Ok(text);
            }
            if self.window.len() - self.shown <= MAX_HELD {
                return Ok(text);
            }
            // The oldest one held back is broken for good.
            text.push_str(
                &self
                    .tokenizer
                    .decode(&self.window[self.shown..=self.shown])?,
            );
            self.show(1);
        }
    }

    /// Returns what is still held back, an incomplete character as U+FFFD.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub fn flush(&mut self) -> Result<String, EngineError> {
        let held = self.held_text()?;
        self.show(self.window.len() - self.shown);
        Ok(held)
    }

    /// The text of the tokens held back, as it reads after the context.
    fn held_text(&self) -> Result<String, EngineError> {
        let context = self.tokenizer.decode(&self.window[..self.shown])?;
        let mut whole = self.tokenizer.decode(&self.window)?;
        if whole.starts_with(&context) {
            let held = whole.split_off(context.len());
            if !held.ends_with(char::REPLACEMENT_CHARACTER) {
                return Ok(held);
            }
        }
        // Byte-fallback decoders give up all neighbouring bytes when one is wrong. So a wrong byte
        // in the context, or at the front of what is held, spoils the right ones that follow.
        let held = &self.window[self.shown..];
        for wrong in 0..held.len() {
            let right = self.tokenizer.decode_inside(&held[wrong..])?;
            if !right.contains(char::REPLACEMENT_CHARACTER) {
                return Ok(self.tokenizer.decode_inside(&held[..wrong])? + &right);
            }
        }
        self.tokenizer.decode_inside(held)
    }

    /// Makes the first `held` of the tokens held back the new context.
    fn show(&mut self, held: usize) {
        self.window.drain(..self.shown);
        self.shown = held;
    }
}
