//! What a press is asked to do.

use std::fmt;
use std::str::FromStr;

use lagar_codec::MAX_DEPTH;
use serde::{Deserialize, Serialize};

use crate::refine::MOST_EFFORT;
use crate::{PressError, Recipe};

/// Names of the tiers that the stages make, in order.
pub const STAGE_TIERS: [&str; 3] = ["R", "RG", "RGB"];

/// Damping of the stages below the primary tier's. Less feedback costs them a little and leaves an error
/// that the next stage can code better (`bench/record/tiers.md`).
const EARLY: f32 = 1.0;
/// Damping of the primary tier's stage and of those after it.
const LATE: f32 = 0.1;
/// An embedding's damping relative to that of other linears.
const EMBEDDING: f32 = 3.0;

/// How many bits a stage gets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageBits {
    /// So many for every weight: 1 to 8.
    Depth(u8),
    /// So many for a weight on average, scales not counted; each column group gets a depth of its own, so that as
    /// little as possible is lost.
    Average(f64),
    /// As many as fit into a file that has this length, in bytes, at the end of the stage's tier.
    FileBytes(u64),
    /// The same, in bits for each parameter of the model.
    FileBits(f64),
    /// As few as leave the stage's tier with this mean divergence from the original, nats, as the press measures it
    /// in the end.
    Divergence(f64),
}

impl StageBits {
    fn is_possible(&self) -> bool {
        match *self {
            Self::Depth(depth) => (1..=MAX_DEPTH).contains(&depth),
            Self::Average(average) => average > 0.0 && average <= f64::from(MAX_DEPTH),
            Self::FileBytes(bytes) => bytes > 0,
            Self::FileBits(bits) => bits > 0.0 && bits.is_finite(),
            Self::Divergence(nats) => nats > 0.0 && nats.is_finite(),
        }
    }
}

impl FromStr for StageBits {
    type Err = String;

    /// Reads what is displayed: `2`, `2.5`, `1200000B`, `2.56bpw`, `0.01kl`.
    fn from_str(text: &str) -> Result<Self, String> {
        let bits = if let Some(bits) = text.strip_suffix("bpw") {
            bits.parse().ok().map(Self::FileBits)
        } else if let Some(nats) = text.strip_suffix("kl") {
            nats.parse().ok().map(Self::Divergence)
        } else if let Some(bytes) = text.strip_suffix('B') {
            bytes.parse().ok().map(Self::FileBytes)
        } else if text.contains('.') {
            text.parse().ok().map(Self::Average)
        } else {
            text.parse().ok().map(Self::Depth)
        };
        let bits = bits.filter(|bits: &Self| bits.is_possible());
        bits.ok_or_else(|| {
            format!(
                "`{text}` is neither a depth from 1 to 8, nor an average such as 2.5, nor a length of \
                 the file such as 2.56bpw or 1200000B, nor a divergence such as 0.01kl"
            )
        })
    }
}

impl fmt::Display for StageBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Depth(depth) => write!(f, "{depth}"),
            // Never without a point: that would be a depth.
            Self::Average(bits) => write!(f, "{bits:?}"),
            Self::FileBytes(bytes) => write!(f, "{bytes}B"),
            Self::FileBits(bits) => write!(f, "{bits}bpw"),
            Self::Divergence(nats) => write!(f, "{nats}kl"),
        }
    }
}

