//! Putting finished units together into a `.lagar` file.

use std::collections::{BTreeMap, HashMap};

use lagar_codec::Table;
use lagar_engine::checkpoint::CARRIED_FILES;
use lagar_engine::{Checkpoint, ModelSpec, Role};
use lagar_format::{
    Body, Index, Levels, PartSource, SourceFile, Stage, TableRecord, TensorRecord, TransformRecord,
    WindowStage, Writer,
};

use crate::encode::{Span, StoredLinear, StoredStage, Unit, trellis_table};
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
                    stages: window_stages(&mut writer, 0, unit, &linear.stages[0]),
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
            let more = window_stages(&mut writer, tier, unit, &linear.stages[tier]);
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

/// Adds the parts of a stage to the tier begun last: a window stage for each depth.
fn window_stages(writer: &mut Writer, tier: usize, unit: &Unit, stage: &StoredStage) -> Vec<Stage> {
    let row_scales = writer.part(unit_part(unit, stage.row_scales));
    let windows = stage.windows.iter().map(|windows| {
        // Without any, the table is not read.
        let depth = windows.depths.iter().copied().fold(0, u8::max).max(1);
        Stage::Window(WindowStage {
            tier,
            table: writer.table(table_record(trellis_table(depth))),
            depths: windows.depths.clone(),
            codes: writer.part(unit_part(unit, windows.codes)),
            scales: writer.part(unit_part(unit, windows.scales)),
            row_scales: vec![row_scales],
        })
    });
    windows.collect()
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
        ("recipe", "xbit".to_owned()),
        ("tiers", options.recipe()),
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

fn table_record(table: &Table) -> TableRecord {
    let levels = match table.split() {
        Some(split) => Levels::Split {
            a: split.a,
            b: split.b,
            a_sign_bit: split.a_sign_bit,
            b_sign_bit: split.b_sign_bit,
        },
        None => Levels::Free(table.levels().to_vec()),
    };
    TableRecord {
        depth: table.depth(),
        window: table.window(),
        levels,
    }
}
