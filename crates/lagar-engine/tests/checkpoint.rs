//! Checkpoint folders: what opens, and what each kind of damage is called.

use std::fs;
use std::path::{Path, PathBuf};

use lagar_engine::Checkpoint;
use lagar_engine::checkpoint::parse;
use lagar_kernels::{Cpu, Isa};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// A copy of a fixture to damage.
struct Folder(TempDir);

impl Folder {
    fn copy(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for file in fs::read_dir(fixture(name)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        Self(folder)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn edit_json(&self, file: &str, edit: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(&fs::read(self.path(file)).unwrap()).unwrap();
        edit(&mut value);
        fs::write(self.path(file), value.to_string()).unwrap();
    }

    /// Rewrites the header of a safetensors file, and adds bytes to its data.
    fn edit_weights(&self, edit: impl FnOnce(&mut Value), more: &[u8]) {
        let path = self.path("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        let (length, rest) = bytes.split_first_chunk().unwrap();
        let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
        let mut header: Value = serde_json::from_slice(header).unwrap();
        edit(&mut header);
        fs::write(&path, weights(&header.to_string(), &[data, more].concat())).unwrap();
    }

    /// Opening fails with one line that has every one of these pieces.
    #[track_caller]
    fn refused(&self, pieces: &[&str]) {
        let error = Checkpoint::open(self.0.path()).expect_err("a damaged checkpoint");
        let message = error.to_string();
        assert!(!message.contains('\n'), "{message}");
        for piece in pieces {
            assert!(message.contains(piece), "{piece:?} is not in: {message}");
        }
    }
}

fn weights(header: &str, data: &[u8]) -> Vec<u8> {
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        data,
    ]
    .concat()
}

#[test]
fn every_fixture_opens_and_its_tensors_are_in_place() {
    for folder in fs::read_dir(fixture("")).unwrap() {
        let folder = folder.unwrap().path();
        if !folder.join("expected.json").exists() {
            continue;
        }
        let checkpoint = Checkpoint::open(&folder).unwrap();
        for spec in checkpoint.spec().tensors() {
            let tensor = checkpoint.tensor(&spec.name).unwrap();
            assert_eq!(tensor.shape(), spec.shape);
            assert_eq!(tensor.to_f32().len(), spec.shape.iter().product::<usize>());
        }
        assert!(checkpoint.file("tokenizer.json").is_some());
    }
}

#[test]
fn every_truncation_of_the_weights_is_an_error_that_names_the_file() {
    let bytes = fs::read(fixture("llama2").join("model.safetensors")).unwrap();
    let whole = parse("model.safetensors", &bytes).unwrap();
    assert!(!whole.is_empty());
    for len in 0..bytes.len() {
        let error = parse("model.safetensors", &bytes[..len]).unwrap_err();
        assert!(error.to_string().contains("model.safetensors"));
    }
    let folder = Folder::copy("llama2");
    fs::write(folder.path("model.safetensors"), &bytes[..bytes.len() - 1]).unwrap();
    folder.refused(&["model.safetensors", "cut off"]);
    fs::write(
        folder.path("model.safetensors"),
        [&bytes[..], &[0]].concat(),
    )
    .unwrap();
    folder.refused(&["model.safetensors", "bytes of data"]);
}

proptest! {
    /// A header with any byte replaced is read without a panic, and never with tensors outside of
    /// the file.
    #[test]
    fn damaged_headers_do_not_panic(at in 0usize..4000, byte in any::<u8>()) {
        let mut bytes = fs::read(fixture("llama2").join("model.safetensors")).unwrap();
        bytes[at] = byte;
        if let Ok(entries) = parse("x", &bytes) {
            prop_assert!(entries.values().all(|entry| bytes.get(entry.range.clone()).is_some()));
        }
    }
}

#[test]
fn headers_that_the_format_forbids_are_errors_that_say_why() {
    let cases = [
        (weights("{}", &[0; 4]), "4 bytes of data"),
        (weights("[]", &[]), "malformed"),
        (
            weights(
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]"#,
                &[0; 4],
            ),
            "malformed",
        ),
        (
            weights(
                r#"{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}"#,
                &[0; 4],
            ),
            "F31",
        ),
        (
            weights(
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
                &[0; 4],
            ),
            "takes 8",
        ),
        (
            weights(
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
                &[0; 8],
            ),
            "begin at 0",
        ),
        (
            weights(
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
                &[0; 8],
            ),
            "begin at 0",
        ),
        (
            weights(
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
                &[0; 4],
            ),
            "cut off",
        ),
        (
            weights(
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
                &[0; 8],
            ),
            "twice",
        ),
        (
            weights(
                r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}"#,
                &[0; 4],
            ),
            "more than can be addressed",
        ),
        (u64::MAX.to_le_bytes().to_vec(), "not a safetensors file"),
        (vec![1, 2, 3], "cut off"),
    ];
    for (bytes, piece) in cases {
        let message = parse("weights", &bytes).unwrap_err().to_string();
        assert!(
            message.contains("weights") && message.contains(piece),
            "{piece:?}: {message}"
        );
    }
}

#[test]
fn missing_files_are_named() {
    let folder = Folder::copy("llama2");
    fs::remove_file(folder.path("model.safetensors")).unwrap();
    folder.refused(&["model.safetensors", "model.safetensors.index.json"]);
    fs::remove_file(folder.path("config.json")).unwrap();
    folder.refused(&["config.json"]);
    let absent = folder.path("absent");
    let message = Checkpoint::open(&absent).unwrap_err().to_string();
    assert!(message.contains(absent.to_str().unwrap()), "{message}");
    let file = folder.path("generation_config.json");
    assert!(Checkpoint::open(file).is_err());
}

