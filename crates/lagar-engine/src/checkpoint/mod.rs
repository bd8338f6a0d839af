//! A Hugging Face checkpoint folder.

mod files;
mod safetensors;
mod scan;
mod tensor;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lagar_format::{Dtype, Region, os};

pub use files::CARRIED_FILES;
pub use safetensors::{Entry, parse};
pub use scan::NonFinite;
pub use tensor::TensorView;
pub(crate) use tensor::read_f32;

use crate::EngineError;
use crate::spec::ModelSpec;

/// A folder with `config.json`, safetensors and, usually, a tokenizer.
///
/// An opened checkpoint is complete: its configuration is understood, and every tensor of the
/// model is there, with the right shape and a type that the engine computes with. Weights are
/// memory-mapped, so nothing is read before it is used.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    path: PathBuf,
    spec: ModelSpec,
    /// Name and bytes, sorted by name.
    files: Vec<(String, Region)>,
    tensors: BTreeMap<String, Located>,
}

/// Where a tensor lies.
#[derive(Debug, Clone)]
struct Located {
    /// The name of its file.
    file: String,
    /// As the header of the file describes it.
    entry: Entry,
}

impl Checkpoint {
    /// Opens a checkpoint folder and checks that it holds a model that can be run.
    ///
    /// # Errors
    /// A missing or malformed file, an unknown architecture, and tensors that are missing, extra,
    /// of the wrong shape, or not F32, F16 or BF16. The error names file and tensor.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, EngineError> {
        let (checkpoint, others) = Self::open_with_others(path)?;
        match others.into_iter().next() {
            None => Ok(checkpoint),
            Some(name) => Err(EngineError::ExtraTensor {
                file: checkpoint.tensor(&name)?.file,
                tensor: name,
                architecture: checkpoint.spec.architecture,
            }),
        }
    }

    /// As [`Checkpoint::open`], but tensors that the model has no use for are no error: their names
    /// come back too, sorted.
    ///
    /// # Errors
    /// As [`Checkpoint::open`], extra tensors aside.
    pub fn open_with_others(path: impl AsRef<Path>) -> Result<(Self, Vec<String>), EngineError> {
        let path = path.as_ref();
        let mut files = files::read_carried(path)?;
        let config = files.iter().find(|(name, _)| name == "config.json");
        let (_, config) = config.ok_or_else(|| EngineError::MissingFile {
            path: path.into(),
            file: "config.json".into(),
        })?;
        let spec = ModelSpec::from_config(&shown(path, "config.json"), config)?;
        let weights = files::weights(path)?;
        let mut tensors: BTreeMap<String, Located> = BTreeMap::new();
        for name in weights.names {
            let region = os::map(&path.join(&name))?;
            for (tensor, entry) in parse(&shown(path, &name), &region)? {
                if let Some(other) = tensors.get(&tensor) {
                    let problem = format!("is also in {}; a tensor has one place", other.file);
                    return Err(EngineError::tensor(&shown(path, &name), &tensor, problem));
                }
                let file = name.clone();
                tensors.insert(tensor, Located { file, entry });
            }
            files.push((name, region));
        }
        files.extend(weights.index);
        files.sort_by(|(a, _), (b, _)| a.cmp(b));
        let checkpoint = Self {
            path: path.into(),
            spec,
            files,
            tensors,
        };
        checkpoint.check_placement(&weights.placed)?;
        let others = checkpoint.check_tensors()?;
        Ok((checkpoint, others))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the model is made of.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Every file that was read, with its bytes, sorted by name: configuration, tokenizer, chat
    /// template, safetensors and their index.
    pub fn files(&self) -> &[(String, Region)] {
        &self.files
    }

    /// A file's bytes.
    pub fn file(&self, name: &str) -> Option<&Region> {
        let (_, bytes) = self.files.iter().find(|(known, _)| known == name)?;
        Some(bytes)
    }

    /// The names of all tensors, sorted. Besides those of [`ModelSpec::tensors`] there may be some
    /// that a model does not need, such as precomputed rotary frequencies.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn tensor(&self, name: &str) -> Result<TensorView, EngineError> {
        let Located { file, entry } =
            self.tensors
                .get(name)
                .ok_or_else(|| EngineError::MissingTensor {
                    file: self.path.display().to_string(),
                    tensor: name.into(),
                    expected: self.expected_shape(name),
                })?;
        let region = self.file(file).and_then(|r| r.slice(entry.range.clone()));
        Ok(TensorView {
            file: shown(&self.path, file),
            name: name.into(),
            dtype: entry.dtype,
            shape: entry.shape.clone(),
            region: region.expect("the header's ranges were checked against the file"),
        })
    }

    fn expected_shape(&self, name: &str) -> Vec<usize> {
        let tensors = self.spec.tensors();
        let spec = tensors.into_iter().find(|tensor| tensor.name == name);
        spec.map(|tensor| tensor.shape).unwrap_or_default()
    }

    /// The index of a sharded checkpoint and its shards must agree.
    fn check_placement(&self, placed: &BTreeMap<String, String>) -> Result<(), EngineError> {
        for (tensor, shard) in placed {
            let found = self.tensors.get(tensor);
            if found.is_none_or(|found| found.file != *shard) {
                return Err(EngineError::tensor(
                    &shown(&self.path, shard),
                    tensor,
                    "is not here, where model.safetensors.index.json places it",
                ));
            }
        }
        Ok(())
    }

    /// Every tensor that the model needs is there; returns those that it does not.
    fn check_tensors(&self) -> Result<Vec<String>, EngineError> {
        let needed = self.spec.tensors();
        for spec in &needed {
            let tensor = self.tensor(&spec.name)?;
            tensor.check(&spec.shape)?;
        }
        let known: std::collections::BTreeSet<&str> =
            needed.iter().map(|spec| spec.name.as_str()).collect();
        let mut others = Vec::new();
        for name in self.names() {
            if !known.contains(name) && !self.is_redundant(name)? {
                others.push(name.to_owned());
            }
        }
        Ok(others)
    }

    /// Tensors that say nothing new: rotary frequencies, which the configuration gives, and the
    /// copy of a tied embedding.
    fn is_redundant(&self, name: &str) -> Result<bool, EngineError> {
        if name.ends_with(".rotary_emb.inv_freq") {
            return Ok(true);
        }
        if name == "lm_head.weight" && self.spec.is_tied() {
            let (head, embedding) = (self.tensor(name)?, self.tensor(self.spec.embedding())?);
            return Ok(head.dtype == embedding.dtype && head.region[..] == embedding.region[..]);
        }
        Ok(false)
    }
}

/// The element types that the engine computes with.
pub(crate) fn is_computable(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// A file's name in messages.
fn shown(folder: &Path, file: &str) -> String {
    folder.join(file).display().to_string()
}
