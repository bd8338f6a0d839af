//! Bit budgets: which depth each column group of each linear gets.
//!
//! A stage with a depth gives every group that depth. A stage with a budget gives each group its own: one
//! backward pass over calibration text says how much an error at each output matters ([`fisher`]), a forward
//! pass how much of it each group's code leaves at each depth ([`costs`]), and [`allocate()`] divides the
//! bytes.

mod allocate;
mod bounds;
mod costs;
mod fisher;
mod sensitivity;
mod size;

use std::collections::BTreeMap;

use lagar_codec::StageLayout;
use lagar_engine::{Checkpoint, Model};
use lagar_format::SourceFile;
use lagar_kernels::Cpu;
use serde::{Deserialize, Serialize};

use self::allocate::{DEPTHS, DISTORTION, Group, allocate};
pub use self::bounds::Bounds;
pub(crate) use self::bounds::{bounds, least, most};
use self::costs::{Costs, GroupCost, LinearCosts};
use self::fisher::Fisher;
pub use self::sensitivity::Sensitivity;
pub(crate) use self::size::{Shape, tier_ends};
use crate::evaluate::Windows;
use crate::partial::{Key, Partial};
use crate::{PressError, PressOptions, Progress, STAGE_TIERS, StageBits};

/// Tokens that sensitivities are measured on, at most.
pub(crate) const TOKENS: usize = 16_384;
/// Positions of a window of these tokens, at most: a backward pass holds one.
const CONTEXT: usize = 1024;
/// Times that a budget is corrected by what the file's other bytes turn out to be.
const CORRECTIONS: usize = 12;

/// For each stage, the depth of each column group of each linear.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Depths {
    /// Of linears that are not in `linears`.
    others: Vec<u8>,
    /// Stage by stage.
    linears: BTreeMap<String, Vec<Vec<u8>>>,
    /// Of the linears in `linears`.
    sensitivities: BTreeMap<String, Sensitivity>,
}

impl Depths {
    /// Those of a linear's `groups` groups, stage by stage.
    pub(crate) fn of(&self, weight: &str, groups: usize) -> Vec<Vec<u8>> {
        match self.linears.get(weight) {
            Some(stages) => stages.clone(),
            None => self
                .others
                .iter()
                .map(|&depth| vec![depth; groups])
                .collect(),
        }
    }

    /// These of each stage everywhere.
    pub(crate) fn everywhere(others: Vec<u8>) -> Self {
        Self {
            others,
            linears: BTreeMap::new(),
            sensitivities: BTreeMap::new(),
        }
    }

    /// What was measured of a linear.
    pub(crate) fn sensitivity(&self, weight: &str) -> Option<&Sensitivity> {
        self.sensitivities.get(weight)
    }
}

/// What a budget depends on.
pub(crate) struct Request<'a> {
    pub(crate) cpu: &'a Cpu,
    pub(crate) model: &'a Model,
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) options: &'a PressOptions,
    pub(crate) key: &'a Key,
    pub(crate) sources: &'a [SourceFile],
    pub(crate) windows: &'a Windows,
    pub(crate) partial: &'a Partial,
    pub(crate) progress: &'a dyn Progress,
}

impl Request<'_> {
    fn shape(&self) -> Shape<'_> {
        Shape {
            spec: self.model.spec(),
            checkpoint: self.checkpoint,
            options: self.options,
            key: self.key,
            sources: self.sources,
        }
    }
}

/// Chooses all depths, or takes them over from an earlier press.
pub(crate) fn depths(request: &Request<'_>) -> Result<Depths, PressError> {
    let fixed = |bits: &StageBits| match bits {
        StageBits::Depth(depth) => Some(*depth),
        _ => None,
    };
    let tiers = &request.options.tiers;
    if let Some(others) = tiers.iter().map(fixed).collect() {
        return Ok(Depths::everywhere(others));
    }
    if let Some(known) = request.partial.read("depths")? {
        return Ok(known);
    }
    let linears = sensitivities(request)?;
    let depths = Budget {
        request,
        linears: &linears,
    };
    let depths = depths.depths()?;
    request.partial.write("depths", &depths)?;
    Ok(depths)
}

/// The length that a stage's tier shall end at.
pub(crate) fn target_bytes(bits: &StageBits, parameters: u64) -> Option<u64> {
    match bits {
        StageBits::FileBytes(bytes) => Some(*bytes),
        StageBits::FileBits(bits) => Some((bits * parameters as f64 / 8.0) as u64),
        StageBits::Depth(_) | StageBits::Average(_) => None,
    }
}

/// What each group of each linear costs where it is left out.
fn sensitivities(request: &Request<'_>) -> Result<Vec<LinearCosts>, PressError> {
    let Request {
        cpu,
        model,
        progress,
        ..
    } = *request;
    let pieces = request.windows.iter().flat_map(|window| {
        let pieces = window.chunks(CONTEXT).map(<[u32]>::to_vec);
        pieces.collect::<Vec<_>>()
    });
    let mut tokens = 0;
    let windows: Vec<Vec<u32>> = pieces
        .filter(|piece| piece.len() > 1)
        .take_while(|piece| {
            let first = tokens == 0;
            tokens += piece.len();
            first || tokens <= TOKENS
        })
        .collect();
    let tokens: usize = windows.iter().map(Vec::len).sum();
    progress.phase("Measuring sensitivity", tokens as u64);
    let fisher = Fisher::new(cpu, model, &windows, request.options.seed, progress)?;
    let costs = Costs {
        cpu,
        model,
        checkpoint: request.checkpoint,
        options: request.options,
        fisher: &fisher,
        progress,
    };
    costs.all(&windows)
}

