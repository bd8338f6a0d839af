//! The loop from a prompt to a text.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::stop_strings::StopStrings;
use crate::tokenizer::TextStream;
use crate::{EngineError, Sampler, SamplingOptions, Tokenizer};

/// How many tokens of a prompt are computed between two looks at the cancellation flag.
const PREFILL_PIECE: usize = 512;

/// A model in the middle of one sequence of tokens: what generation needs to know of models and
/// caches.
pub trait Sequence {
    /// The number of tokens in the cache.
    fn len(&self) -> usize;

    /// Whether the cache is empty.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most tokens that the cache can hold.
    fn context(&self) -> usize;

    /// Forgets all but the first `len` tokens.
    fn truncate(&mut self, len: usize);

    /// Appends tokens, at least one, and returns the logits for the token that follows the last:
    /// one for each token of the vocabulary.
    ///
    /// # Errors
    ///
    /// Those of the model. The sequence is then as it was before.
    fn extend(&mut self, tokens: &[u32]) -> Result<&[f32], EngineError>;
}

/// What a generation may do and when it ends.
#[derive(Clone, Debug)]
pub struct GenerateOptions<'a> {
    /// How tokens are chosen.
    pub sampling: SamplingOptions,
    /// The most tokens to generate; `None` for as many as the context holds.
    pub max_tokens: Option<usize>,
    /// Texts that end the generation; they are not part of the result.
    pub stop: &'a [String],
    /// Tokens that end the generation, usually those of `eos_token_id`.
    pub eos: &'a [u32],
    /// Ends the generation at the next token, or the next 512 tokens of the prompt, when set.
    pub cancel: Option<&'a AtomicBool>,
}

impl Default for GenerateOptions<'_> {
    fn default() -> Self {
        Self {
            sampling: SamplingOptions::GREEDY,
            max_tokens: None,
            stop: &[],
            eos: &[],
            cancel: None,
        }
    }
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The model chose an end token.
    EndOfText,
    /// A stop string came.
    StopString,
    /// The most tokens that were allowed.
    MaxTokens,
    /// No room is left in the context.
    ContextFull,
    /// The cancellation flag was set.
    Cancelled,
}

/// What a generation did.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Why it ended.
    pub stop: StopReason,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// How many of them were in the cache already.
    pub reused_tokens: usize,
    /// The tokens that were generated, without the end token; with those of a stop string.
    pub tokens: Vec<u32>,
    /// Time until the logits after the prompt were there.
    pub prefill: Duration,
    /// Number of tokens computed one at a time.
    pub decoded_tokens: usize,
    /// Time for these, sampling included.
    pub decode: Duration,
}

impl Outcome {
    /// Tokens per second of decoding, one at a time; `None` where nothing was measured.
    pub fn decode_rate(&self) -> Option<f64> {
        let seconds = self.decode.as_secs_f64();
        (self.decoded_tokens > 0 && seconds > 0.0).then(|| self.decoded_tokens as f64 / seconds)
    }
}

/// Generates texts on one sequence, and keeps what is computed of it: a prompt that goes on from
/// the last one, as in a chat, costs its new tokens only.
#[derive(Debug)]
pub struct Generator<S> {
    sequence: S,
    /// The tokens in the sequence's cache.
    cached: Vec<u32>,
}

impl<S: Sequence> Generator<S> {
    /// Generates on a sequence, which is emptied first: its tokens are not known.
    pub fn new(mut sequence: S) -> Self {
        sequence.truncate(0);
        Self {
            sequence,
            cached: Vec::new(),
        }
    }

    /// The tokens whose keys and values are in the cache.
    pub fn cached(&self) -> &[u32] {
        &self.cached
    }

    /// Begins to generate what follows `prompt`. Nothing is computed until the first piece is
    /// asked for.
    ///
    /// # Errors
    ///
    /// [`EngineError::EmptyPrompt`] without any token, [`EngineError::ContextExceeded`] if the
    /// prompt does not fit, [`EngineError::SamplingOption`] if an option is out of range.
    pub fn generate<'a>(
        &'a mut self,
        tokenizer: &'a Tokenizer,
        prompt: &[u32],
        options: &GenerateOptions<'a>,
    ) -> Result<Generation<'a, S>, EngineError> {
        if prompt.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        let context = self.sequence.context();
        if prompt.len() > context {
            return Err(EngineError::ContextExceeded {
                asked: prompt.len(),
                context,
            });
        }
        let mut sampler = Sampler::new(options.sampling)?;
        sampler.accept(prompt);

        let common = self
            .cached
            .iter()
            .zip(prompt)
            .take_while(|(a, b)| a == b)
            .count();
        // At least one token has to be computed for its logits.
        let reused = common.min(prompt.len() - 1);
        self.sequence.truncate(reused);
        self.cached.truncate(reused);
        Ok(Generation {
            pending: prompt[reused..].to_vec(),
            generator: self,
            stream: tokenizer.stream(prompt),
            stops: StopStrings::new(options.stop),
            sampler,
            eos: options.eos,
            cancel: options.cancel,
            max_tokens: options.max_tokens.unwrap_or(usize::MAX),
            stop: None,
            flushed: false,
            outcome: Outcome {
                stop: StopReason::Cancelled,
                prompt_tokens: prompt.len(),
                reused_tokens: reused,
                tokens: Vec::new(),
                prefill: Duration::ZERO,
                decoded_tokens: 0,
                decode: Duration::ZERO,
            },
        })
    }
}

