//! Putting finished units together into a `.lagar` file.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use lagar_codec::Table;
use lagar_engine::checkpoint::CARRIED_FILES;
use lagar_engine::{Checkpoint, ModelSpec, Role};
use lagar_format::{
    Body, Index, Levels, PartSource, SourceFile, Stage, TableRecord, TensorRecord, TransformRecord,
    WindowStage, Writer,
};

use crate::encode::{Span, StoredLinear, Unit};
use crate::partial::Key;
use crate::{PressError, PressOptions};

/// Writes `path` from the checkpoint's small tensors and the units' files.
pub(crate) fn assemble(
    checkpoint: &Checkpoint,
    spec: &ModelSpec,
    options: &PressOptions,
    key: &Key,
    source: Vec<SourceFile>,
    units: &[Unit],
    path: &Path,
) -> Result<(), PressError> {
    let mut writer = Writer::new(Index {
        id: identity(key),
        producer: format!("lagar {}", env!("CARGO_PKG_VERSION")),
        architecture: spec.architecture.clone(),
        parameters: spec.parameters(),
        settings: settings(options, key),
        source,
        ..Index::default()
    });
    let tier = writer.begin_tier("R");
    for name in CARRIED_FILES {
        if let Some(bytes) = checkpoint.file(name) {
            writer.file(name, bytes);
        }
    }
    let table = writer.table(table_record(Table::trained(
        options.bits,
        super::press::TRELLIS_WINDOW,
    )));

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
    for tensor in spec.tensors() {
        let original = checkpoint.tensor(&tensor.name)?;
        let dtype = original.dtype();
        let body = match (tensor.role, pressed.get(tensor.name.as_str())) {
            (_, Some(&(transform, unit, linear))) => Body::Linear {
                transform,
                stages: vec![Stage::Window(WindowStage {
                    tier,
                    table,
                    depths: linear.depths.clone(),
                    codes: writer.part(unit_part(unit, linear.codes)),
                    scales: writer.part(unit_part(unit, linear.scales)),
                    row_scales: vec![writer.part(unit_part(unit, linear.row_scales))],
                })],
            },
            (Role::Embedding | Role::Linear, None) => {
                unreachable!("a unit holds every linear; {} is in none", tensor.name)
            }
            (_, None) => Body::Raw {
                dtype,
                parts: vec![writer.part(original.region().to_vec())],
            },
        };
        writer.tensor(TensorRecord {
            name: tensor.name,
            shape: tensor.shape.iter().map(|&d| d as u64).collect(),
            dtype,
            body,
        });
    }
    writer.write(path)?;
    Ok(())
}

fn unit_part(unit: &Unit, span: Span) -> PartSource {
    PartSource::File {
        path: unit.path.clone(),
        offset: span.offset,
        bytes: span.bytes,
    }
}

/// The same input, settings and version have the same identity.
fn identity(key: &Key) -> String {
    let key = serde_json::to_vec(key).expect("plain data serialises");
    blake3::hash(&key).to_hex()[..32].to_owned()
}

fn settings(options: &PressOptions, key: &Key) -> BTreeMap<String, String> {
    [
        ("recipe", "xbit".to_owned()),
        ("bits", options.bits.to_string()),
        ("calibration_tokens", options.tokens.to_string()),
        ("calibration_context", options.context.to_string()),
        ("calibration_text", key.text.clone()),
        ("seed", options.seed.to_string()),
        ("damping", options.damping.to_string()),
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
