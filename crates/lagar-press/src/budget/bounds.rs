//! How short and how long a tier can be, from the shapes of its tensors alone.

use lagar_codec::MAX_DEPTH;

use super::size::{self, Shape};
use super::{Depths, target_bytes};
use crate::{PressError, STAGE_TIERS, StageBits};

/// A file that is at most this share shorter than what was asked for is what was asked for.
const CLOSE: f64 = 0.005;
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
    /// Its length without any bits for its stage.
    pub floor: u64,
    /// And with 8 bits for every weight.
    pub ceiling: u64,
}

impl Bounds {
    fn check(&self, parameters: u64) -> Result<(), PressError> {
        let Self {
            tier,
            target,
            floor,
            ceiling,
        } = *self;
        if target < floor {
            return Err(PressError::BelowFloor {
                tier,
                target,
                floor,
                parameters,
            });
        }
        if target as f64 * (1.0 - CLOSE) > ceiling as f64 {
            return Err(PressError::AboveCeiling {
                tier,
                target,
                ceiling,
                parameters,
            });
        }
        Ok(())
    }
}

/// The bounds of each stage that has a target; refuses those that no file can meet.
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
        let length = |own: u8, others: fn(&StageBits) -> u8| {
            let depth = |(at, bits)| match usize::cmp(&at, &stage) {
                std::cmp::Ordering::Less => others(bits),
                std::cmp::Ordering::Equal => own,
                std::cmp::Ordering::Greater => UNKNOWN,
            };
            let depths = tiers.iter().enumerate().map(depth).collect();
            let ends = size::tier_ends(shape, &Depths::everywhere(depths))?;
            Ok::<_, PressError>(ends[stage])
        };
        let bounds = Bounds {
            tier: STAGE_TIERS[stage],
            target,
            floor: length(0, least)?,
            ceiling: length(MAX_DEPTH, most)?,
        };
        bounds.check(parameters)?;
        all.push(bounds);
    }
    Ok(all)
}

/// The lowest mean depth that a stage can come to.
pub(crate) fn least(bits: &StageBits) -> u8 {
    match *bits {
        StageBits::Depth(depth) => depth,
        StageBits::Average(bits) => bits as u8,
        StageBits::FileBytes(_) | StageBits::FileBits(_) => 0,
    }
}

/// The highest.
pub(crate) fn most(bits: &StageBits) -> u8 {
    match *bits {
        StageBits::Depth(depth) => depth,
        StageBits::Average(bits) => bits.ceil() as u8,
        StageBits::FileBytes(_) | StageBits::FileBits(_) => MAX_DEPTH,
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
