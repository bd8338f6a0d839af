//! The loop from a prompt to a text.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::DraftLength;
use super::cached::Cached;
use super::draft::Draft;
use super::stop_strings::StopStrings;
use crate::tokenizer::TextStream;
use crate::{EngineError, Sampler, SamplingOptions, Tokenizer};

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

    /// How many tokens are computed at once; a longer input goes in pieces of so many.
    fn piece(&self) -> usize {
        512
    }

    /// Forgets all but the first `len` tokens.
    fn truncate(&mut self, len: usize);

    /// Appends tokens, at least one, and returns the logits that follow each of the last
    /// `positions` of them, one after the other: positions × vocabulary.
    ///
    /// # Errors
    ///
    /// Those of the model. The sequence is then as it was before.
    fn extend(&mut self, tokens: &[u32], positions: usize) -> Result<&[f32], EngineError>;
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
    /// Ends the generation at the next token, or the next piece of the prompt, when set; see
    /// [`Sequence::piece`].
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
    /// Number of tokens chosen after the first, an end token included.
    pub decoded_tokens: usize,
    /// Time for these, sampling and drafting included.
    pub decode: Duration,
    /// Passes of the model that chose them: as many as tokens without a draft.
    pub full_passes: usize,
    /// Tokens that the draft proposed.
    pub drafted: usize,
    /// How many of these the model chose, too.
    pub accepted: usize,
}

impl Outcome {
    /// Tokens per second of decoding; `None` where nothing was measured.
    pub fn decode_rate(&self) -> Option<f64> {
        let seconds = self.decode.as_secs_f64();
        (self.decoded_tokens > 0 && seconds > 0.0).then(|| self.decoded_tokens as f64 / seconds)
    }

    /// Tokens chosen per pass of the model, after the first; `None` without any pass.
    pub fn tokens_per_pass(&self) -> Option<f64> {
        (self.full_passes > 0).then(|| self.decoded_tokens as f64 / self.full_passes as f64)
    }
}

/// Generates texts on one sequence, and keeps what is computed of it: a prompt that goes on from
/// the last one, as in a chat, costs its new tokens only.
///
/// A second sequence, of a cheaper model, may draft: it guesses several tokens, and one pass over
/// them tells how many are right. The text is that of the first sequence alone, token for token,
/// whether greedy or sampled.
#[derive(Debug)]
pub struct Generator<S> {
    target: Cached<S>,
    draft: Option<Draft<S>>,
}

impl<S: Sequence> Generator<S> {
    /// Generates on a sequence, which is emptied first: its tokens are not known.
    pub fn new(sequence: S) -> Self {
        Self {
            target: Cached::new(sequence),
            draft: None,
        }
    }

    /// The tokens whose keys and values are in the cache.
    pub fn cached(&self) -> &[u32] {
        self.target.tokens()
    }

    /// Lets a sequence draft from now on, in the place of any other; it is emptied first. `None`
    /// ends drafting.
    ///
    /// Its model has the same vocabulary. It catches up with the text by itself.
    pub fn set_draft(&mut self, sequence: Option<S>, length: DraftLength) {
        self.draft = sequence.map(|sequence| Draft::new(sequence, length.into()));
    }

    /// Changes how many tokens are drafted at a time; without a draft, nothing.
    pub fn set_draft_length(&mut self, length: DraftLength) {
        if let Some(draft) = &mut self.draft {
            draft.set_pace(length.into());
        }
    }

