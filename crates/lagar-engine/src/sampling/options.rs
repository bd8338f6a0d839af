//! What the user may choose about sampling.

use crate::EngineError;

/// How the next token is chosen from the logits.
///
/// The steps, in the order of Hugging Face `transformers`: repetition penalty, temperature, top-k,
/// top-p, min-p, draw. Each of the three filters sees what the one before it left, renormalized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplingOptions {
    /// Logits are divided by this; 0 chooses the most likely token.
    pub temperature: f32,
    /// Only the k most likely tokens stay; 0 keeps all. Of equal logits the lower ids stay.
    pub top_k: usize,
    /// The fewest most likely tokens whose probabilities sum to at least this stay; 1 keeps all.
    pub top_p: f32,
    /// Tokens at least this fraction as likely as the most likely one stay; 0 keeps all.
    pub min_p: f32,
    /// Logits of tokens already in the sequence, prompt included, are divided by this if
    /// positive and multiplied by it if negative; 1 changes nothing (Keskar et al., "CTRL",
    /// arXiv 1909.05858).
    pub repeat_penalty: f32,
    /// Fixes the random draws: the same seed, options and logits give the same tokens, on every
    /// machine.
    pub seed: u64,
}

impl SamplingOptions {
    /// Always the most likely token; of equals, the one with the lowest id.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repeat_penalty: 1.0,
        seed: 0,
    };

    /// Whether the choice is free of chance.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Checks all options.
    ///
    /// # Errors
    ///
    /// [`EngineError::SamplingOption`] for the first that is out of range.
    pub fn check(&self) -> Result<(), EngineError> {
        let checks = [
            (
                "temperature",
                self.temperature,
                self.temperature >= 0.0 && self.temperature.is_finite(),
                "0 (always the most likely token) or more",
            ),
            (
                "top-p",
                self.top_p,
                self.top_p > 0.0 && self.top_p <= 1.0,
                "above 0 and at most 1 (1 keeps all tokens)",
            ),
            (
                "min-p",
                self.min_p,
                (0.0..=1.0).contains(&self.min_p),
                "between 0 (keeps all tokens) and 1",
            ),
            (
                "repeat-penalty",
                self.repeat_penalty,
                self.repeat_penalty > 0.0 && self.repeat_penalty.is_finite(),
                "above 0 (1 changes nothing)",
            ),
        ];
        match checks.into_iter().find(|(_, _, fits, _)| !fits) {
            None => Ok(()),
            Some((option, value, _, allowed)) => Err(EngineError::SamplingOption {
                option,
                value: value.to_string(),
                allowed,
            }),
        }
    }
}

impl Default for SamplingOptions {
    /// Plain draws from the model's own distribution, seed 0.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            ..Self::GREEDY
        }
    }
}
