//! A length of the file for recipes whose codes have a fixed depth: single weights take what is left.

use super::{Depths, Request, size, target_bytes};
use crate::recipe::TERNARY_BITS;
use crate::{PressError, STAGE_TIERS, StageBits};

/// The largest share of weights that are kept as they are.
pub(super) const MOST: f64 = 0.25;
/// Times that the share is halved towards the target: less than a millionth of the weights.
const HALVINGS: usize = 18;

/// The share of single weights with which the first tier is as long as it may be.
pub(super) fn to_size(request: &Request<'_>) -> Result<Depths, PressError> {
    let tiers = &request.options.tiers;
    let parameters = request.model.parameters();
    let target = target_bytes(&tiers[0], parameters).expect("a first stage with a size");
    let depths = |bits: &StageBits| match bits {
        StageBits::Depth(depth) => *depth,
        _ => TERNARY_BITS,
    };
    let with = |outliers: f64| Depths {
        outliers,
        ..Depths::everywhere(tiers.iter().map(depths).collect())
    };
    let length =
        |outliers: f64| Ok::<_, PressError>(size::tier_ends(&request.shape(), &with(outliers))?[0]);
    let floor = length(0.0)?;
    if floor > target {
        return Err(PressError::BelowFloor {
            tier: STAGE_TIERS[0],
            without: "single weights beside its codes",
            target,
            floor,
            parameters,
        });
    }
    let most = length(MOST)?;
    if most <= target {
        request.progress.note(&format!(
            "a quarter of all weights as they are, the most of a ternary file, make {most} bytes: not more than the \
             {target} that were asked for"
        ));
        return Ok(with(MOST));
    }
    let (mut fits, mut exceeds) = (0.0, MOST);
    for _ in 0..HALVINGS {
        let share = (fits + exceeds) / 2.0;
        match length(share)? <= target {
            true => fits = share,
            false => exceeds = share,
        }
    }
    Ok(with(fits))
}
