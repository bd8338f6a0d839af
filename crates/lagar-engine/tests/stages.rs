//! Sparse and low-rank stages: what is stored has one meaning, and what contradicts itself is refused.

mod pressed;

use std::path::Path;
use std::sync::Arc;

use lagar_engine::exact::Tensors;
use lagar_engine::{Model, ModelOptions};
use lagar_format::{Body, Container, Limits, Stage, Writer};
use lagar_kernels::{Cpu, Isa, PredictScratch};
use pressed::Recipe;

/// The weights of the golden file of version 3 are the same for ever. The reader in `verify/` is tested
/// against the same number.
#[test]
fn the_golden_file_has_the_weights_that_another_reader_finds() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../lagar-format/tests/golden/version3.lagar"
    );
    let container = Container::open(Path::new(path), &Limits::default()).unwrap();
    let tensors = Tensors::new(Arc::new(container));
    let prediction = tensors.prediction(0, 1).unwrap().unwrap();
    let mut out = vec![0.0; 20 * 300];
    for isa in Isa::available() {
        let cpu = Cpu::new(isa, 1);
        let mut scratch = PredictScratch::default();
        prediction.predict(&cpu, 0..20, &mut scratch, &mut out);
        let bytes: Vec<u8> = out.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(
            format!("{:08x}", crc32c::crc32c(&bytes)),
            "d9de6c85",
            "{isa}"
        );
    }
}

fn fixture() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama2")
}

/// A file in which the bytes of one kind of part of the first sparse stage are others.
fn with_part(
    part: fn(&lagar_format::SparseStage) -> usize,
    change: impl Fn(&mut Vec<u8>),
) -> String {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe {
        with_all_kinds: true,
        ..Recipe::default()
    };
    let path = pressed::write(&fixture(), &recipe, folder.path(), "file");
    let container = Container::open(&path, &Limits::default()).unwrap();
    let index = container.index();
    let sparse = index.tensors.iter().find_map(|tensor| match &tensor.body {
        Body::Linear { stages, .. } => stages.iter().find_map(|stage| match stage {
            Stage::Sparse(stage) => Some(stage),
            _ => None,
        }),
        _ => None,
    });
    let changed = part(sparse.unwrap());
    // The writer makes new checksums for what it is given.
    let mut writer = Writer::new(index.clone());
    writer.begin_tier("R");
    for id in 0..index.parts.len() {
        let mut bytes = container.part(id).unwrap().to_vec();
        if id == changed {
            change(&mut bytes);
        }
        writer.part(bytes);
    }
    let described = writer.index_mut();
    described.files = index.files.clone();
    described.tables = index.tables.clone();
    described.transforms = index.transforms.clone();
    described.tensors = index.tensors.clone();
    let path = folder.path().join("changed");
    writer.write(&path).unwrap();
    match Model::open(&path, None, &ModelOptions::default()) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn entries_that_contradict_their_counts_or_their_matrix_are_refused_by_name() {
    assert_eq!(with_part(|s| s.counts, |_| {}), "");
    let refused = |part, change: fn(&mut Vec<u8>), piece: &str| {
        let message = with_part(part, change);
        assert!(message.contains(piece), "{message}");
        assert!(
            message.contains("model.") && message.contains("changed"),
            "{message}"
        );
    };
    refused(|s| s.counts, |counts| counts[0] ^= 1, "whose counts make");
    refused(
        |s| s.counts,
        |counts| counts[1] = 255,
        "entries; it can have",
    );
    refused(|s| s.gaps, |gaps| gaps.fill(200), "columns");
    refused(|s| s.values, |values| values.fill(0x7c), "not finite");
}
