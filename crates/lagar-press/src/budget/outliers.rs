//! A length of the file for recipes whose codes have a fixed depth: single weights take what is left.
//!
//! A weight that is kept as it is lowers what is lost by its effect (see [`Candidates`]); in nats, effects of different
//! matrices compare. So all weights above one effect are kept, in the whole model, and each matrix gets its share of them.
//!
//! [`Candidates`]: crate::encode::outliers::Candidates

use super::costs::LinearCosts;
use super::{Depths, Request, sensitivity, size, target_bytes};
use crate::recipe::TERNARY_BITS;
use crate::{PressError, STAGE_TIERS, StageBits};

/// The largest share of a matrix that is kept as it is.
pub(super) const MOST: f64 = 0.25;
/// Times that the share of all weights is halved towards the target.
const HALVINGS: usize = 24;

/// The shares of single weights with which the first tier is as long as it may be.
pub(super) fn to_size(
    request: &Request<'_>,
    linears: &[LinearCosts],
) -> Result<Depths, PressError> {
    let tiers = &request.options.tiers;
    let parameters = request.model.parameters();
    let target = target_bytes(&tiers[0], parameters).expect("a first stage with a size");
    let depths = |bits: &StageBits| match bits {
        StageBits::Depth(depth) => *depth,
        _ => TERNARY_BITS,
    };
    let depths: Vec<u8> = tiers.iter().map(depths).collect();
    let with = |shares: Vec<f64>| {
        let names = linears.iter().map(|linear| linear.weight.clone());
        Depths {
            outliers: names.zip(shares).collect(),
            ..Depths::everywhere(depths.clone())
        }
    };
    let length = |shares: Vec<f64>| {
        Ok::<_, PressError>(size::tier_ends(&request.shape(), &with(shares))?[0])
    };
    let floor = length(vec![0.0; linears.len()])?;
    if floor > target {
        return Err(PressError::BelowFloor {
            tier: STAGE_TIERS[0],
            without: "single weights beside its codes",
            target,
            floor,
            parameters,
        });
    }
    let ranks = Ranks::new(linears);
    let most = length(ranks.shares(ranks.all))?;
    let (mut fits, mut exceeds) = (0.0, ranks.all);
    if most > target {
        for _ in 0..HALVINGS {
            let kept = (fits + exceeds) / 2.0;
            match length(ranks.shares(kept))? <= target {
                true => fits = kept,
                false => exceeds = kept,
            }
        }
    } else {
        request.progress.note(&format!(
            "a quarter of all weights as they are, the most of a ternary file, make {most} bytes: not more than the \
             {target} that were asked for"
        ));
        fits = ranks.all;
    }
    let lost = linears.iter().flat_map(|linear| &linear.groups);
    let lost: Vec<f64> = lost.map(|costs| costs[usize::from(TERNARY_BITS)]).collect();
    Ok(Depths {
        sensitivities: sensitivity::of_linears(linears, &lost),
        ..with(ranks.shares(fits))
    })
}

/// The weights of all linears that can be kept, in bins of effects.
struct Ranks {
    /// Weights of each linear.
    weights: Vec<f64>,
    /// Effect, linear, and how many of its weights have it; largest first.
    bins: Vec<(u16, usize, f64)>,
    /// How many weights that is.
    all: f64,
}

impl Ranks {
    fn new(linears: &[LinearCosts]) -> Self {
        let weights = linears.iter().map(|l| l.rows as f64 * l.cols as f64);
        let weights: Vec<f64> = weights.collect();
        let mut bins = Vec::new();
        for (at, linear) in linears.iter().enumerate() {
            let mut room = MOST * weights[at];
            for &(effect, count) in &linear.effects {
                let count = room.min(count as f64);
                room -= count;
                bins.push((effect, at, count));
            }
        }
        bins.sort_by_key(|&(effect, at, _)| (std::cmp::Reverse(effect), at));
        let all = bins.iter().map(|(_, _, count)| count).sum();
        Self { weights, bins, all }
    }

    /// The share of each linear, where `kept` weights of largest effect are kept.
    fn shares(&self, kept: f64) -> Vec<f64> {
        let mut shares = vec![0.0; self.weights.len()];
        let mut left = kept;
        for bin in self.bins.chunk_by(|a, b| a.0 == b.0) {
            let all: f64 = bin.iter().map(|(_, _, count)| count).sum();
            // Nothing tells the weights of the last bin apart.
            let part = (left / all).min(1.0);
            for &(_, at, count) in bin {
                shares[at] += part * count / self.weights[at];
            }
            left -= all;
            if left <= 0.0 {
                break;
            }
        }
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linear(weight: &str, effects: &[(u16, u64)]) -> LinearCosts {
        LinearCosts {
            weight: weight.to_owned(),
            rows: 10,
            cols: 10,
            rank: 0,
            groups: Vec::new(),
            effects: effects.to_vec(),
        }
    }

    /// The largest of both are kept first, of equal ones the same part, and never more than a quarter of a matrix.
    #[test]
    fn shares_are_those_above_one_effect() {
        let linears = [
            linear("a", &[(9, 4), (7, 10), (3, 50)]),
            linear("b", &[(8, 2), (7, 10)]),
        ];
        let ranks = Ranks::new(&linears);
        assert_eq!(ranks.all, 25.0 + 12.0);
        for (kept, percent) in [
            (0.0, [0.0, 0.0]),
            (5.0, [4.0, 1.0]),
            (16.0, [9.0, 7.0]),
            (37.0, [25.0, 12.0]),
        ] {
            for (share, percent) in ranks.shares(kept).into_iter().zip(percent) {
                assert!((100.0 * share - percent).abs() < 1e-9, "{kept}: {share}");
            }
        }
    }
}
