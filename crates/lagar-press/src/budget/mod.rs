//! Bit budgets: which depth each column group of each linear gets.
//!
//! A stage with a depth gives every group that depth. A stage with a budget gives each group its own: one
//! backward pass over calibration text says how much an error at each output matters ([`fisher`]), a forward
//! pass how much of it each group's code leaves at each depth ([`costs`]), and [`allocate()`] divides the
//! bytes.

mod allocate;
mod attribution;
mod bounds;
mod costs;
mod fisher;
mod learn;
mod outliers;
mod sensitivity;
mod size;

use std::collections::BTreeMap;

use lagar_codec::StageLayout;
use lagar_engine::{Checkpoint, Model};
use lagar_format::SourceFile;
use lagar_kernels::Cpu;
use serde::{Deserialize, Serialize};

pub(crate) use self::allocate::{DEPTHS, DISTORTION};
use self::allocate::{Group, allocate};
pub use self::bounds::Bounds;
pub(crate) use self::bounds::{bounds, least, most};
use self::costs::{Costs, GroupCost, LinearCosts};
use self::fisher::Fisher;
pub(crate) use self::learn::Learning;
use self::learn::Shares;
pub use self::sensitivity::Sensitivity;
pub(crate) use self::size::{Shape, tier_ends};
use crate::evaluate::{Example, Windows};
use crate::partial::{Key, Partial};
use crate::recipe::{Pass, Recipe, TERNARY_OUTLIERS};
use crate::refine::{Window, window_of};
use crate::{PressError, PressOptions, Progress, STAGE_TIERS, StageBits};

/// Tokens that sensitivities are measured on, at most.
pub(crate) const TOKENS: usize = 16_384;
/// Positions of a window of these tokens, at most: a backward pass holds one.
const CONTEXT: usize = 1024;
/// The record of a budget in the work in progress.
const RECORD: &str = "budget";
/// Bits of each parameter between which the size for a divergence is looked for.
const LEAST_BITS: f64 = 1.0;
const MOST_BITS: f64 = 8.5;
/// How much larger divergences are than predicted, about (`bench/record/budgets.md`).
const UNDERRATED: f64 = 1.7;
/// Times that a budget is corrected by what the file's other bytes turn out to be.
const CORRECTIONS: usize = 12;

/// For each stage, the depth of each column group of each linear.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Depths {
    /// Of linears that are not in `linears`.
    others: Vec<u8>,
    /// Stage by stage.
    linears: BTreeMap<String, Vec<Vec<u8>>>,
    /// Share of the weights that a sparse stage holds, where the recipe has one, of linears that are not in `outliers`.
    outliers_of_others: f64,
    outliers: BTreeMap<String, f64>,
    /// Ranks of low-rank stages that the budget counts on; others are chosen as they are made.
    pub(crate) ranks: BTreeMap<String, usize>,
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
            outliers_of_others: TERNARY_OUTLIERS,
            outliers: BTreeMap::new(),
            ranks: BTreeMap::new(),
            sensitivities: BTreeMap::new(),
        }
    }

    /// The same with this share of the weights of each linear in its sparse stage.
    fn with_outliers(self, share: f64) -> Self {
        Self {
            outliers_of_others: share,
            ..self
        }
    }

    /// Share of a linear's weights that its sparse stage holds, where the recipe has one.
    pub(crate) fn outliers(&self, weight: &str) -> f64 {
        let known = self.outliers.get(weight);
        known.copied().unwrap_or(self.outliers_of_others)
    }

    /// What was measured of a linear.
    pub(crate) fn sensitivity(&self, weight: &str) -> Option<&Sensitivity> {
        self.sensitivities.get(weight)
    }

    /// The number of tiers of a linear.
    fn tiers(&self, weight: &str) -> usize {
        self.linears.get(weight).map_or(self.others.len(), Vec::len)
    }

    /// The depths of each pass over a linear: a tier of several passes gives each what the ones before leave.
    pub(crate) fn of_passes(&self, weight: &str, groups: usize, passes: &[Pass]) -> Vec<Vec<u8>> {
        let mut left = self.of(weight, groups);
        let depths = passes.iter().map(|pass| {
            let left = left[pass.tier].iter_mut();
            let take = |left: &mut u8| {
                let taken = pass.most.min(*left);
                *left -= taken;
                taken
            };
            left.map(take).collect()
        });
        depths.collect()
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
    /// What the model shall predict well, if that is not all text.
    pub(crate) examples: Option<&'a [Example]>,
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

/// The depths of a press, and what they were chosen by.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Budget {
    pub(crate) depths: Depths,
    /// Bits of each parameter in the file up to the tier that shall have some divergence.
    pub(crate) bits: Option<f64>,
    /// Nothing where every stage has one depth.
    linears: Vec<LinearCosts>,
}