    /// The sequence, for changes that keep its tokens.
    pub(super) fn sequence_mut(&mut self) -> &mut S {
        self.target.sequence_mut()
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
        let context = self.target.context();
        if prompt.len() > context {
            return Err(EngineError::ContextExceeded {
                asked: prompt.len(),
                context,
            });
        }
        let mut sampler = Sampler::new(options.sampling)?;
        sampler.accept(prompt);

        let common = self
            .cached()
            .iter()
            .zip(prompt)
            .take_while(|(a, b)| a == b)
            .count();
        // At least one token has to be computed for its logits.
        let reused = common.min(prompt.len() - 1);
        self.target.truncate(reused);
        if let Some(draft) = &mut self.draft {
            draft.truncate(reused);
        }
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
                full_passes: 0,
                drafted: 0,
                accepted: 0,
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

    /// Computes what is pending, and what is drafted to follow it, in one pass, and chooses one
    /// token after another as far as that goes; returns the text that they make certain.
    fn step(&mut self) -> Result<String, EngineError> {
        let left = self.max_tokens - self.outcome.tokens.len();
        if left == 0 {
            return self.end(StopReason::MaxTokens);
        }
        let room = self.generator.target.room();
        let Some(room) = room.checked_sub(self.pending.len()) else {
            return self.end(StopReason::ContextFull);
        };
        let started = Instant::now();
        if self.outcome.tokens.is_empty() {
            let Some(first) = self.judge(&[])? else {
                return self.end(StopReason::Cancelled);
            };
            self.outcome.prefill = started.elapsed();
            return Ok(first.text);
        }
        // The last token of a pass always is the model's own.
        let Some(proposed) = self.propose(room.min(left - 1))? else {
            return self.end(StopReason::Cancelled);
        };
        let Some(judged) = self.judge(&proposed)? else {
            return self.end(StopReason::Cancelled);
        };
        if let Some(draft) = &mut self.generator.draft {
            draft.judged(proposed.len(), judged.accepted, judged.pass);
        }
        self.outcome.full_passes += 1;
        self.outcome.drafted += proposed.len();
        self.outcome.accepted += judged.accepted;
        self.outcome.decoded_tokens += judged.chosen;
        self.outcome.decode += started.elapsed();
        Ok(judged.text)
    }

    /// At most `most` tokens that may follow; `None` if that was cancelled.
    fn propose(&mut self, most: usize) -> Result<Option<Vec<u32>>, EngineError> {
        let Generator { target, draft } = &mut *self.generator;
        let Some(draft) = draft else {
            return Ok(Some(Vec::new()));
        };
        let (sampler, eos) = (&mut self.sampler, self.eos);
        draft.propose(
            target.tokens(),
            &self.pending,
            most,
            sampler,
            eos,
            self.cancel,
        )
    }

    /// Computes what is pending and proposed, and chooses tokens up to the first that was not
    /// proposed, which is then what is pending. `None` if that was cancelled.
    fn judge(&mut self, proposed: &[u32]) -> Result<Option<Judged>, EngineError> {
        let Generator { target, draft } = &mut *self.generator;
        let certain = target.len() + self.pending.len();
        self.pending.extend_from_slice(proposed);
        let started = Instant::now();
        let positions = proposed.len() + 1;
        let Some(logits) = target.extend(&self.pending, positions, self.cancel)? else {
            return Ok(None);
        };
        let mut judged = Judged {
            pass: started.elapsed(),
            text: String::new(),
            chosen: 0,
            accepted: 0,
        };
        self.pending.clear();
        for logits in logits.chunks_exact(logits.len() / positions) {
            let token = self.sampler.sample(logits)?;
            judged.chosen += 1;
            if self.eos.contains(&token) {
                self.stop = Some(StopReason::EndOfText);
                break;
            }
            self.outcome.tokens.push(token);
            self.sampler.accept(&[token]);
            judged.text += &self.stops.push(&self.stream.push(token)?);
            if self.stops.stopped() {
                self.stop = Some(StopReason::StopString);
            }
            if proposed.get(judged.accepted) != Some(&token) {
                self.pending.push(token);
                break;
            }
            judged.accepted += 1;
            if self.stop.is_some() {
                break;
            }
        }
        target.truncate(certain + judged.accepted);
        if let Some(draft) = draft {
            draft.truncate(target.len());
        }
        Ok(Some(judged))
    }

    fn end(&mut self, reason: StopReason) -> Result<String, EngineError> {
        self.stop = Some(reason);
        Ok(String::new())
    }
}

/// What a pass led to.
struct Judged {
    /// The time of the pass alone.
    pass: Duration,
    text: String,
    /// Tokens that the model chose, an end token included.
    chosen: usize,
    /// How many of them had been proposed.
    accepted: usize,
}
