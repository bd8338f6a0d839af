//! Reads configurations and safetensors files of any bytes, each by itself and, where both are
//! well-formed, as a checkpoint folder.
//!
//! Input: `CONFIG \0 SAFETENSORS`.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use lagar_engine::checkpoint::parse;
use lagar_engine::{Checkpoint, ModelSpec};
use libfuzzer_sys::fuzz_target;

/// A folder of this process.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("lagar-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
});

fuzz_target!(|input: &[u8]| {
    let end = input
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(input.len());
    let (config, weights) = (&input[..end], input.get(end + 1..).unwrap_or_default());
    let spec = ModelSpec::from_config("config.json", config);
    let entries = parse("model.safetensors", weights);
    if let Ok(entries) = &entries {
        for entry in entries.values() {
            let elements: usize = entry.shape.iter().product();
            assert_eq!(
                weights[entry.range.clone()].len() as u64,
                elements as u64 * entry.dtype.bytes()
            );
        }
    }
    if let Ok(spec) = &spec {
        assert!(!spec.sites().is_empty());
        assert!(!spec.tensors().is_empty());
        assert!(spec.parameters() > 0);
    }
    if spec.is_err() || entries.is_err() {
        return;
    }
    std::fs::write(FOLDER.join("config.json"), config).unwrap();
    std::fs::write(FOLDER.join("model.safetensors"), weights).unwrap();
    if let Ok(checkpoint) = Checkpoint::open(&*FOLDER) {
        for spec in checkpoint.spec().tensors() {
            let tensor = checkpoint.tensor(&spec.name).unwrap();
            assert_eq!(tensor.to_f32().len(), spec.shape.iter().product::<usize>());
        }
    }
});