impl Budget {
    /// Chooses all depths from sensitivities, or takes them over from an earlier press.
    pub(crate) fn new(request: &Request<'_>) -> Result<Self, PressError> {
        let fixed = |bits: &StageBits| match bits {
            StageBits::Depth(depth) => Some(*depth),
            _ => None,
        };
        let tiers = &request.options.tiers;
        if let Some(others) = tiers.iter().map(fixed).collect() {
            return Ok(Self {
                depths: Depths::everywhere(others),
                bits: None,
                linears: Vec::new(),
            });
        }
        if let Some(known) = request.partial.read(RECORD)? {
            return Ok(known);
        }
        let budget = match (request.options.recipe, request.options.divergence()) {
            (Recipe::Ternary, _) => Self {
                depths: outliers::to_size(request, &sensitivities(request)?)?,
                bits: None,
                linears: Vec::new(),
            },
            (_, None) => Self::of(request, sensitivities(request)?, None)?,
            (_, Some((stage, nats))) => Self::guess(request, sensitivities(request)?, stage, nats)?,
        };
        budget.keep(request.partial)?;
        Ok(budget)
    }

    /// The budget that was chosen in a round of an earlier press.
    pub(crate) fn known(partial: &Partial) -> Result<Option<Self>, PressError> {
        partial.read(RECORD)
    }

    /// Keeps the budget for a press that is resumed.
    pub(crate) fn keep(&self, partial: &Partial) -> Result<(), PressError> {
        partial.write(RECORD, self)
    }

    fn of(
        request: &Request<'_>,
        linears: Vec<LinearCosts>,
        bits: Option<f64>,
    ) -> Result<Self, PressError> {
        let resolved = |stage: &StageBits| match (stage, bits) {
            (StageBits::Divergence(_), Some(bits)) => StageBits::FileBits(bits),
            _ => *stage,
        };
        let division = Division {
            request,
            linears: &linears,
            tiers: request.options.tiers.iter().map(resolved).collect(),
        };
        Ok(Self {
            depths: division.depths()?,
            bits,
            linears,
        })
    }

    /// The budget whose predicted divergence is what is wanted, after some experience with predictions.
    fn guess(
        request: &Request<'_>,
        linears: Vec<LinearCosts>,
        stage: usize,
        nats: f64,
    ) -> Result<Self, PressError> {
        let (mut low, mut high) = (LEAST_BITS, MOST_BITS);
        let mut best = None;
        while high - low > 0.05 {
            let bits = 0.5 * (low + high);
            match Self::of(request, linears.clone(), Some(bits)) {
                Ok(budget) if UNDERRATED * budget.predicted(stage) > nats => low = bits,
                Ok(budget) => (high, best) = (bits, Some(budget)),
                Err(PressError::BelowFloor { .. }) => low = bits,
                Err(error) => return Err(error),
            }
        }
        match best {
            Some(budget) => Ok(budget),
            None => Self::of(request, linears, Some(MOST_BITS)),
        }
    }

    /// Whether there is nothing to choose.
    pub(crate) fn is_fixed(&self) -> bool {
        self.linears.is_empty()
    }

    /// Chooses anew for another number of bits.
    pub(crate) fn with_bits(&self, request: &Request<'_>, bits: f64) -> Result<Self, PressError> {
        Self::of(request, self.linears.clone(), Some(bits))
    }

    /// Chooses anew, given what was measured of a model of these depths.
    pub(crate) fn learned(
        &self,
        request: &Request<'_>,
        shares: &Shares,
    ) -> Result<Self, PressError> {
        let mut linears = self.linears.clone();
        for linear in &mut linears {
            let predicted = self.left(linear, request.options.primary());
            let ratios = shares.ratios(&linear.weight, &predicted);
            for (costs, ratio) in linear.groups.iter_mut().zip(ratios) {
                *costs = costs.map(|cost| cost * ratio);
            }
        }
        Self::of(request, linears, self.bits)
    }

