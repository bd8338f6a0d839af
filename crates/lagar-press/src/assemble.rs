//! Putting finished units together into a `.lagar` file.

use std::collections::{BTreeMap, HashMap};

use lagar_engine::checkpoint::CARRIED_FILES;
use lagar_engine::{Checkpoint, ModelSpec, Role};
use lagar_format::{
    Body, Index, LowRankStage, PartSource, SourceFile, SparseStage, Stage, TensorRecord,
    TransformRecord, WindowStage, Writer,
};

use crate::encode::{Span, StoredLinear, StoredTerm, StoredWindow, Unit};
use crate::partial::Key;
use crate::{PressError, PressOptions};

/// The tiers below `full`, from the checkpoint's small tensors and the units' files.
pub(crate) fn base(
    checkpoint: &Checkpoint,
    spec: &ModelSpec,
    options: &PressOptions,
    key: &Key,
    source: Vec<SourceFile>,
    units: &[Unit],
) -> Result<Writer, PressError> {
    let mut writer = Writer::new(Index {
        id: identity(key),
        producer: format!("lagar {}", env!("CARGO_PKG_VERSION")),
        architecture: spec.architecture.clone(),
        parameters: spec.parameters(),
        settings: settings(options, key),
        source,
        ..Index::default()
    });
    let mut tiers = options.stage_tiers().iter();
    writer.begin_tier(*tiers.next().expect("a base has at least one stage"));
    for name in CARRIED_FILES {
        if let Some(bytes) = checkpoint.file(name) {
            writer.file(name, bytes);
        }
    }
    let mut pressed: HashMap<&str, (usize, &Unit, &StoredLinear)> = HashMap::new();
    for unit in units {
        for site in &unit.sites {
            let permutation = writer.part(unit_part(unit, site.permutation));
            let signs = writer.part(unit_part(unit, site.signs));
            let width = site.width as u64;
            let transform = writer.transform(TransformRecord {
                width,
                permutation,
                signs,
            });
            for linear in &site.linears {
                pressed.insert(&linear.name, (transform, unit, linear));
            }
        }
    }
    let mut tensors = Vec::new();
    // Tensors with stages of later tiers, by their position.
    let mut linears = Vec::new();
    for tensor in spec.tensors() {
        let original = checkpoint.tensor(&tensor.name)?;
        let dtype = original.dtype();
        let body = match (tensor.role, pressed.get(tensor.name.as_str())) {
            (_, Some(&(transform, unit, linear))) => {
                linears.push((tensors.len(), unit, linear));
                Body::Linear {
                    transform,
                    stages: stages_of(&mut writer, 0, unit, &linear.tiers[0]),
                }
            }
            (Role::Embedding | Role::Linear, None) => {
                unreachable!("a unit holds every linear; {} is in none", tensor.name)
            }
            (_, None) => Body::Raw {
                dtype,
                parts: vec![writer.part(original.region().to_vec())],
            },
        };
        tensors.push(TensorRecord {
            name: tensor.name,
            shape: tensor.shape.iter().map(|&d| d as u64).collect(),
            dtype,
            body,
            exact: None,
        });
    }
    for &name in tiers {
        let tier = writer.begin_tier(name);
        for &(at, unit, linear) in &linears {
            let more = stages_of(&mut writer, tier, unit, &linear.tiers[tier]);
            if let Body::Linear { stages, .. } = &mut tensors[at].body {
                stages.extend(more);
            }
        }
    }
    for tensor in tensors {
        writer.tensor(tensor);
    }
    Ok(writer)
}

/// Adds the parts of what a tier, begun last, adds to a linear.
fn stages_of(writer: &mut Writer, tier: usize, unit: &Unit, terms: &[StoredTerm]) -> Vec<Stage> {
    let mut stages = Vec::new();
    for term in terms {
        match term {
            StoredTerm::Window(stage) => {
                stages.extend(windows(writer, tier, unit, stage).map(Stage::Window));
            }
            StoredTerm::Sparse {
                gap_bytes,
                counts,
                gaps,
                values,
            } => stages.push(Stage::Sparse(SparseStage {
                tier,
                gap_bytes: *gap_bytes,
                counts: writer.part(unit_part(unit, *counts)),
                gaps: writer.part(unit_part(unit, *gaps)),
                values: writer.part(unit_part(unit, *values)),
            })),
            StoredTerm::LowRank { rank, v, u } => {
                let mut factor = |stage| {
                    let first = windows(writer, tier, unit, stage).next();
                    first.expect("a factor has one depth")
                };
                stages.push(Stage::LowRank(LowRankStage {
                    rank: *rank as u64,
                    v: factor(v),
                    u: factor(u),
                }));
            }
        }
    }
    stages
}

/// Adds the parts of a window stage for each depth.
fn windows<'a>(
    writer: &'a mut Writer,
    tier: usize,
    unit: &'a Unit,
    stage: &'a StoredWindow,
) -> impl Iterator<Item = WindowStage> + 'a {
    let row_scales = writer.part(unit_part(unit, stage.row_scales));
    stage.windows.iter().map(move |windows| WindowStage {
        tier,
        table: writer.table(windows.table.clone()),
        depths: windows.depths.clone(),
        codes: writer.part(unit_part(unit, windows.codes)),
        scales: writer.part(unit_part(unit, windows.scales)),
        row_scales: vec![row_scales],
    })
}

fn unit_part(unit: &Unit, span: Span) -> PartSource {
    PartSource::File {
        path: unit.path.clone(),
        offset: span.offset,
        bytes: span.bytes,
    }
}

/// The same input, settings and version have the same identity.
pub(crate) fn identity(key: &Key) -> String {
    let key = serde_json::to_vec(key).expect("plain data serialises");
    blake3::hash(&key).to_hex()[..32].to_owned()
}

fn settings(options: &PressOptions, key: &Key) -> BTreeMap<String, String> {
    let cost = match key.cost.is_empty() {
        true => "kl",
        false => &key.cost,
    };
    [
        ("cost", cost.to_owned()),
        ("recipe", options.recipe.to_string()),
        ("tiers", options.stages()),
        ("primary", options.primary_tier().to_owned()),
        ("calibration_tokens", options.tokens.to_string()),
        ("calibration_context", options.context.to_string()),
        ("calibration_text", key.text.clone()),
        ("seed", options.seed.to_string()),
        ("effort", options.effort.to_string()),
        (
            "damping",
            options
                .dampings(false)
                .iter()
                .map(f32::to_string)
                .collect::<Vec<_>>()
                .join(","),
        ),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}
