//! What became of each tensor, for reports.

use std::collections::HashMap;

use lagar_engine::ModelSpec;

use crate::STAGE_TIERS;
use crate::budget::{Depths, Sensitivity};
use crate::encode::{Loss, StoredLinear, StoredTerm, Unit};

/// A pressed tensor.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PressedTensor {
    /// Its name in the checkpoint.
    pub name: String,
    /// The decoder layer that it belongs to.
    pub layer: Option<usize>,
    /// Outputs and inputs.
    pub shape: Vec<usize>,
    /// One for each tier below `full`.
    pub stages: Vec<PressedStage>,
    /// Where a target size was asked for.
    pub sensitivity: Option<Sensitivity>,
}

/// A stage of a tensor. Losses are those of this stage and all before it, before refinement.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PressedStage {
    /// The tier that begins with this stage.
    pub tier: &'static str,
    /// Bits per weight of each group of 128 columns, in order of importance.
    pub depths: Vec<u8>,
    /// Bytes of codes, scales and single weights.
    pub bytes: u64,
    /// Cosine of the angle between the weights and what is stored of them.
    pub weight_cosine: f64,
    /// `‖(W − Ŵ) H^½‖ / ‖W H^½‖`, where `H` are the second moments of the inputs on calibration text: the error
    /// of the outputs relative to the outputs, from 16 rows of every 256.
    pub relative_error: f64,
}

impl PressedStage {
    /// The relative error in bits of rate, `½ log₂(1 / error²)`.
    pub fn error_bits(&self) -> f64 {
        -self.relative_error.log2()
    }
}

impl PressedTensor {
    /// Codes and scales of all stages, in bits for each weight.
    pub fn bits_per_weight(&self) -> f64 {
        let bytes: u64 = self.stages.iter().map(|stage| stage.bytes).sum();
        8.0 * bytes as f64 / self.shape.iter().product::<usize>().max(1) as f64
    }
}

/// All pressed tensors in the order of the model.
pub(crate) fn pressed(spec: &ModelSpec, units: &[Unit], depths: &Depths) -> Vec<PressedTensor> {
    let sites = units.iter().flat_map(|unit| &unit.sites);
    let linears: HashMap<&str, &StoredLinear> = sites
        .flat_map(|site| &site.linears)
        .map(|linear| (linear.name.as_str(), linear))
        .collect();
    let sites = spec.sites();
    let layer_of = |name: &String| {
        let mut own = sites.iter().filter(|site| site.linears.contains(name));
        own.next().and_then(|site| site.layer)
    };
    let tensors = spec.tensors().into_iter().filter_map(|tensor| {
        let linear = linears.get(tensor.name.as_str())?;
        let stages = linear.tiers.iter().zip(STAGE_TIERS);
        Some(PressedTensor {
            stages: stages.map(|(s, tier)| pressed_stage(s, tier)).collect(),
            sensitivity: depths.sensitivity(&tensor.name).cloned(),
            layer: layer_of(&tensor.name),
            name: tensor.name,
            shape: tensor.shape,
        })
    });
    tensors.collect()
}

fn pressed_stage(terms: &[StoredTerm], tier: &'static str) -> PressedStage {
    let mut depths = Vec::new();
    let mut loss = Loss::default();
    for term in terms {
        let StoredTerm::Window(stage) = term else {
            continue;
        };
        // The last one's is that of them all.
        loss = stage.loss;
        for windows in &stage.windows {
            depths.resize(windows.depths.len(), 0);
            let groups = depths.iter_mut().zip(&windows.depths);
            groups.for_each(|(sum, depth)| *sum += depth);
        }
    }
    PressedStage {
        tier,
        depths,
        bytes: terms.iter().map(StoredTerm::bytes).sum(),
        weight_cosine: loss.weight_cosine(),
        relative_error: loss.relative_error(),
    }
}