    /// What is predicted to be lost of each group of a linear in the tier of a stage, nats.
    fn left(&self, linear: &LinearCosts, stage: usize) -> Vec<f64> {
        let stages = self.depths.of(&linear.weight, linear.groups.len());
        let (first, later) = stages[..=stage].split_first().expect("a stage");
        let groups = linear.groups.iter().zip(first).enumerate();
        let left = groups.map(|(g, (costs, &depth))| {
            let later = later
                .iter()
                .map(|depths| DISTORTION[usize::from(depths[g])]);
            costs[usize::from(depth)] * later.product::<f64>()
        });
        left.collect()
    }

    /// What is predicted to be lost of the whole model, nats.
    fn predicted(&self, stage: usize) -> f64 {
        let linears = self.linears.iter();
        linears.flat_map(|linear| self.left(linear, stage)).sum()
    }
}

/// The length that a stage's tier shall end at.
pub(crate) fn target_bytes(bits: &StageBits, parameters: u64) -> Option<u64> {
    match bits {
        StageBits::FileBytes(bytes) => Some(*bytes),
        StageBits::FileBits(bits) => Some((bits * parameters as f64 / 8.0) as u64),
        StageBits::Depth(_) | StageBits::Average(_) | StageBits::Divergence(_) => None,
    }
}

/// Bits for each weight that a low-rank stage may take beside the first stage: what a target leaves beyond one bit for
/// the codes and, of a whole file, one for all else.
fn product_room(first: Option<&StageBits>, parameters: u64) -> f64 {
    let Some(first) = first else { return 0.0 };
    match (first, target_bytes(first, parameters)) {
        (_, Some(bytes)) => (8.0 * bytes as f64 / parameters as f64 - 2.0).max(0.0),
        (StageBits::Average(bits), _) => (bits - 1.0).max(0.0),
        _ => f64::INFINITY,
    }
}

/// What each group of each linear costs at each depth.
fn sensitivities(request: &Request<'_>) -> Result<Vec<LinearCosts>, PressError> {
    let Request {
        cpu,
        model,
        progress,
        ..
    } = *request;
    let pieces: Vec<Window> = match request.examples {
        None => {
            let pieces = request.windows.recut(CONTEXT);
            let whole = |tokens: Vec<u32>| Window {
                scored: 0..tokens.len(),
                tokens,
            };
            pieces.iter().map(whole).collect()
        }
        Some(examples) => {
            let context = CONTEXT.min(model.spec().context);
            let windows = examples.iter().map(|e| window_of(e, context));
            windows.collect()
        }
    };
    let mut tokens = 0;
    let read = pieces.into_iter().take_while(|piece| {
        let first = tokens == 0;
        tokens += piece.tokens.len();
        first || tokens <= TOKENS
    });
    let windows: Vec<Window> = read.collect();
    let tokens: usize = windows.iter().map(|window| window.tokens.len()).sum();
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
    let windows: Vec<Vec<u32>> = windows.into_iter().map(|window| window.tokens).collect();
    costs.all(&windows)
}

/// Divides the bytes of stage after stage.
struct Division<'a> {
    request: &'a Request<'a>,
    linears: &'a [LinearCosts],
    /// Bits of each stage.
    tiers: Vec<StageBits>,
}

impl Division<'_> {
    fn depths(&self) -> Result<Depths, PressError> {
        let tiers = &self.tiers;
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
                StageBits::FileBytes(_) | StageBits::FileBits(_) | StageBits::Divergence(_) => {
                    self.to_size(stage, &costs, &mut chosen)?
                }
            };
            for (costs, &depth) in costs.iter_mut().zip(&chosen[stage]) {
                // Of what is left, a later stage can code nothing or as much as of anything else.
                let left = costs[usize::from(depth)];
                let recipe = self.request.options.recipe;
                *costs = recipe.distortion(stage + 1).map(|d| left * d);
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
            ranks: self
                .linears
                .iter()
                .map(|linear| (linear.weight.clone(), linear.rank))
                .collect(),
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
        let model = self.request.model;
        let parameters = model.parameters();
        let target = target_bytes(&self.tiers[stage], parameters).expect("a stage with a size");
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
                without: "any bits for its weights",
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
        } else if (target - best.0) * 200 > target {
            self.request.progress.note(&format!(
                "depths are those of whole groups of columns: the file comes out more than half a percent below the {target} bytes that were asked for"
            ));
        }
        Ok(best.1)
    }
}
