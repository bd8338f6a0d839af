//! Recipes: which stages a press makes of a linear.
//!
//! A recipe decides about the stages of the first tier. Later tiers are trellis stages whatever the recipe,
//! and the engine knows nothing of recipes: only stages.

use std::fmt;
use std::str::FromStr;

use lagar_codec::MAX_DEPTH;
use serde::{Deserialize, Serialize};

use crate::budget::{DEPTHS, DISTORTION};
use crate::{PressError, PressOptions, StageBits};

/// Bits of a codebook, unless others are asked for.
const CODEBOOK_BITS: u8 = 4;
/// Bits for each parameter of a ternary file, unless others are asked for.
const TERNARY_FILE_BITS: f64 = 3.0;
/// Bits of the codes beside low-rank stages, unless others are asked for.
const EIGEN_BITS: u8 = 3;
/// Bits of the two ternary stages together.
pub(crate) const TERNARY_BITS: u8 = 2;

/// Damping of the first of the two ternary stages, relative to that of the second.
const TERNARY_FIRST_DAMPING: f32 = 10.0;

/// About the mean squared error that a codebook of each depth leaves of normal numbers of variance 1 (Lloyd and Max).
const CODEBOOK_DISTORTION: [f64; DEPTHS] = [
    1.0, 0.363, 0.1175, 0.0345, 0.0095, 0.0025, 0.00066, 0.00018, 0.00005,
];

/// What the two passes of ternary codes leave of normal numbers of variance 1, one and both of them
/// (`bench/record/recipes.md`); there are no more.
const TERNARY_DISTORTION: [f64; DEPTHS] =
    [1.0, 0.289, 0.087, 0.087, 0.087, 0.087, 0.087, 0.087, 0.087];

/// Share of the weights of a ternary file that are kept as they are, where no size is asked for.
pub(crate) const TERNARY_OUTLIERS: f64 = 0.03;

/// One run of the code over a linear: a window stage for each depth that occurs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pass {
    /// The tier that it belongs to. A later pass codes what the earlier ones leave.
    pub(crate) tier: usize,
    /// Damping of the Hessian.
    pub(crate) damping: f32,
    /// Factor on fitted scales, given the depth.
    pub(crate) stretch: fn(u8) -> f32,
    /// Most bits that it has: a tier of several passes has the sum of theirs.
    pub(crate) most: u8,
}

/// Which stages a press makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Recipe {
    /// Trellis stages.
    #[default]
    Xbit,
    /// The same: several trellis stages and the exact section, by that name.
    Tiers,
    /// A window stage without a trellis, its table fitted to each tensor.
    Codebook,
    /// Two window stages of levels −1, 0 and 1, and a sparse stage for the weights of largest effect.
    Ternary,
    /// A low-rank stage where it pays, and a window stage for what it leaves.
    Eigen,
}

impl Recipe {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Xbit,
        Self::Tiers,
        Self::Codebook,
        Self::Ternary,
        Self::Eigen,
    ];

    /// As on the command line and in a file's settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xbit => "xbit",
            Self::Tiers => "tiers",
            Self::Codebook => "codebook",
            Self::Ternary => "ternary",
            Self::Eigen => "eigen",
        }
    }

    /// The stages where nothing else is asked for, and whether the exact section follows.
    pub(crate) fn stages(self) -> (Vec<StageBits>, bool) {
        match self {
            Self::Xbit | Self::Tiers => (vec![StageBits::Depth(2); 2], true),
            Self::Codebook => (vec![StageBits::Depth(CODEBOOK_BITS)], false),
            Self::Ternary => (vec![StageBits::FileBits(TERNARY_FILE_BITS)], false),
            Self::Eigen => (vec![StageBits::Depth(EIGEN_BITS)], false),
        }
    }

    /// The passes that make the tiers, given each tier's damping.
    pub(crate) fn passes(self, dampings: &[f32]) -> Vec<Pass> {
        let mut passes = Vec::new();
        for (tier, &damping) in dampings.iter().enumerate() {
            let pass = Pass {
                tier,
                damping,
                stretch: |_| 1.0,
                most: MAX_DEPTH,
            };
            match (self, tier) {
                (Self::Ternary, 0) => {
                    let most = 1;
                    // The first of the two leaves an error that the second can code better.
                    let first = damping * TERNARY_FIRST_DAMPING;
                    passes.push(Pass {
                        most,
                        damping: first,
                        ..pass
                    });
                    passes.push(Pass { most, ..pass });
                }
                (Self::Codebook, 0) => passes.push(pass),
                (_, 0) => passes.push(Pass { stretch, ..pass }),
                _ => passes.push(pass),
            }
        }
        passes
    }

    /// What a stage of some tier leaves at each depth of normal numbers of variance 1.
    pub(crate) fn distortion(self, tier: usize) -> &'static [f64; DEPTHS] {
        match (self, tier) {
            (Self::Codebook, 0) => &CODEBOOK_DISTORTION,
            (Self::Ternary, 0) => &TERNARY_DISTORTION,
            _ => &DISTORTION,
        }
    }

    /// Refuses stages that the recipe cannot make.
    pub(crate) fn check(self, options: &PressOptions) -> Result<(), PressError> {
        let refuse = |problem| {
            Err(PressError::Recipe {
                recipe: self,
                problem,
            })
        };
        let trellis = matches!(self, Self::Xbit | Self::Tiers);
        match options.tiers.as_slice() {
            [] if !trellis => refuse("makes a tier below full, and `exact` alone has none"),
            [first, later @ ..] if self == Self::Ternary => match first {
                StageBits::Depth(TERNARY_BITS)
                | StageBits::FileBits(_)
                | StageBits::FileBytes(_)
                    if later.iter().all(|bits| matches!(bits, StageBits::Depth(_))) =>
                {
                    Ok(())
                }
                StageBits::Depth(TERNARY_BITS)
                | StageBits::FileBits(_)
                | StageBits::FileBytes(_) => refuse(
                    "spends its budget in the first tier; later ones take a whole number of bits (a size is for \
                     tier R with --primary R)",
                ),
                _ => refuse(
                    "has codes of 2 bits; single weights take what a larger size leaves (--bpw, --size)",
                ),
            },
            _ => Ok(()),
        }
    }
}

/// Factor on the scales of a first trellis stage: measured at 1 and 2 bits (`bench/record/tiers.md`); with more there
/// is next to nothing to gain.
fn stretch(bits: u8) -> f32 {
    match bits {
        1 => 1.2,
        2 => 1.05,
        _ => 1.0,
    }
}

impl FromStr for Recipe {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|recipe| recipe.name() == text);
        known.ok_or_else(|| format!("there is no recipe `{text}`"))
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
