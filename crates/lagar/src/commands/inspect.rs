//! `lagar inspect`: what an index or a checkpoint says, without reading any weights.

use crate::args::InspectArgs;
use crate::context::Context;
use crate::exit::{Blame, Fault};
use crate::terminal::{self, Align, Table, bytes, count, escape};
use lagar_engine::Checkpoint;
use lagar_format::{Body, Container, Index, Limits, LowRankStage, PartId, Stage, TensorRecord};
use lagar_press::Measurement;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The object of `inspect --json`.
#[derive(Debug, Serialize)]
pub(crate) struct Inspection {
    /// Version of the `.lagar` format; null for a checkpoint.
    pub(super) format_version: Option<u32>,
    pub(super) architecture: String,
    pub(super) parameters: u64,
    file_bytes: u64,
    bits_per_parameter: f64,
    /// None in a checkpoint.
    pub(super) tiers: Vec<TierLine>,
    /// How the file was pressed; none in a checkpoint.
    pub(super) settings: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tensors: Option<Vec<TensorLine>>,
}

#[derive(Debug, Serialize)]
pub(super) struct TierLine {
    pub(super) name: String,
    /// Length of the prefix that ends with this tier.
    pub(super) bytes: u64,
    pub(super) bits_per_parameter: f64,
    complete: bool,
    /// Mean divergence from the original, where a press has just measured it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kl_mean: Option<f64>,
    /// On the same text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) perplexity: Option<f64>,
}

#[derive(Debug, Serialize)]
struct TensorLine {
    name: String,
    shape: Vec<u64>,
    stages: Vec<StageLine>,
    /// Codes and scales of this tensor alone; what tensors share is not counted.
    bits_per_weight: f64,
}

#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum StageLine {
    /// Stored as it is.
    Raw { dtype: String },
    /// A window code; `bits` is its depth, averaged over the columns.
    Window { tier: String, bits: f64 },
    /// Single weights; `entries` of them, and the share of the matrix that they are.
    Sparse {
        tier: String,
        entries: u64,
        share: f64,
    },
    /// A product of two window codes; `bits` is the mean depth of both factors.
    LowRank { tier: String, rank: u64, bits: f64 },
}

/// 8 × bytes over parameters; 0 for a model without any.
fn bits_per(bytes: u64, parameters: u64) -> f64 {
    if parameters == 0 {
        0.0
    } else {
        8.0 * bytes as f64 / parameters as f64
    }
}

impl Inspection {
    /// Looks at a file or a checkpoint folder.
    pub(crate) fn of(path: &Path, tensors: bool) -> anyhow::Result<Self> {
        if path.is_dir() {
            Self::of_checkpoint(&Checkpoint::open(path).blame(Fault::Input)?, tensors)
        } else {
            Ok(Self::of_container(
                &Container::open(path, &Limits::default()).blame(Fault::Input)?,
                tensors,
            ))
        }
    }

    fn of_container(container: &Container, tensors: bool) -> Self {
        let index = container.index();
        let tiers: Vec<_> = (0..index.tiers.len())
            .map(|tier| {
                let bytes = container
                    .tier_bytes(tier)
                    .expect("the index lists this tier");
                TierLine {
                    name: index.tiers[tier].name.clone(),
                    bytes,
                    bits_per_parameter: bits_per(bytes, index.parameters),
                    complete: tier < container.tiers_complete(),
                    kl_mean: None,
                    perplexity: None,
                }
            })
            .collect();
        let whole = tiers[container.tiers_complete() - 1].bytes;
        let file_bytes = whole + container.partial_bytes();
        Self {
            format_version: Some(container.version()),
            architecture: index.architecture.clone(),
            parameters: index.parameters,
            file_bytes,
            bits_per_parameter: bits_per(file_bytes, index.parameters),
            tiers,
            settings: index.settings.clone(),
            tensors: tensors.then(|| {
                index
                    .tensors
                    .iter()
                    .map(|t| tensor_line(index, t))
                    .collect()
            }),
        }
    }

    fn of_checkpoint(checkpoint: &Checkpoint, tensors: bool) -> anyhow::Result<Self> {
        let file_bytes = checkpoint
            .files()
            .iter()
            .map(|(_, bytes)| bytes.len() as u64)
            .sum();
        let spec = checkpoint.spec();
        let tensors = if tensors {
            let line = |name| {
                let view = checkpoint.tensor(name).blame(Fault::Input)?;
                Ok(TensorLine {
                    name: name.to_owned(),
                    shape: view.shape().iter().map(|&n| n as u64).collect(),
                    stages: vec![StageLine::Raw {
                        dtype: view.dtype().name().to_owned(),
                    }],
                    bits_per_weight: 8.0 * view.dtype().bytes() as f64,
                })
            };
            Some(
                checkpoint
                    .names()
                    .map(line)
                    .collect::<anyhow::Result<_>>()?,
            )
        } else {
            None
        };
        Ok(Self {
            format_version: None,
            architecture: spec.architecture.clone(),
            parameters: spec.parameters(),
            file_bytes,
            bits_per_parameter: bits_per(file_bytes, spec.parameters()),
            tiers: Vec::new(),
            settings: BTreeMap::new(),
            tensors,
        })
    }

    /// Adds what a press measured of its tiers.
    pub(super) fn set_measured(&mut self, measurement: &Measurement) {
        let of = |values: &[(String, f64)], name: &str| {
            let mut found = values.iter().filter(|(tier, _)| tier == name);
            found.next().map(|(_, value)| *value)
        };
        for tier in &mut self.tiers {
            tier.kl_mean = of(&measurement.kl_mean, &tier.name);
            tier.perplexity = of(&measurement.perplexity, &tier.name);
        }
    }

