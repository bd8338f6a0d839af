//! What a press is asked to do.

use lagar_codec::MAX_DEPTH;
use serde::{Deserialize, Serialize};

use crate::PressError;

/// Names of the tiers that the stages make, in order.
pub const STAGE_TIERS: [&str; 3] = ["R", "RG", "RGB"];

/// Damping of the stages below the primary tier's. Less feedback costs them a little and leaves an error
/// that the next stage can code better (`bench/record/tiers.md`).
const EARLY: f32 = 1.0;
/// Damping of the primary tier's stage and of those after it.
const LATE: f32 = 0.1;
/// An embedding's damping relative to that of other linears.
const EMBEDDING: f32 = 3.0;

/// Settings of a press. Together with the checkpoint, the text and the version they decide every
/// byte of the result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PressOptions {
    /// Bits per weight that each stage adds to every linear, the embedding and the output head: 1 to 8,
    /// for at most three stages. The first makes tier R, the second RG, the third RGB.
    pub tiers: Vec<u8>,
    /// Whether the exact section follows, tier `full`. Without stages it is the whole file.
    pub exact: bool,
    /// Position in `tiers` of the tier that matters most: earlier stages are coded so that it comes out
    /// well. By default the last.
    pub primary: Option<usize>,
    /// Tokens of calibration text that are read, at most.
    pub tokens: usize,
    /// Positions of a calibration window; the model's own context if that is shorter.
    pub context: usize,
    /// Seeds the random signs of the input transforms.
    pub seed: u64,
    /// For each stage, the share of the mean diagonal that is added to the diagonal of every Hessian, three
    /// times that for the embedding; by default what measurements found best for the primary tier.
    pub damping: Option<Vec<f32>>,
}

impl Default for PressOptions {
    fn default() -> Self {
        Self {
            tiers: vec![2, 2],
            exact: true,
            primary: None,
            tokens: 131_072,
            context: 2048,
            seed: 0,
            damping: None,
        }
    }
}

impl PressOptions {
    /// The options with these stages, and nothing else.
    #[must_use]
    pub fn with_tiers(mut self, tiers: &[u8], exact: bool) -> Self {
        self.tiers = tiers.to_vec();
        self.exact = exact;
        self
    }

    /// Names of the tiers below `full`.
    pub fn stage_tiers(&self) -> &'static [&'static str] {
        &STAGE_TIERS[..self.tiers.len().min(STAGE_TIERS.len())]
    }

    /// Position of the tier that matters most.
    pub fn primary(&self) -> usize {
        self.primary.unwrap_or(self.tiers.len().saturating_sub(1))
    }

    /// Name of the tier that matters most; `full` without stages.
    pub fn primary_tier(&self) -> &'static str {
        self.stage_tiers().get(self.primary()).unwrap_or(&"full")
    }

    /// As on the command line: `2,2+exact`.
    pub fn recipe(&self) -> String {
        let stages: Vec<String> = self.tiers.iter().map(u8::to_string).collect();
        match (stages.is_empty(), self.exact) {
            (true, _) => "exact".to_owned(),
            (false, true) => format!("{}+exact", stages.join(",")),
            (false, false) => stages.join(","),
        }
    }

    /// Refuses what cannot be pressed.
    pub(crate) fn check(&self) -> Result<(), PressError> {
        if self.tiers.len() > STAGE_TIERS.len() || (self.tiers.is_empty() && !self.exact) {
            return Err(PressError::Stages {
                stages: self.tiers.len(),
            });
        }
        if let Some(&bits) = self.tiers.iter().find(|b| !(1..=MAX_DEPTH).contains(*b)) {
            return Err(PressError::Bits { bits });
        }
        if self.primary.is_some_and(|tier| tier >= self.tiers.len()) {
            return Err(PressError::Primary {
                tier: self.primary(),
                stages: self.tiers.len(),
            });
        }
        if let Some(damping) = &self.damping
            && (damping.len() != self.tiers.len() || !damping.iter().all(|d| *d >= 0.0))
        {
            return Err(PressError::Damping {
                damping: damping.clone(),
                stages: self.tiers.len(),
            });
        }
        Ok(())
    }

    /// Damping of each stage's Hessians. An embedding that is the output head too is also looked up, where
    /// all its columns count alike: so its Hessian gets more of the identity.
    pub(crate) fn dampings(&self, is_embedding: bool) -> Vec<f32> {
        let default = |stage| if stage < self.primary() { EARLY } else { LATE };
        let damping = match &self.damping {
            Some(damping) => damping.clone(),
            None => (0..self.tiers.len()).map(default).collect(),
        };
        let factor = if is_embedding { EMBEDDING } else { 1.0 };
        damping.into_iter().map(|d| d * factor).collect()
    }
}
