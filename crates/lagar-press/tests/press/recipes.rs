//! Recipes: which stages a file gets, and that everything else works with them.

use std::fs;
use std::path::Path;

use lagar_engine::{Model, ModelOptions};
use lagar_format::{Body, Container, Levels, Limits, Stage};
use lagar_press::{PressError, PressOptions, Recipe, Silent, StageBits, restore};

use crate::support::{cpu, fixture, novels, press_quietly, press_with, quick};

const OTHERS: [Recipe; 3] = [Recipe::Codebook, Recipe::Ternary, Recipe::Eigen];

fn options(recipe: Recipe, tiers: &[u8], exact: bool) -> PressOptions {
    let options = quick(2).with_recipe(recipe);
    options.with_tiers(tiers, exact)
}

fn stages(file: &Path) -> (Container, Vec<Vec<Stage>>) {
    let container = Container::open(file, &Limits::default()).unwrap();
    let tensors = container.index().tensors.iter();
    let stages = tensors.filter_map(|tensor| match &tensor.body {
        Body::Linear { stages, .. } => Some(stages.clone()),
        _ => None,
    });
    let stages = stages.collect();
    (container, stages)
}

/// The original comes back bit for bit from around what sparse stages and fitted tables predict, after refinement, and the
/// bytes of the file do not depend on the threads.
#[test]
fn every_recipe_restores_the_original_at_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["llama2", "qwen3"] {
        for recipe in OTHERS {
            for tiers in [&[2][..], &[2, 2]] {
                let files = [1, 3].map(|threads| {
                    let file = folder.path().join(format!("{name}-{threads}.lagar"));
                    let options = options(recipe, tiers, true);
                    press_with(&fixture(name), &file, options, threads, false, &Silent).unwrap();
                    fs::read(file).unwrap()
                });
                assert!(files[0] == files[1], "{name}, {recipe}");
                let file = folder.path().join(format!("{name}-1.lagar"));
                let restored = folder
                    .path()
                    .join(format!("{name}-{recipe}-{}", tiers.len()));
                restore(&cpu(2), &file, &restored, &Silent).unwrap();
                for entry in fs::read_dir(fixture(name)).unwrap() {
                    let entry = entry.unwrap();
                    if entry.path().extension().is_some_and(|e| e == "safetensors") {
                        let back = fs::read(restored.join(entry.file_name())).unwrap();
                        assert!(back == fs::read(entry.path()).unwrap(), "{name}, {recipe}");
                    }
                }
                let (container, _) = stages(&file);
                assert_eq!(container.index().settings["recipe"], recipe.name());
            }
        }
    }
}

#[test]
fn a_codebook_has_a_table_of_its_own_for_each_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.lagar");
    press_quietly(
        &fixture("llama2"),
        &file,
        options(Recipe::Codebook, &[4], false),
    );
    let (container, stages) = stages(&file);
    let tables = &container.index().tables;
    assert_eq!(tables.len(), stages.len());
    for table in tables {
        assert_eq!((table.depth, table.window), (4, 4));
        assert!(matches!(&table.levels, Levels::Free(levels) if levels.len() == 16));
    }
}

/// Three levels, and single weights beside them.
#[test]
fn ternary_files_have_three_levels_and_single_weights() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.lagar");
    press_quietly(&novels(), &file, options(Recipe::Ternary, &[2], false));
    let (container, all) = stages(&file);
    for stages in all {
        let [
            Stage::Window(first),
            Stage::Window(second),
            Stage::Sparse(sparse),
        ] = &stages[..]
        else {
            panic!("{stages:?}");
        };
        for window in [first, second] {
            let Levels::Split { a, b, .. } = &container.index().tables[window.table].levels else {
                panic!("a free table");
            };
            assert!(a.iter().chain(b).all(|half| half.abs() == 1));
        }
        assert!(container.index().parts[sparse.values].bytes > 0);
    }
}

/// At most what was asked for, and not half a percent less.
#[test]
fn recipes_keep_to_a_length() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.lagar");
    for (recipe, target) in [
        (Recipe::Codebook, 3.3),
        (Recipe::Ternary, 3.0),
        (Recipe::Eigen, 2.56),
    ] {
        let options = quick(2).with_recipe(recipe);
        let options = options.with_stages(vec![StageBits::FileBits(target)], false);
        press_quietly(&novels(), &file, options);
        let model = Model::open(&file, None, &ModelOptions::default()).unwrap();
        let found = 8.0 * model.file_bytes() as f64 / model.parameters() as f64;
        assert!(
            found <= target && found > 0.995 * target,
            "{recipe}: {found} of {target}"
        );
        if recipe == Recipe::Ternary {
            single_weights_are_where_they_matter(&file);
        }
    }
}

/// Not the same share of every tensor.
fn single_weights_are_where_they_matter(file: &Path) {
    let (container, all) = stages(file);
    let bytes = |part: usize| container.index().parts[part].bytes as f64;
    let shares = all.iter().map(|stages| {
        let [Stage::Window(window), _, Stage::Sparse(sparse)] = &stages[..] else {
            panic!("{stages:?}");
        };
        bytes(sparse.values) / bytes(window.codes)
    });
    let shares: Vec<f64> = shares.collect();
    let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
    let most = shares.iter().copied().fold(0.0, f64::max);
    assert!(most > 2.0 * least, "{shares:?}");
}

