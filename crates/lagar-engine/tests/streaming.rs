//! Models whose higher tiers are read from the disk while they run, and models at tier `full`: the
//! same bits as from memory, and as the checkpoint.

mod exact_section;
mod pressed;
mod whole_model;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lagar_engine::{Checkpoint, EngineError, KvFormat, Model, ModelOptions, NoObserver};
use lagar_format::{Container, FormatError, Limits};
use lagar_kernels::{Cpu, Isa};
use pressed::Recipe;
use whole_model::{fixture, logits, tokens, try_logits};

const NAMES: [&str; 5] = ["llama2", "llama3", "mistral", "qwen2", "qwen3"];

/// A file of the tiers R, RG, RGB and full.
fn write(folder: &Path, name: &str) -> PathBuf {
    write_from(&fixture(name), folder, name)
}

fn write_from(checkpoint: &Path, folder: &Path, name: &str) -> PathBuf {
    let recipe = Recipe {
        depths: vec![2, 1, 1],
        with_all_kinds: true,
        ..Recipe::default()
    };
    exact_section::write(checkpoint, &recipe, folder, name)
}

/// The checkpoint of a fixture with so many tokens that its head is larger than its blocks.
fn many_tokens(name: &str, folder: &Path) -> PathBuf {
    let folder = folder.join(format!("{name} with many tokens"));
    std::fs::create_dir(&folder).unwrap();
    let original = Checkpoint::open(fixture(name)).unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::write(folder.join(name), original.file(name).unwrap()).unwrap();
    }
    let config = folder.join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["vocab_size"] = 8000.into();
    std::fs::write(&config, json.to_string()).unwrap();

    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for tensor in original.spec().tensors() {
        let view = original.tensor(&tensor.name).unwrap();
        let (mut shape, mut bytes) = (tensor.shape, view.region().to_vec());
        if shape[0] == original.spec().vocabulary {
            let row = bytes.len() / shape[0];
            bytes = bytes.iter().copied().cycle().take(8000 * row).collect();
            shape[0] = 8000;
        }
        let start = data.len();
        data.extend(bytes);
        header.insert(
            tensor.name,
            serde_json::json!({
                "dtype": view.dtype().name(),
                "shape": shape,
                "data_offsets": [start, data.len()],
            }),
        );
    }
    let header = serde_json::to_vec(&header).unwrap();
    let length = (header.len() as u64).to_le_bytes();
    let bytes = [&length, &header[..], &data].concat();
    std::fs::write(folder.join("model.safetensors"), bytes).unwrap();
    folder
}

fn open(file: &Path, tier: &str, options: &ModelOptions) -> Model {
    Model::open(file, Some(tier), options).unwrap()
}

#[test]
fn streamed_logits_are_those_from_memory_for_every_window_and_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    for name in NAMES {
        let file = write(folder.path(), name);
        for (resident, tier) in [
            ("R", "RG"),
            ("R", "RGB"),
            ("RG", "RGB"),
            ("R", "full"),
            ("RGB", "full"),
        ] {
            let options = ModelOptions::default();
            let memory = open(&file, tier, &options);
            assert!(memory.streaming().is_none());
            let cpu = Cpu::new(Isa::best(), 1);
            let tokens = tokens(20, memory.spec().vocabulary);
            let expected = logits(&cpu, &memory, &tokens, 20);
            let options = options.with_resident(resident);
            for (window, threads) in [(0, 1), (1 << 17, 2), (1 << 40, 3)] {
                let options = options.clone().with_window(window);
                let model = open(&file, tier, &options);
                let cpu = Cpu::new(Isa::best(), threads);
                for chunk in [20, 7] {
                    let found = logits(&cpu, &model, &tokens, chunk);
                    assert!(found == expected, "{name} at {tier}, window {window}");
                }
            }
        }
    }
}

