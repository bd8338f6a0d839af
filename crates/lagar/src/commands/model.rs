//! Opening models as the options ask.

use crate::args::{ActivationKind, KvKind};
use crate::context::Context;
use crate::terminal::bytes;
use lagar_engine::{Activations, KvFormat, Model, ModelOptions};
use std::path::Path;

/// Opens a `.lagar` file or a checkpoint folder.
pub(super) fn open(
    context: &Context,
    path: &Path,
    tier: Option<&str>,
    kv: Option<KvKind>,
) -> anyhow::Result<Model> {
    let mut options = ModelOptions::default().with_activations(match context.activations {
        ActivationKind::Int8 => Activations::Int8,
        ActivationKind::F32 => Activations::F32,
    });
    if let Some(kv) = kv {
        options = options.with_kv(match kv {
            KvKind::F16 => KvFormat::F16,
            KvKind::F32 => KvFormat::F32,
        });
    }
    let model = Model::open(path, tier, &options)?;
    let size = bytes(model.file_bytes());
    context.messages.detail(&format!(
        "opened {}: {}, {size}",
        path.display(),
        model.spec().architecture
    ));
    Ok(model)
}