/// Divides the bytes of stage after stage.
struct Budget<'a> {
    request: &'a Request<'a>,
    linears: &'a [LinearCosts],
}

impl Budget<'_> {
    fn depths(&self) -> Result<Depths, PressError> {
        let tiers = &self.request.options.tiers;
        let groups = self.linears.iter().flat_map(|linear| &linear.groups);
        let mut costs: Vec<GroupCost> = groups.copied().collect();
        // Stages that are still to be chosen count as two bits: the index names them all.
        let mut chosen: Vec<Vec<u8>> = vec![vec![2; costs.len()]; tiers.len()];
        for (stage, bits) in tiers.iter().enumerate() {
            chosen[stage] = match bits {
                StageBits::Depth(depth) => vec![*depth; costs.len()],
                StageBits::Average(average) => {
                    let groups = self.sizes(&costs, |rows, cols, depth| rows * cols * depth / 8);
                    let all: u64 = groups.iter().map(|group| group.bytes[8]).sum();
                    let budget = (all as f64 * average / 8.0) as u64;
                    let least = u8::from(*average >= 1.0);
                    allocate(&groups, least, budget - all / 8 * u64::from(least))
                }
                StageBits::FileBytes(_) | StageBits::FileBits(_) => {
                    self.to_size(stage, &costs, &mut chosen)?
                }
            };
            for (costs, &depth) in costs.iter_mut().zip(&chosen[stage]) {
                // Of what is left, a later stage can code nothing or as much as of anything else.
                let left = costs[usize::from(depth)];
                *costs = DISTORTION.map(|d| left * d);
            }
        }
        let lost: Vec<f64> = costs.iter().map(|left| left[0]).collect();
        let mut depths = self.with(&chosen);
        depths.sensitivities = sensitivity::of_linears(self.linears, &lost);
        Ok(depths)
    }

    /// Depths of all groups, stage by stage, as those of linears.
    fn with(&self, stages: &[Vec<u8>]) -> Depths {
        let mut first = 0;
        let linears = self.linears.iter().map(|linear| {
            let range = first..first + linear.groups.len();
            first = range.end;
            let stages = stages.iter().map(|depths| depths[range.clone()].to_vec());
            (linear.weight.clone(), stages.collect())
        });
        Depths {
            linears: linears.collect(),
            ..Depths::everywhere(vec![0; stages.len()])
        }
    }

    /// The groups and what they take, given padded rows, columns and depth.
    fn sizes(&self, costs: &[GroupCost], bytes: impl Fn(u64, u64, u64) -> u64) -> Vec<Group> {
        let shapes = self.linears.iter().flat_map(|linear| {
            let layout = StageLayout::new(linear.rows, linear.cols, &vec![1; linear.groups.len()]);
            let layout = layout.expect("the shape of a checked tensor");
            let cols: Vec<usize> = (0..layout.groups()).map(|g| layout.group(g).cols).collect();
            let rows = layout.padded_rows();
            cols.into_iter().map(move |cols| (rows as u64, cols as u64))
        });
        let group = |((rows, cols), &costs): ((u64, u64), &GroupCost)| Group {
            costs,
            bytes: std::array::from_fn(|depth| match depth {
                0 => 0,
                depth => bytes(rows, cols, depth as u64),
            }),
        };
        shapes.zip(costs).map(group).collect()
    }

    /// Depths of a stage at whose end the file is as long as it may be.
    fn to_size(
        &self,
        stage: usize,
        costs: &[GroupCost],
        chosen: &mut [Vec<u8>],
    ) -> Result<Vec<u8>, PressError> {
        let Request { options, model, .. } = *self.request;
        let parameters = model.parameters();
        let target = target_bytes(&options.tiers[stage], parameters).expect("a stage with a size");
        let length = |chosen: &[Vec<u8>]| {
            let ends = tier_ends(&self.request.shape(), &self.with(chosen))?;
            Ok::<_, PressError>(ends[stage])
        };
        // A tile's leading byte, and one scale for each row.
        let groups = self.sizes(costs, |rows, cols, depth| {
            rows * cols * depth / 8 + rows.div_ceil(256) + rows
        });
        chosen[stage] = vec![0; costs.len()];
        let floor = length(chosen)?;
        if floor > target {
            return Err(PressError::BelowFloor {
                tier: STAGE_TIERS[stage],
                target,
                floor,
                parameters,
            });
        }
        let mut best = (floor, chosen[stage].clone());
        // The columns of a group make up for the errors of those before it. Without any bits it cannot, so that
        // every group gets one before any gets more.
        chosen[stage] = vec![1; costs.len()];
        let ones = length(chosen)?;
        let least = u8::from(ones <= target);
        if ones <= target {
            best = (ones, chosen[stage].clone());
        }
        // Between the largest budget that fits and the smallest that does not: the index differs with the depths.
        let (mut fits, mut exceeds) = (0, u64::MAX);
        let mut budget = target - best.0;
        for _ in 0..CORRECTIONS {
            chosen[stage] = allocate(&groups, least, budget);
            let found = length(chosen)?;
            if found <= target {
                if found >= best.0 {
                    best = (found, chosen[stage].clone());
                }
                // Less than a thousandth is left.
                if (target - found) * 1000 < target {
                    break;
                }
                fits = budget;
                budget += target - found;
            } else {
                exceeds = budget;
                budget = budget.saturating_sub(2 * (found - target));
            }
            if budget <= fits || budget >= exceeds {
                budget = fits + (exceeds - fits) / 2;
            }
        }
        if best.1.iter().all(|&depth| usize::from(depth) == DEPTHS - 1) {
            self.request.progress.note(&format!(
                "8 bits for every weight, the most there are, make {} bytes: less than the {target} that were asked for",
                best.0
            ));
        }
        Ok(best.1)
    }
}