#[test]
fn a_large_head_is_read_in_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let cpu = Cpu::new(Isa::best(), 2);
    let mut tied = Vec::new();
    for name in NAMES {
        let checkpoint = many_tokens(name, folder.path());
        let file = write_from(&checkpoint, folder.path(), name);
        let dense = Model::open(&checkpoint, None, &ModelOptions::default()).unwrap();
        tied.push(dense.spec().is_tied());
        let tokens = tokens(9, 8000);
        for tier in ["RG", "full"] {
            let options = ModelOptions::default();
            let memory = open(&file, tier, &options);
            let expected = logits(&cpu, &memory, &tokens, 9);
            let whole = open(&file, tier, &options.clone().with_resident("R"));
            let pieces = open(&file, tier, &options.with_resident("R").with_window(0));
            let mut read = Vec::new();
            for model in [&whole, &pieces] {
                assert!(logits(&cpu, model, &tokens, 9) == expected, "{name} {tier}");
                read.push(model.streaming().unwrap().bytes_read);
                let name = &model.spec().head.weight;
                for rows in [0..8000, 250..270, 7999..8000, 700..700] {
                    let of = |model: &Model| model.weight_rows(&cpu, name, rows.clone()).unwrap();
                    assert_eq!(of(model), of(&memory));
                }
            }
            // This head is so small that every piece reads all of its checksum's chunk. Chunks of
            // 48 columns have 1360 rows, of which 16 make whole tile rows: too many for this head.
            if tier == "RG" || memory.spec().hidden != 48 {
                assert!(read[1] > 2 * read[0], "{name} {tier}: {read:?}");
            }
        }
        let full = open(&file, "full", &ModelOptions::default());
        let expected = logits(&cpu, &dense, &tokens, 9);
        assert!(logits(&cpu, &full, &tokens, 9) == expected, "{name}");
    }
    assert!(tied.contains(&true) && tied.contains(&false));
}

#[test]
fn tier_full_computes_what_the_checkpoint_does() {
    let folder = tempfile::tempdir().unwrap();
    let cpu = Cpu::new(Isa::best(), 2);
    for name in NAMES {
        let options = ModelOptions::default();
        let dense = Model::open(fixture(name), None, &options).unwrap();
        let tokens = tokens(30, dense.spec().vocabulary);
        let expected = logits(&cpu, &dense, &tokens, 30);
        let exact_only = Recipe {
            depths: Vec::new(),
            ..Recipe::default()
        };
        for file in [
            write(folder.path(), name),
            exact_section::write(&fixture(name), &exact_only, folder.path(), "exact"),
        ] {
            let options = options.clone().with_decoding(Isa::best(), 2);
            let model = open(&file, "full", &options);
            assert_eq!(model.kv(), dense.kv());
            assert!(logits(&cpu, &model, &tokens, 30) == expected, "{name}");
            for tensor in dense.spec().tensors() {
                let rows = tensor.shape[..tensor.shape.len() - 1].iter().product();
                let of = |model: &Model| model.weight_rows(&cpu, &tensor.name, 0..rows).unwrap();
                assert_eq!(of(&model), of(&dense), "{}", tensor.name);
            }
        }
        let streamed = open(
            &folder.path().join(name),
            "full",
            &options.with_resident("R"),
        );
        for tensor in dense.spec().tensors() {
            let rows = tensor.shape[..tensor.shape.len() - 1].iter().product();
            let of = |model: &Model| model.weight_rows(&cpu, &tensor.name, 0..rows).unwrap();
            assert_eq!(of(&streamed), of(&dense), "{}", tensor.name);
        }
    }
}

#[test]
fn another_tier_of_an_open_file_is_that_tier_and_keeps_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let cpu = Cpu::new(Isa::best(), 2);
    let file = write(folder.path(), "llama3");
    // Made-up sums of stages are far from the weights: only the cache's shape matters here.
    let options = ModelOptions::default().with_kv(KvFormat::F16);
    // In memory of its own: what higher tiers add still comes from the file.
    let first = open(&file, "R", &options.clone().with_huge_pages(true));
    assert_eq!(first.tier(), Some("R"));
    assert_eq!(first.tiers(), ["R", "RG", "RGB", "full"]);
    let tokens = tokens(20, first.spec().vocabulary);
    for tier in ["RG", "RGB", "full", "R"] {
        for options in [options.clone(), options.clone().with_resident("R")] {
            let other = first.at_tier(tier, &options).unwrap();
            assert_eq!(other.tier(), Some(tier));
            let opened = open(&file, tier, &options);
            let expected = logits(&cpu, &opened, &tokens, 20);
            assert!(logits(&cpu, &other, &tokens, 20) == expected, "{tier}");

            // Half of the tokens at one tier, half at the other, however it was opened.
            let on = |model: &Model| {
                let mut session = first.session(20).unwrap();
                try_logits(&cpu, &first, &mut session, &tokens[..10]).unwrap();
                try_logits(&cpu, model, &mut session, &tokens[10..]).unwrap()
            };
            assert!(on(&other) == on(&opened), "{tier}");
        }
    }
    let error = first.at_tier("RGBA", &options).unwrap_err().to_string();
    assert!(error.contains("R, RG, RGB, full"), "{error}");
    let dense = Model::open(fixture("llama3"), None, &options).unwrap();
    assert!(matches!(
        dense.at_tier("R", &options),
        Err(EngineError::MissingTier { .. })
    ));
}

