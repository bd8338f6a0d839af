//! How short and how long a tier can be, from the shapes of its tensors alone.

use lagar_codec::MAX_DEPTH;

use super::size::{self, Shape};
use super::{Depths, outliers, target_bytes};
use crate::recipe::TERNARY_BITS;
use crate::{PressError, Recipe, STAGE_TIERS, StageBits};

/// Depth that stages of which nothing is known yet count with: the index names them all.
const UNKNOWN: u8 = 2;

/// The lengths between which a tier ends, whatever is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bounds {
    /// The tier.
    pub tier: &'static str,
    /// What was asked for, in bytes.
    pub target: u64,
    /// The least it can be.
    pub floor: u64,
    /// The most that its recipe can use; what is asked for beyond that is not used.
    pub ceiling: u64,
}

/// The bounds of each stage that has a target; refuses targets below what any file takes and above the original.
pub(crate) fn bounds(shape: &Shape<'_>) -> Result<Vec<Bounds>, PressError> {
    let tiers = &shape.options.tiers;
    let parameters = shape.spec.parameters();
    let mut all = Vec::new();
    for (stage, bits) in tiers.iter().enumerate() {
        let Some(target) = target_bytes(bits, parameters) else {
            continue;
        };
        let original = original_bytes(shape)?;
        if target > original {
            return Err(PressError::AboveOriginal { target, original });
        }
        let length = |own: u8, others: fn(&StageBits) -> u8, outliers: f64| {
            let depth = |(at, bits)| match usize::cmp(&at, &stage) {
                std::cmp::Ordering::Less => others(bits),
                std::cmp::Ordering::Equal => own,
                std::cmp::Ordering::Greater => UNKNOWN,
            };
            let depths = Depths::everywhere(tiers.iter().enumerate().map(depth).collect());
            let depths = depths.with_outliers(outliers);
            let ends = size::tier_ends(shape, &depths)?;
            Ok::<_, PressError>(ends[stage])
        };
        let (lowest, highest, without) = match shape.options.recipe {
            Recipe::Ternary => (
                TERNARY_BITS,
                TERNARY_BITS,
                "single weights beside its codes",
            ),
            _ => (0, MAX_DEPTH, "any bits for its weights"),
        };
        let bounds = Bounds {
            tier: STAGE_TIERS[stage],
            target,
            floor: length(lowest, least, 0.0)?,
            ceiling: length(highest, most, outliers::MOST)?,
        };
        if target < bounds.floor {
            return Err(PressError::BelowFloor {
                tier: bounds.tier,
                without,
                target,
                floor: bounds.floor,
                parameters,
            });
        }
        all.push(bounds);
    }
    Ok(all)
}

/// The lowest mean depth that a stage can come to.
pub(crate) fn least(bits: &StageBits) -> u8 {
    match *bits {
        StageBits::Depth(depth) => depth,
        StageBits::Average(bits) => bits as u8,
        StageBits::FileBytes(_) | StageBits::FileBits(_) | StageBits::Divergence(_) => 0,
    }
}

/// The highest.
pub(crate) fn most(bits: &StageBits) -> u8 {
    match *bits {
        StageBits::Depth(depth) => depth,
        StageBits::Average(bits) => bits.ceil() as u8,
        StageBits::FileBytes(_) | StageBits::FileBits(_) | StageBits::Divergence(_) => MAX_DEPTH,
    }
}

/// Bytes of the checkpoint's weights.
fn original_bytes(shape: &Shape<'_>) -> Result<u64, PressError> {
    let bytes = shape.spec.tensors().into_iter().map(|tensor| {
        let tensor = shape.checkpoint.tensor(&tensor.name)?;
        Ok(tensor.region().len() as u64)
    });
    bytes.sum()
}