/// Settings of a press. Together with the checkpoint, the text and the version they decide every
/// byte of the result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PressOptions {
    /// Which stages the first tier has.
    pub recipe: Recipe,
    /// Bits that each stage adds to the linears, the embedding and the output head, for at most three
    /// stages. The first makes tier R, the second RG, the third RGB.
    pub tiers: Vec<StageBits>,
    /// Whether the exact section follows, tier `full`. Without stages it is the whole file.
    pub exact: bool,
    /// Position in `tiers` of the tier that matters most: earlier stages are coded so that it comes out
    /// well. By default the last.
    pub primary: Option<usize>,
    /// Tokens of calibration text that are read, at most.
    pub tokens: usize,
    /// Positions of a calibration window; the model's own context if that is shorter.
    pub context: usize,
    /// Seeds the random signs of the input transforms, and the order in which refinement reads its text.
    pub seed: u64,
    /// Work on row scales, norms and biases after rounding: 0 for none, to 3 for a lot.
    pub effort: u8,
    /// Times that depths are chosen anew by what a pressed model of the last ones loses, where there is a budget: by default
    /// none up to effort 1, then 1 and 3. Each takes as long as a press.
    pub rounds: Option<u8>,
    /// For each stage, the share of the mean diagonal that is added to the diagonal of every Hessian, three
    /// times that for the embedding; by default what measurements found best for the primary tier.
    pub damping: Option<Vec<f32>>,
}

impl Default for PressOptions {
    fn default() -> Self {
        let recipe = Recipe::default();
        let (tiers, exact) = recipe.stages();
        Self {
            recipe,
            tiers,
            exact,
            primary: None,
            tokens: 131_072,
            context: 2048,
            seed: 0,
            effort: 1,
            rounds: None,
            damping: None,
        }
    }
}

impl PressOptions {
    /// The options with this recipe, and the stages that it has where nothing else is asked for.
    #[must_use]
    pub fn with_recipe(mut self, recipe: Recipe) -> Self {
        self.recipe = recipe;
        (self.tiers, self.exact) = recipe.stages();
        self
    }

    /// The options with stages of these depths, and nothing else.
    #[must_use]
    pub fn with_tiers(self, tiers: &[u8], exact: bool) -> Self {
        let stages = tiers.iter().copied().map(StageBits::Depth);
        self.with_stages(stages.collect(), exact)
    }

    /// The options with these stages, and nothing else.
    #[must_use]
    pub fn with_stages(mut self, tiers: Vec<StageBits>, exact: bool) -> Self {
        self.tiers = tiers;
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

    /// Times that depths are chosen anew.
    pub(crate) fn rounds(&self) -> usize {
        let default = match self.effort {
            0 | 1 => 0,
            2 => 1,
            _ => 3,
        };
        self.rounds.unwrap_or(default).into()
    }

    /// The stage that shall have some divergence, and which.
    pub(crate) fn divergence(&self) -> Option<(usize, f64)> {
        let mut stages = self.tiers.iter().enumerate();
        stages.find_map(|(stage, bits)| match bits {
            StageBits::Divergence(nats) => Some((stage, *nats)),
            _ => None,
        })
    }

    /// Stages and exact section as on the command line: `2,2+exact`.
    pub fn stages(&self) -> String {
        let stages: Vec<String> = self.tiers.iter().map(StageBits::to_string).collect();
        match (stages.is_empty(), self.exact) {
            (true, _) => "exact".to_owned(),
            (false, true) => format!("{}+exact", stages.join(",")),
            (false, false) => stages.join(","),
        }
    }

    /// Refuses stages that the recipe cannot make.
    ///
    /// # Errors
    ///
    /// [`PressError::Recipe`], which says what the recipe does.
    pub fn check_recipe(&self) -> Result<(), PressError> {
        self.recipe.check(self)
    }

    /// Refuses what cannot be pressed.
    pub(crate) fn check(&self) -> Result<(), PressError> {
        if self.tiers.len() > STAGE_TIERS.len() || (self.tiers.is_empty() && !self.exact) {
            return Err(PressError::Stages {
                stages: self.tiers.len(),
            });
        }
        if let Some(&bits) = self.tiers.iter().find(|bits| !bits.is_possible()) {
            return Err(PressError::Bits { bits });
        }
        self.check_recipe()?;
        if self.primary.is_some_and(|tier| tier >= self.tiers.len()) {
            return Err(PressError::Primary {
                tier: self.primary(),
                stages: self.tiers.len(),
            });
        }
        if self.effort > MOST_EFFORT {
            return Err(PressError::Effort {
                effort: self.effort,
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