#[test]
fn sessions_on_several_threads_share_one_stream() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "qwen3");
    for tier in ["RG", "full"] {
        for window in [0, 1 << 17] {
            let options = ModelOptions::default().with_resident("R");
            let model = open(&file, tier, &options.with_window(window));
            let expected = logits(
                &Cpu::new(Isa::best(), 1),
                &open(&file, tier, &ModelOptions::default()),
                &tokens(12, model.spec().vocabulary),
                12,
            );
            std::thread::scope(|scope| {
                for chunk in [1, 2, 5, 12] {
                    let (model, expected) = (&model, &expected);
                    scope.spawn(move || {
                        let cpu = Cpu::new(Isa::best(), 1);
                        let tokens = tokens(12, model.spec().vocabulary);
                        for _ in 0..3 {
                            assert!(logits(&cpu, model, &tokens, chunk) == *expected);
                        }
                    });
                }
            });
        }
    }
}

#[test]
fn reads_are_counted_and_serve_all_tokens_of_a_pass() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "llama2");
    let cpu = Cpu::new(Isa::best(), 1);
    let options = ModelOptions::default().with_resident("R");
    let model = open(&file, "RGB", &options.clone().with_window(0));
    let tokens = tokens(24, model.spec().vocabulary);
    let per_pass = |chunk: usize| {
        logits(&cpu, &model, &tokens, chunk);
        model.reset_streaming();
        logits(&cpu, &model, &tokens, chunk);
        let report = model.streaming().unwrap();
        assert_eq!(report.tokens, 24);
        assert_eq!(report.passes, 24usize.div_ceil(chunk) as u64);
        assert!(report.waited <= report.computed);
        report.bytes_read as f64 / report.passes as f64
    };
    let (one, all) = (per_pass(1), per_pass(24));
    assert!(
        one > 0.0 && all < 2.0 * one && one < 2.0 * all,
        "{one} {all}"
    );

    // A window that holds everything is filled once.
    let model = open(&file, "RGB", &options.with_window(1 << 30));
    logits(&cpu, &model, &tokens, 4);
    logits(&cpu, &model, &tokens, 4);
    let once = model.streaming().unwrap().bytes_read;
    let container = Container::open(&file, &Limits::default()).unwrap();
    let above = container.tier_bytes(2).unwrap() - container.tier_bytes(0).unwrap();
    assert!(once < above + above / 2, "{once} of {above}");
}

#[test]
fn the_window_holds_as_many_bytes_as_it_may_and_one_block_at_least() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "llama2");
    let window = |bytes: u64| {
        let options = ModelOptions::default()
            .with_resident("R")
            .with_window(bytes);
        let model = open(&file, "full", &options);
        model.streaming().unwrap().window_bytes
    };
    let one = window(0);
    assert!(one > 0);
    assert_eq!(window(one), one);
    assert_eq!(window(2 * one - 1), one);
    assert_eq!(window(2 * one), 2 * one);
    let default = ModelOptions::default().with_resident("R");
    let model = open(&file, "full", &default);
    let report = model.streaming().unwrap();
    assert_eq!(report.window_bytes, 2 * one);
    // A block of this fixture in its own type, or its head.
    let linears = |block: &lagar_engine::spec::Block| -> usize {
        block.linears().map(|l| l.outputs * l.inputs).sum()
    };
    let spec = model.spec();
    let largest = spec.blocks.iter().map(linears).max().unwrap();
    let largest = largest.max(spec.head.outputs * spec.head.inputs) as u64;
    let dtype = Checkpoint::open(fixture("llama2")).unwrap();
    let dtype = dtype.tensor(&spec.embedding).unwrap().dtype();
    assert_eq!(report.decoded_bytes, largest * dtype.bytes());
}

