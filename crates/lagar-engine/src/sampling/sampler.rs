//! The choice of one token.

use std::cmp::Ordering;

use super::draws::Draws;
use super::exponential::{exp, ln};
use super::options::SamplingOptions;
use crate::EngineError;

/// How many candidates top-p sorts at first; most distributions need no more.
const FIRST_SORTED: usize = 64;

/// Chooses tokens for one sequence, and remembers which tokens the sequence holds.
///
/// The draw for a token depends on the seed and on the token's position in the sequence, not on
/// how many draws were made before: a sequence that is continued later goes on as if it had never
/// stopped.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplingOptions,
    draws: Draws,
    /// How often each token is in the sequence, by id; grows to the largest id that was accepted.
    seen: Vec<u32>,
    position: u64,
    penalized: Vec<f32>,
    candidates: Vec<Candidate>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    token: u32,
    logit: f32,
    /// Probability relative to the most likely token's.
    weight: f64,
}

impl Candidate {
    /// The most likely first, the lowest id first among equals.
    fn order(&self, other: &Self) -> Ordering {
        let by_logit = other.logit.partial_cmp(&self.logit);
        by_logit
            .unwrap_or(Ordering::Equal)
            .then(self.token.cmp(&other.token))
    }
}

impl Sampler {
    /// A sampler for an empty sequence.
    ///
    /// # Errors
    ///
    /// [`EngineError::SamplingOption`] if an option is out of range.
    pub fn new(options: SamplingOptions) -> Result<Self, EngineError> {
        options.check()?;
        Ok(Self {
            options,
            draws: Draws::new(options.seed),
            seen: Vec::new(),
            position: 0,
            penalized: Vec::new(),
            candidates: Vec::new(),
        })
    }

    /// The options in force.
    pub fn options(&self) -> &SamplingOptions {
        &self.options
    }

    /// Appends tokens to the sequence: the prompt's, and each one that was chosen.
    pub fn accept(&mut self, tokens: &[u32]) {
        for &token in tokens {
            let token = token as usize;
            if token >= self.seen.len() {
                self.seen.resize(token + 1, 0);
            }
            self.seen[token] += 1;
        }
        self.position += tokens.len() as u64;
    }

    /// Takes the last accepted tokens back, as if they had never been.
    ///
    /// # Panics
    ///
    /// If these are not what was accepted.
    pub fn retract(&mut self, tokens: &[u32]) {
        for &token in tokens {
            let count = &mut self.seen[token as usize];
            *count = count.checked_sub(1).expect("the token was accepted");
        }
        self.position -= tokens.len() as u64;
    }

    /// Chooses the token that follows the accepted ones, from one logit for each token of the
    /// vocabulary. Does not accept it.
    ///
    /// # Errors
    ///
    /// [`EngineError::Logits`] if a logit is NaN or +∞, or all are −∞, or there is none. Single
    /// logits of −∞ forbid their tokens.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, EngineError> {
        if self.options.repeat_penalty == 1.0 {
            return self.choose(logits);
        }
        let mut penalized = std::mem::take(&mut self.penalized);
        penalized.clear();
        penalized.extend_from_slice(logits);
        let penalty = self.options.repeat_penalty;
        for (logit, _) in penalized
            .iter_mut()
            .zip(&self.seen)
            .filter(|(_, seen)| **seen > 0)
        {
            *logit = if *logit > 0.0 {
                *logit / penalty
            } else {
                *logit * penalty
            };
        }
        let token = self.choose(&penalized);
        self.penalized = penalized;
        token
    }

    fn choose(&mut self, logits: &[f32]) -> Result<u32, EngineError> {
        let best = most_likely(logits)?;
        if self.options.is_greedy() {
            return Ok(best);
        }
        let maximum = f64::from(logits[best as usize]);
        let temperature = f64::from(self.options.temperature);
        self.candidates.clear();
        self.candidates
            .extend(logits.iter().zip(0..).map(|(&logit, token)| Candidate {
                token,
                logit,
                weight: exp((f64::from(logit) - maximum) / temperature),
            }));
        self.keep_top_k();
        self.keep_top_p();
        let least = f64::from(self.options.min_p);
        self.candidates
            .retain(|candidate| candidate.weight >= least);
        Ok(self.draw())
    }

    fn keep_top_k(&mut self) {
        let k = self.options.top_k;
        if k == 0 || k >= self.candidates.len() {
            return;
        }
        self.candidates
            .select_nth_unstable_by(k - 1, Candidate::order);
        self.candidates.truncate(k);
        self.candidates.sort_unstable_by(Candidate::order);
    }

    fn keep_top_p(&mut self) {
        if self.options.top_p >= 1.0 {
            return;
        }
        let enough = f64::from(self.options.top_p) * total(&self.candidates);
        let (mut sum, mut sorted, mut batch) = (0.0, 0, FIRST_SORTED);
        while sorted < self.candidates.len() {
            let rest = &mut self.candidates[sorted..];
            let batch_end = batch.min(rest.len());
            if batch_end < rest.len() {
                rest.select_nth_unstable_by(batch_end - 1, Candidate::order);
            }
            rest[..batch_end].sort_unstable_by(Candidate::order);
            for (index, candidate) in rest[..batch_end].iter().enumerate() {
                sum += candidate.weight;
                if sum >= enough {
                    self.candidates.truncate(sorted + index + 1);
                    return;
                }
            }
            sorted += batch_end;
            batch *= 4;
        }
    }

    /// Draws one of the candidates, which hold the most likely token and so some weight.
    ///
    /// An exponential race: each candidate arrives after a random time of rate `weight`, and the
    /// first wins, which it does with a probability in proportion to its weight. The randomness
    /// belongs to the token, so that models with similar logits mostly choose the same one
    /// (Daliri, Musco and Suresh, "Coupling without communication and drafter-invariant speculative
    /// decoding", arXiv 2408.07978): that is what makes drafting pay when sampling.
    fn draw(&self) -> u32 {
        let draws = self.draws.at(self.position);
        let mut first = (f64::INFINITY, u32::MAX);
        for candidate in &self.candidates {
            let uniform = draws.uniform(candidate.token);
            // -ln u >= 1 - u, so most that come late are known without the logarithm. The margin
            // is far above all rounding: the order of candidates does not matter.
            if 1.0 - uniform > first.0 * candidate.weight * (1.0 + 1e-9) {
                continue;
            }
            // Without any weight, after infinite time.
            let arrival = (-ln(uniform) / candidate.weight, candidate.token);
            if arrival < first {
                first = arrival;
            }
        }
        first.1
    }
}

fn total(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|candidate| candidate.weight).sum()
}

/// The token with the largest logit; of equals, the one with the lowest id.
///
/// # Errors
///
/// [`EngineError::Logits`] if a logit is NaN or +∞, or all are −∞, or there is none.
pub fn most_likely(logits: &[f32]) -> Result<u32, EngineError> {
    let refuse = |problem: String| Err(EngineError::Logits { problem });
    let mut best: Option<(u32, f32)> = None;
    for (&logit, token) in logits.iter().zip(0_u32..) {
        if logit.is_nan() || logit == f32::INFINITY {
            return refuse(format!("the logit of token {token} is {logit}"));
        }
        if logit > best.map_or(f32::NEG_INFINITY, |(_, logit)| logit) {
            best = Some((token, logit));
        }
    }
    match best {
        Some((token, _)) => Ok(token),
        None => refuse(format!("none of {} logits is above -inf", logits.len())),
    }
}