/// A generation under way. Dropping it ends it; what was computed stays cached.
#[derive(Debug)]
pub struct Generation<'a, S> {
    generator: &'a mut Generator<S>,
    /// Tokens that the model has not seen yet.
    pending: Vec<u32>,
    stream: TextStream<'a>,
    stops: StopStrings,
    sampler: Sampler,
    eos: &'a [u32],
    cancel: Option<&'a AtomicBool>,
    max_tokens: usize,
    stop: Option<StopReason>,
    flushed: bool,
    outcome: Outcome,
}

impl<S: Sequence> Generation<'_, S> {
    /// The next piece of text, at least one character; `None` at the end.
    ///
    /// # Errors
    ///
    /// Those of the model, [`EngineError::Logits`] and [`EngineError::Tokenize`]. No further
    /// piece comes after an error.
    pub fn next_piece(&mut self) -> Result<Option<String>, EngineError> {
        while self.stop.is_none() {
            let piece = self.step().inspect_err(|_| {
                self.stop = Some(StopReason::Cancelled);
                self.flushed = true;
            })?;
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
        if self.flushed {
            return Ok(None);
        }
        self.flushed = true;
        let mut rest = String::new();
        if !self.stops.stopped() {
            let held = self.stream.flush()?;
            rest = self.stops.push(&held) + &self.stops.finish();
            if self.stops.stopped() {
                self.stop = Some(StopReason::StopString);
            }
        }
        Ok(Some(rest).filter(|rest| !rest.is_empty()))
    }

    /// What was done. A generation that is not at its end counts as cancelled.
    pub fn finish(mut self) -> Outcome {
        self.outcome.stop = self.stop.unwrap_or(StopReason::Cancelled);
        self.outcome
    }

    /// Computes what is pending and chooses one token; returns the text that it makes certain.
    fn step(&mut self) -> Result<String, EngineError> {
        if self.outcome.tokens.len() >= self.max_tokens {
            return self.end(StopReason::MaxTokens);
        }
        let sequence = &self.generator.sequence;
        if sequence.len() + self.pending.len() > sequence.context() {
            return self.end(StopReason::ContextFull);
        }
        let started = Instant::now();
        let prefill = self.outcome.tokens.is_empty();
        let Some(token) = self.choose()? else {
            return self.end(StopReason::Cancelled);
        };
        if prefill {
            self.outcome.prefill = started.elapsed();
        } else {
            self.outcome.decoded_tokens += 1;
            self.outcome.decode += started.elapsed();
        }
        if self.eos.contains(&token) {
            return self.end(StopReason::EndOfText);
        }
        self.outcome.tokens.push(token);
        self.sampler.accept(&[token]);
        self.pending = vec![token];
        let text = self.stops.push(&self.stream.push(token)?);
        if self.stops.stopped() {
            self.stop = Some(StopReason::StopString);
        }
        Ok(text)
    }

    /// The token after the pending ones, which are computed; `None` if that was cancelled.
    fn choose(&mut self) -> Result<Option<u32>, EngineError> {
        let Generator { sequence, cached } = &mut *self.generator;
        let pieces = self.pending.len().div_ceil(PREFILL_PIECE);
        for (piece, tokens) in self.pending.chunks(PREFILL_PIECE).enumerate() {
            if self
                .cancel
                .is_some_and(|cancel| cancel.load(Ordering::Relaxed))
            {
                return Ok(None);
            }
            let logits = sequence.extend(tokens)?;
            cached.extend_from_slice(tokens);
            if piece + 1 == pieces {
                return self.sampler.sample(logits).map(Some);
            }
        }
        Ok(None)
    }

    fn end(&mut self, reason: StopReason) -> Result<String, EngineError> {
        self.stop = Some(reason);
        Ok(String::new())
    }
}