#[test]
fn tensors_that_do_not_fit_the_configuration_are_named() {
    let name = "model.layers.1.mlp.up_proj.weight";
    let folder = Folder::copy("llama2");
    folder.edit_weights(
        |header| {
            let entry = header.as_object_mut().unwrap().remove(name).unwrap();
            header["model.layers.1.mlp.upp_proj.weight"] = entry;
        },
        &[],
    );
    folder.refused(&[name, "missing", "[100, 48]"]);

    let folder = Folder::copy("llama2");
    folder.edit_weights(|header| header[name]["shape"] = json!([48, 100]), &[]);
    folder.refused(&["model.safetensors", name, "[48, 100]", "[100, 48]"]);

    let folder = Folder::copy("llama2");
    folder.edit_weights(|header| header[name]["dtype"] = json!("I16"), &[]);
    folder.refused(&["model.safetensors", name, "I16", "BF16"]);

    let folder = Folder::copy("llama2");
    folder.edit_json("config.json", |config| {
        config["num_hidden_layers"] = json!(1)
    });
    folder.refused(&["model.layers.1.", "does not belong", "LlamaForCausalLM"]);
}

/// Adds a tensor of 4 bytes after all others.
fn add(folder: &Folder, name: &str) {
    let end = |header: &Value| {
        let entries = header.as_object().unwrap().values();
        entries
            .filter_map(|e| e["data_offsets"][1].as_u64())
            .max()
            .unwrap()
    };
    folder.edit_weights(
        |header| {
            let end = end(header);
            header[name] = json!({ "dtype": "F32", "shape": [1], "data_offsets": [end, end + 4] });
        },
        &[0; 4],
    );
}

#[test]
fn an_extra_tensor_is_refused_unless_it_says_nothing_new() {
    let folder = Folder::copy("llama2");
    add(&folder, "model.layers.0.self_attn.rotary_emb.inv_freq");
    assert!(Checkpoint::open(folder.0.path()).is_ok());
    add(&folder, "model.layers.0.adapter.weight");
    folder.refused(&["model.layers.0.adapter.weight", "does not belong"]);
}

#[test]
fn shards_and_their_index_must_agree() {
    const INDEX: &str = "model.safetensors.index.json";
    const SHARD: &str = "model-00002-of-00003.safetensors";
    let folder = Folder::copy("llama-sharded");
    fs::remove_file(folder.path(SHARD)).unwrap();
    folder.refused(&[INDEX, SHARD, "missing"]);

    let folder = Folder::copy("llama-sharded");
    folder.edit_json(INDEX, |index| index["weight_map"]["nowhere"] = json!(SHARD));
    folder.refused(&["nowhere", SHARD]);

    let folder = Folder::copy("llama-sharded");
    folder.edit_json(INDEX, |index| {
        index["weight_map"]["x"] = json!("../x.safetensors")
    });
    folder.refused(&[INDEX, "weight_map.x", "../x.safetensors"]);

    let folder = Folder::copy("llama-sharded");
    fs::copy(
        folder.path(SHARD),
        folder.path("model-00001-of-00003.safetensors"),
    )
    .unwrap();
    folder.refused(&["model-0000"]);

    let folder = Folder::copy("llama-sharded");
    fs::write(folder.path(INDEX), "{}").unwrap();
    folder.refused(&[INDEX, "weight_map"]);
}

#[test]
fn weights_that_are_no_numbers_are_found_where_they_are() {
    let cpu = Cpu::new(Isa::best(), 2);
    for (name, nan, infinity) in [
        ("llama2", vec![0x00, 0x7e], vec![0x00, 0xfc]),
        ("llama3", vec![0xc0, 0x7f], vec![0x80, 0xff]),
        (
            "stories",
            f32::NAN.to_le_bytes().to_vec(),
            f32::INFINITY.to_le_bytes().to_vec(),
        ),
    ] {
        let folder = Folder::copy(if name == "stories" {
            "llama-sharded"
        } else {
            name
        });
        let tensor = "model.embed_tokens.weight";
        for position in [0, 777] {
            for bad in [&nan, &infinity] {
                let checkpoint = Checkpoint::open(folder.0.path()).unwrap();
                let view = checkpoint.tensor(tensor).unwrap();
                assert_eq!(view.non_finite(&cpu), None);
                let bytes = view.region().to_vec();
                let (file, start) = locate(&folder, view.file(), &bytes);
                let at = start + position * bad.len();
                let mut damaged = fs::read(&file).unwrap();
                let good = damaged[at..at + bad.len()].to_vec();
                damaged[at..at + bad.len()].copy_from_slice(bad);
                drop((view, checkpoint));
                fs::write(&file, &damaged).unwrap();
                let checkpoint = Checkpoint::open(folder.0.path()).unwrap();
                let found = checkpoint.tensor(tensor).unwrap().non_finite(&cpu);
                let found = found.expect("a weight that is no number");
                assert_eq!(found.position, position);
                assert!(!found.value.is_finite());
                drop(checkpoint);
                damaged[at..at + bad.len()].copy_from_slice(&good);
                fs::write(&file, &damaged).unwrap();
            }
        }
    }
}

/// Where a tensor's bytes begin in its file.
fn locate(folder: &Folder, file: &str, bytes: &[u8]) -> (PathBuf, usize) {
    let path = folder.path(Path::new(file).file_name().unwrap().to_str().unwrap());
    let whole = fs::read(&path).unwrap();
    let start = whole
        .windows(bytes.len())
        .position(|window| window == bytes)
        .unwrap();
    (path, start)
}