#[test]
fn stages_that_a_recipe_cannot_make_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.lagar");
    let refused = |recipe: Recipe, stages: &[StageBits]| {
        let options = quick(2)
            .with_recipe(recipe)
            .with_stages(stages.to_vec(), true);
        let error = press_with(&fixture("llama2"), &file, options, 1, false, &Silent);
        let error = error.unwrap_err();
        assert!(matches!(error, PressError::Recipe { .. }), "{error}");
    };
    for recipe in OTHERS {
        refused(recipe, &[]);
    }
    refused(Recipe::Ternary, &[StageBits::Depth(3)]);
    refused(Recipe::Ternary, &[StageBits::Average(2.5)]);
    refused(
        Recipe::Ternary,
        &[StageBits::Depth(2), StageBits::FileBits(5.0)],
    );
    assert!(!file.exists());
}

/// Another recipe is another press.
#[test]
fn unfinished_work_of_another_recipe_is_not_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.lagar");
    let press = |recipe, resume, progress: &dyn lagar_press::Progress| {
        let options = options(recipe, &[2], false);
        press_with(&fixture("llama2"), &file, options, 1, resume, progress)
    };
    press(Recipe::Ternary, false, &crate::support::StopAfter::new(12)).unwrap_err();
    let error = press(Recipe::Codebook, true, &Silent).unwrap_err();
    assert!(matches!(error, PressError::Mismatch { .. }), "{error}");
    press(Recipe::Ternary, true, &Silent).unwrap();
}

/// A checkpoint with a matrix that is mostly a product gets a low-rank stage for it, which runs, loses less than codes alone, and
/// restores exactly; also where the whole file has a target.
#[test]
fn a_matrix_that_is_mostly_a_product_gets_a_low_rank_stage() {
    const TENSOR: &str = "model.layers.2.mlp.up_proj.weight";
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("checkpoint");
    let (rows, cols) = with_a_product(TENSOR, &checkpoint);
    let cpu = cpu(2);
    let original = Model::open(&checkpoint, None, &ModelOptions::default()).unwrap();
    let weights = original.weight_rows(&cpu, TENSOR, 0..rows).unwrap();
    let press = |recipe, stages: Vec<StageBits>, exact| {
        let file = folder.path().join("a.lagar");
        let options = quick(2).with_recipe(recipe).with_stages(stages, exact);
        press_quietly(&checkpoint, &file, options);
        let stages = stages_of(&file, TENSOR);
        let model = Model::open(&file, Some("R"), &ModelOptions::default()).unwrap();
        let found = model.weight_rows(&cpu, TENSOR, 0..rows).unwrap();
        let error = weights.iter().zip(&found).map(|(a, b)| (a - b).powi(2));
        let mut session = model.session(8).unwrap();
        let logits = model.next_logits(
            &cpu,
            &mut session,
            &[5, 6, 7],
            &mut lagar_engine::NoObserver,
        );
        assert!(logits.unwrap().iter().all(|x| x.is_finite()));
        (stages, error.sum::<f32>() / (rows * cols) as f32, file)
    };
    let (plain, without, _) = press(Recipe::Xbit, vec![StageBits::Depth(2)], false);
    assert!(plain.iter().all(|stage| matches!(stage, Stage::Window(_))));
    for (bits, exact) in [
        (StageBits::Depth(2), true),
        (StageBits::FileBits(3.0), false),
    ] {
        let (stages, with, file) = press(Recipe::Eigen, vec![bits], exact);
        assert!(
            stages
                .iter()
                .any(|stage| matches!(stage, Stage::LowRank(_))),
            "{bits}: {stages:?}"
        );
        assert!(with < without / 2.0, "{bits}: {with} of {without}");
        if exact {
            let restored = folder.path().join("restored");
            restore(&cpu, &file, &restored, &Silent).unwrap();
            for name in ["model.safetensors", "config.json"] {
                let back = fs::read(restored.join(name)).unwrap();
                assert!(back == fs::read(checkpoint.join(name)).unwrap(), "{name}");
            }
        }
    }
}

/// The demo's model with a product of rank 4 added to a matrix of bf16; returns its shape.
fn with_a_product(tensor: &str, folder: &Path) -> (usize, usize) {
    fs::create_dir(folder).unwrap();
    for entry in fs::read_dir(novels()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let path = folder.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let number = |value: &serde_json::Value| value.as_u64().unwrap() as usize;
    let shape = &header[tensor]["shape"];
    let (rows, cols) = (number(&shape[0]), number(&shape[1]));
    let start = 8 + length + number(&header[tensor]["data_offsets"][0]);
    let wave = |i: usize, k: usize| ((i * (2 * k + 3) + 7 * k) as f32 * 0.37).sin();
    for (at, element) in bytes[start..start + 2 * rows * cols]
        .chunks_exact_mut(2)
        .enumerate()
    {
        let (row, col) = (at / cols, at % cols);
        let product: f32 = (0..4).map(|k| wave(row, k) * wave(col, k + 4)).sum();
        let bits = u16::from_le_bytes([element[0], element[1]]);
        let value = f32::from_bits(u32::from(bits) << 16) + 0.3 * product;
        element.copy_from_slice(&((value.to_bits() >> 16) as u16).to_le_bytes());
    }
    fs::write(path, bytes).unwrap();
    (rows, cols)
}

/// The stages of one tensor.
fn stages_of(file: &Path, tensor: &str) -> Vec<Stage> {
    let container = Container::open(file, &Limits::default()).unwrap();
    let found = container.index().tensors.iter().find(|t| t.name == tensor);
    let Body::Linear { stages, .. } = &found.unwrap().body else {
        panic!("{tensor} has no stages");
    };
    stages.clone()
}