    /// For people.
    pub(crate) fn render(&self) -> String {
        let mut out = format!(
            "{}  {} parameters, {}, {:.2} bits per parameter\n",
            terminal::heading(&escape(&self.architecture)),
            count(self.parameters),
            bytes(self.file_bytes),
            self.bits_per_parameter
        );
        match self.format_version {
            Some(version) => out.push_str(&format!(".lagar file, format version {version}\n")),
            None => out.push_str("checkpoint folder\n"),
        }
        if !self.tiers.is_empty() {
            let measured = self.tiers.iter().any(|tier| tier.kl_mean.is_some());
            let mut table = Table::new(&[
                ("tier", Align::Left),
                ("bytes", Align::Right),
                ("bits/parameter", Align::Right),
                (if measured { "KL" } else { "" }, Align::Right),
                (if measured { "perplexity" } else { "" }, Align::Right),
                ("", Align::Left),
            ]);
            for tier in &self.tiers {
                table.row([
                    escape(&tier.name),
                    tier.bytes.to_string(),
                    format!("{:.3}", tier.bits_per_parameter),
                    tier.kl_mean.map_or(String::new(), |kl| format!("{kl:.4}")),
                    tier.perplexity.map_or(String::new(), |p| format!("{p:.3}")),
                    if tier.complete {
                        String::new()
                    } else {
                        "cut off".to_owned()
                    },
                ]);
            }
            out.push('\n');
            out.push_str(&table.render());
        }
        if !self.settings.is_empty() {
            let mut table = Table::new(&[("pressed with", Align::Left), ("", Align::Left)]);
            for (name, value) in &self.settings {
                table.row([escape(name), escape(value)]);
            }
            out.push('\n');
            out.push_str(&table.render());
        }
        if let Some(tensors) = &self.tensors {
            let mut table = Table::new(&[
                ("tensor", Align::Left),
                ("shape", Align::Right),
                ("stored as", Align::Left),
                ("bits/weight", Align::Right),
            ]);
            for tensor in tensors {
                let shape: Vec<String> = tensor.shape.iter().map(u64::to_string).collect();
                let stages: Vec<String> = tensor.stages.iter().map(StageLine::render).collect();
                table.row([
                    escape(&tensor.name),
                    shape.join(" × "),
                    stages.join(" + "),
                    format!("{:.3}", tensor.bits_per_weight),
                ]);
            }
            out.push('\n');
            out.push_str(&table.render());
        }
        out
    }
}

impl StageLine {
    fn render(&self) -> String {
        match self {
            Self::Raw { dtype } => dtype.to_lowercase(),
            Self::Window { tier, bits } => format!("{bits} bits ({})", escape(tier)),
            Self::Sparse { tier, share, .. } => {
                format!("{:.2} % sparse ({})", 100.0 * share, escape(tier))
            }
            Self::LowRank { tier, rank, bits } => {
                format!("rank {rank} at {bits} bits ({})", escape(tier))
            }
        }
    }
}

fn tensor_line(index: &Index, tensor: &TensorRecord) -> TensorLine {
    let elements: u64 = tensor.shape.iter().product();
    let part_bytes = |id: &PartId| index.parts[*id].bytes;
    let (stages, stored) = match &tensor.body {
        Body::Raw { dtype, parts } => (
            vec![StageLine::Raw {
                dtype: dtype.name().to_owned(),
            }],
            parts.iter().map(part_bytes).sum(),
        ),
        Body::Linear { stages, .. } => {
            let mut lines = Vec::new();
            // Stages may share parts.
            let mut parts = BTreeSet::new();
            for stage in stages {
                parts.extend(stage.parts());
                lines.extend(stage_line(index, tensor, stage));
            }
            (lines, parts.iter().map(part_bytes).sum())
        }
        Body::Exact => (Vec::new(), 0),
    };
    TensorLine {
        name: tensor.name.clone(),
        shape: tensor.shape.clone(),
        stages,
        bits_per_weight: bits_per(stored, elements),
    }
}

/// A stage; nothing of a kind that this program does not know.
fn stage_line(index: &Index, tensor: &TensorRecord, stage: &Stage) -> Option<StageLine> {
    let columns = tensor.shape.last().copied().unwrap_or(0);
    let elements = tensor.elements();
    let tier = index.tiers[stage.tier()].name.clone();
    Some(match stage {
        Stage::Window(window) => StageLine::Window {
            tier,
            bits: mean_depth(&window.depths, columns),
        },
        Stage::Sparse(sparse) => {
            let entries = index.parts[sparse.values].bytes / 2;
            StageLine::Sparse {
                tier,
                entries,
                share: entries as f64 / elements as f64,
            }
        }
        Stage::LowRank(LowRankStage { rank, v, u }) => {
            let weights = [rank * columns, elements / columns.max(1) * rank].map(|n| n as f64);
            let bits = weights[0] * mean_depth(&v.depths, columns)
                + weights[1] * mean_depth(&u.depths, *rank);
            StageLine::LowRank {
                tier,
                rank: *rank,
                bits: bits / (weights[0] + weights[1]),
            }
        }
        _ => return None,
    })
}

/// Mean depth over `columns`, in groups of 128 of which the last may be shorter.
fn mean_depth(depths: &[u8], columns: u64) -> f64 {
    let mut left = columns;
    let mut bits = 0;
    for &depth in depths {
        let group = left.min(128);
        bits += u64::from(depth) * group;
        left -= group;
    }
    if columns == 0 {
        0.0
    } else {
        bits as f64 / columns as f64
    }
}

pub(crate) fn inspect(context: &Context, args: &InspectArgs) -> anyhow::Result<()> {
    let inspection = Inspection::of(&args.model, args.tensors)?;
    if context.json {
        terminal::print_json(&inspection)
    } else {
        terminal::print_styled(&inspection.render())
    }
}
