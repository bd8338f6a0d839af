//! What is compiled into the program: a small model and two texts. `assets/README.md` says where they come from.

use anyhow::Context;
use std::path::Path;

/// The files of the checkpoint folder.
const CHECKPOINT: [(&str, &[u8]); 5] = [
    (
        "config.json",
        include_bytes!("../../../../../assets/novels4m/config.json"),
    ),
    (
        "generation_config.json",
        include_bytes!("../../../../../assets/novels4m/generation_config.json"),
    ),
    (
        "model.safetensors",
        include_bytes!("../../../../../assets/novels4m/model.safetensors"),
    ),
    (
        "tokenizer.json",
        include_bytes!("../../../../../assets/novels4m/tokenizer.json"),
    ),
    (
        "tokenizer_config.json",
        include_bytes!("../../../../../assets/novels4m/tokenizer_config.json"),
    ),
];

/// Excerpts of 40 novels that the model was trained on: calibration text wherever none is given.
pub(crate) const CALIBRATION: &str = include_str!("../../../../../assets/text/calibration.txt");

/// Chapters of a novel that the model has not seen.
pub(crate) const EVALUATION: &str = include_str!("../../../../../assets/text/evaluation.txt");

/// Writes the checkpoint into `folder`, which exists.
pub(super) fn unpack(folder: &Path) -> anyhow::Result<()> {
    for (name, bytes) in CHECKPOINT {
        let path = folder.join(name);
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
