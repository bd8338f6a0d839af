//! Which files make up a checkpoint folder.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use lagar_format::Region;

use super::shown;
use crate::EngineError;

/// The small files that travel with a model, where a folder has them.
pub const CARRIED_FILES: [&str; 8] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
];

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Reads the files of [`CARRIED_FILES`] that are there.
pub(super) fn read_carried(folder: &Path) -> Result<Vec<(String, Region)>, EngineError> {
    let kind = std::fs::metadata(folder).map_err(|source| read_error(folder, source))?;
    if !kind.is_dir() {
        let source = io::Error::new(
            io::ErrorKind::NotADirectory,
            "not a folder; a checkpoint is a Hugging Face folder with config.json, tokenizer.json and \
             safetensors",
        );
        return Err(read_error(folder, source));
    }
    let mut files = Vec::new();
    for name in CARRIED_FILES {
        if let Some(bytes) = read_optional(&folder.join(name))? {
            files.push((name.to_owned(), Region::from_vec(bytes)));
        }
    }
    Ok(files)
}

/// The safetensors files of a folder.
#[derive(Default)]
pub(super) struct Weights {
    /// Their names, sorted.
    pub(super) names: Vec<String>,
    /// The index of a sharded checkpoint: its name and bytes.
    pub(super) index: Option<(String, Region)>,
    /// Which tensor the index places in which file.
    pub(super) placed: BTreeMap<String, String>,
}

/// Finds the safetensors files. As in `transformers`, a single file goes before an index.
pub(super) fn weights(folder: &Path) -> Result<Weights, EngineError> {
    if folder.join(SINGLE).is_file() {
        let names = vec![SINGLE.into()];
        return Ok(Weights {
            names,
            ..Weights::default()
        });
    }
    let file = shown(folder, INDEX);
    let json = read_optional(&folder.join(INDEX))?.ok_or_else(|| EngineError::MissingFile {
        path: folder.into(),
        file: format!("{SINGLE} or {INDEX}"),
    })?;
    let value: serde_json::Value =
        serde_json::from_slice(&json).map_err(|source| EngineError::Json {
            file: file.clone(),
            source,
        })?;
    let map = value
        .get("weight_map")
        .and_then(|map| map.as_object())
        .ok_or_else(|| EngineError::config(&file, "weight_map", "must be an object"))?;
    let mut placed = BTreeMap::new();
    for (tensor, shard) in map {
        let key = || format!("weight_map.{tensor}");
        let shard = shard
            .as_str()
            .ok_or_else(|| EngineError::config(&file, &key(), "must be a file name"))?;
        if shard.is_empty() || shard.starts_with('.') || shard.contains(['/', '\\', ':', '\0']) {
            let problem = format!("must be the name of a file in this folder, not {shard:?}");
            return Err(EngineError::config(&file, &key(), problem));
        }
        placed.insert(tensor.clone(), shard.to_owned());
    }
    let shards: BTreeSet<String> = placed.values().cloned().collect();
    for shard in &shards {
        if !folder.join(shard).is_file() {
            let users = placed.values().filter(|used| *used == shard).count();
            return Err(EngineError::Malformed {
                file,
                problem: format!("names {shard} for {users} tensors, but that file is missing"),
            });
        }
    }
    Ok(Weights {
        names: shards.into_iter().collect(),
        index: Some((INDEX.to_owned(), Region::from_vec(json))),
        placed,
    })
}

fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, EngineError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(read_error(path, source)),
    }
}

fn read_error(path: &Path, source: io::Error) -> EngineError {
    EngineError::Read {
        path: path.into(),
        source,
    }
}
