//! A checkpoint of random weights.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use lagar_engine::{Role, TensorSpec};
use serde_json::{Map, Value, json};

use super::SmallFile;
use super::shape::Shape;
use crate::random::Random;

/// Weights are picked from this many draws from a Gaussian, which is much faster than a draw each.
const DRAWS: usize = 1 << 16;

/// Writes the folder.
pub(super) fn write(
    folder: &Path,
    shape: &Shape,
    files: &[SmallFile],
    shard_bytes: u64,
    seed: u64,
) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let put = |name: &str, content: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    };
    put("config.json", &shape.config()?)?;
    put(
        "generation_config.json",
        br#"{"bos_token_id": 0, "eos_token_id": 1}"#,
    )?;
    for (name, content) in files {
        put(name, content)?;
    }
    let tensors = shape.spec()?.tensors();
    let shards = shards(&tensors, shard_bytes);
    let name = |number: usize| match shards.len() {
        1 => "model.safetensors".to_string(),
        all => format!("model-{:05}-of-{all:05}.safetensors", number + 1),
    };
    let mut weights = Weights::new(seed);
    let mut map = Map::new();
    for (number, shard) in shards.iter().enumerate() {
        let path = folder.join(name(number));
        write_shard(&path, shard, &mut weights)
            .with_context(|| format!("cannot write {}", path.display()))?;
        map.extend(
            shard
                .iter()
                .map(|tensor| (tensor.name.clone(), name(number).into())),
        );
    }
    if shards.len() > 1 {
        let total: u64 = tensors.iter().map(bytes).sum();
        let index = json!({"metadata": {"total_size": total}, "weight_map": map});
        put(
            "model.safetensors.index.json",
            &serde_json::to_vec_pretty(&index)?,
        )?;
    }
    let parameters: u64 = tensors.iter().map(|tensor| bytes(tensor) / 2).sum();
    println!(
        "{}: {parameters} parameters, {} shard(s)",
        folder.display(),
        shards.len()
    );
    Ok(())
}

/// As many tensors in each as fit `limit` bytes, and at least one.
fn shards(tensors: &[TensorSpec], limit: u64) -> Vec<&[TensorSpec]> {
    let mut shards = Vec::new();
    let mut rest = tensors;
    while !rest.is_empty() {
        let mut sum = 0_u64;
        let fit = rest.iter().take_while(|tensor| {
            sum = sum.saturating_add(bytes(tensor));
            sum <= limit
        });
        let (shard, after) = rest.split_at(fit.count().max(1));
        shards.push(shard);
        rest = after;
    }
    shards
}

fn elements(tensor: &TensorSpec) -> u64 {
    tensor.shape.iter().map(|&d| d as u64).product()
}

fn bytes(tensor: &TensorSpec) -> u64 {
    2 * elements(tensor)
}

fn write_shard(path: &Path, tensors: &[TensorSpec], weights: &mut Weights) -> Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut end = 0;
    for tensor in tensors {
        let start = end;
        end += bytes(tensor);
        let entry: Value =
            json!({"dtype": "BF16", "shape": tensor.shape, "data_offsets": [start, end]});
        header.insert(tensor.name.clone(), entry);
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');

    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for tensor in tensors {
        weights.write(tensor, &mut out)?;
    }
    out.into_inner()?.sync_all()?;
    Ok(())
}

struct Weights {
    random: Random,
    draws: Vec<f32>,
}

impl Weights {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let draws = random.gaussians(DRAWS);
        Self { random, draws }
    }

    fn write(&mut self, tensor: &TensorSpec, out: &mut impl Write) -> Result<()> {
        // A linear keeps the size of what goes through it; embeddings and norms are as trained
        // models have them.
        let (deviation, mean) = match tensor.role {
            Role::Embedding => (0.02, 0.0),
            Role::Linear => (1.0 / (tensor.shape[1] as f32).sqrt(), 0.0),
            _ => (0.1, 1.0),
        };
        let table: Vec<[u8; 2]> = self
            .draws
            .iter()
            .map(|draw| half::bf16::from_f32(mean + deviation * draw).to_le_bytes())
            .collect();
        let mut left = elements(tensor);
        while left > 0 {
            let bits = self.random.next_u64();
            for lane in 0..left.min(4) {
                out.write_all(&table[(bits >> (16 * lane)) as usize % DRAWS])?;
            }
            left -= left.min(4);
        }
        Ok(())
    }
}