/// Every part above tier R, damaged one after the other: R runs on, the tiers that use the part
/// say what is damaged, and again when asked again.
#[test]
fn a_damaged_chunk_is_named_when_it_is_read_and_hinders_no_lower_tier() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "llama3");
    let bytes = std::fs::read(&file).unwrap();
    let container = Arc::new(Container::open(&file, &Limits::default()).unwrap());
    let index = container.index();
    let sections = bytes.len() as u64 - index.tiers.last().unwrap().end;
    let cpu = Cpu::new(Isa::best(), 2);
    let options = ModelOptions::default();
    let lower = open(&file, "R", &options);
    // All tokens, so that every row of the embedding is used.
    let all: Vec<u32> = (0..lower.spec().vocabulary as u32).collect();
    let all = &all[..lower.spec().context.min(all.len())];
    let damaged = folder.path().join("damaged");
    for (id, part) in index.parts.iter().enumerate().filter(|(_, p)| p.tier > 0) {
        if part.bytes == 0 || id % 7 != part.tier {
            continue;
        }
        let mut bytes = bytes.clone();
        bytes[(sections + part.offset + part.bytes / 2) as usize] ^= 4;
        std::fs::write(&damaged, &bytes).unwrap();
        let what = index.describe_part(id);
        for (tier, name) in index.tiers.iter().enumerate() {
            let name = &name.name;
            if tier < part.tier {
                open(&damaged, name, &options);
                continue;
            }
            let error = Model::open(&damaged, Some(name), &options).unwrap_err();
            assert!(error.to_string().contains(&what), "{error}");
            let streamed = options.clone().with_resident("R");
            let model = match Model::open(&damaged, Some(name), &streamed) {
                Ok(model) => model,
                // What every pass needs at once, such as the last norm.
                Err(error) => {
                    assert!(error.to_string().contains(&what), "{error}");
                    continue;
                }
            };
            let mut session = model.session(all.len()).unwrap();
            for _ in 0..2 {
                let error = try_logits(&cpu, &model, &mut session, all).unwrap_err();
                let EngineError::Container(error) = &error else {
                    panic!("{error}");
                };
                assert!(
                    matches!(error.root(), FormatError::PartChecksum { part, .. } if *part == id),
                    "{name}: {error}"
                );
                assert!(error.to_string().contains(&what), "{error}");
            }
            // The embedding is looked up first, and the head comes last: only a pass that fails
            // before the head leaves the session as it was.
            let lower = model.at_tier("R", &options).unwrap();
            session.truncate(0);
            try_logits(&cpu, &lower, &mut session, all).unwrap();
        }
    }
}

#[test]
fn a_failed_pass_leaves_the_session_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "llama2");
    let container = Container::open(&file, &Limits::default()).unwrap();
    let index = container.index();
    let mut bytes = std::fs::read(&file).unwrap();
    let sections = bytes.len() as u64 - index.tiers.last().unwrap().end;
    let wanted = |id: &usize| {
        let what = index.describe_part(*id);
        what.starts_with("codes") && what.contains("layers.1.mlp.down_proj") && what.ends_with('1')
    };
    let id = (0..index.parts.len()).find(wanted).unwrap();
    bytes[(sections + index.parts[id].offset) as usize + 50] ^= 1;
    let damaged = folder.path().join("damaged");
    std::fs::write(&damaged, &bytes).unwrap();

    let cpu = Cpu::new(Isa::best(), 1);
    let options = ModelOptions::default();
    let lower = open(&damaged, "R", &options);
    let model = lower
        .at_tier("RG", &options.clone().with_resident("R"))
        .unwrap();
    let tokens = tokens(20, model.spec().vocabulary);
    let mut session = lower.session(40).unwrap();
    try_logits(&cpu, &lower, &mut session, &tokens[..10]).unwrap();
    assert!(try_logits(&cpu, &model, &mut session, &tokens[10..]).is_err());
    assert_eq!(session.len(), 10);
    let rest = try_logits(&cpu, &lower, &mut session, &tokens[10..]).unwrap();
    let whole = logits(&cpu, &lower, &tokens, 20);
    assert!(whole.ends_with(&rest));
}

#[test]
fn a_model_can_be_dropped_at_any_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "llama2");
    let cpu = Cpu::new(Isa::best(), 1);
    for tier in ["RG", "full"] {
        for layers in 0..3 {
            let options = ModelOptions::default().with_resident("R").with_window(0);
            let model = open(&file, tier, &options);
            let mut x = vec![0.5; model.spec().hidden];
            for layer in 0..layers.min(model.spec().blocks.len()) {
                let mut cache = model.layer_cache(layer);
                model
                    .layer(&cpu, layer, &mut x, 1, &mut cache, &mut NoObserver)
                    .unwrap();
            }
            drop(model);
        }
    }
}

#[test]
fn a_file_that_lost_its_name_or_was_replaced_is_not_mistaken_for_another() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "llama2");
    let other = write(folder.path(), "llama3");
    let options = ModelOptions::default();
    let model = open(&file, "R", &options);
    std::fs::rename(&other, &file).unwrap();
    let streamed = options.with_resident("R");
    let error = model.at_tier("RG", &streamed).unwrap_err();
    assert!(
        matches!(&error, EngineError::Container(e) if matches!(e.root(), FormatError::Replaced { .. })),
        "{error}"
    );
    std::fs::remove_file(&file).unwrap();
    assert!(model.at_tier("RG", &streamed).is_err());
}
