//! What each file of a folder is made of, before anything is coded.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use blake3::Hash;
use lagar_engine::checkpoint::{CARRIED_FILES, Entry, parse};
use lagar_format::{Dtype, Index, Limits, Region, SourceFile};
use lagar_kernels::Cpu;

use super::folder::Folder;
use crate::hash::{Span, hash_spans};
use crate::{PressError, Progress};

/// A piece of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    /// The whole of a small file that every tier carries.
    Carried,
    /// Bytes that are no tensor.
    Bytes(Range<usize>),
    /// A tensor, by its position in [`Plan::tensors`].
    Tensor(usize),
}

/// A file and its pieces from front to back.
#[derive(Debug)]
pub(super) struct PlannedFile {
    pub(super) hash: Hash,
    pub(super) pieces: Vec<Piece>,
}

/// A tensor of the folder.
#[derive(Debug)]
pub(super) struct PlannedTensor {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<u64>,
    /// Position of its file in the folder.
    pub(super) file: usize,
    /// Where it lies there.
    pub(super) range: Range<usize>,
    pub(super) hash: Hash,
}

/// All files and tensors of a folder.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(super) folder: Folder,
    /// In the folder's order.
    pub(super) files: Vec<PlannedFile>,
    pub(super) tensors: Vec<PlannedTensor>,
}

/// Bytes that [`Plan::new`] hashes: the steps of its phase.
pub(crate) fn planned_bytes(folder: &Folder) -> u64 {
    let bytes = folder.files.iter().map(|file| file.bytes.len() as u64);
    // The tensors again.
    2 * bytes.sum::<u64>()
}

impl Plan {
    /// Reads the headers and hashes everything. Safetensors files that cannot be read as such are
    /// kept as they are, like any other file, and the user is told.
    pub(crate) fn new(
        cpu: &Cpu,
        folder: Folder,
        progress: &dyn Progress,
    ) -> Result<Self, PressError> {
        let (mut cut, mut tensors) = (Vec::new(), Vec::new());
        let mut names = HashSet::new();
        let limits = Limits::default();
        for (number, file) in folder.files.iter().enumerate() {
            let whole = vec![Piece::Bytes(0..file.bytes.len())];
            if CARRIED_FILES.contains(&file.name.as_str())
                && file.bytes.len() as u64 <= limits.file_raw_bytes
            {
                cut.push(vec![Piece::Carried]);
            } else if file.name.ends_with(".safetensors") {
                match parse(&file.name, &file.bytes) {
                    Ok(entries) => {
                        let mut cutter = Cutter {
                            file: number,
                            name: &file.name,
                            tensors: &mut tensors,
                            names: &mut names,
                            limits: &limits,
                        };
                        cut.push(cutter.cut(entries, file.bytes.len()));
                    }
                    Err(error) => {
                        progress.note(&format!(
                            "{error}; the file is kept as it is, not as tensors"
                        ));
                        cut.push(whole);
                    }
                }
            } else {
                cut.push(whole);
            }
        }
        let regions: Vec<Region> = folder.files.iter().map(|file| file.bytes.clone()).collect();
        let mut spans: Vec<Span<'_>> = regions.iter().map(|bytes| Span { bytes }).collect();
        spans.extend(tensors.iter().map(|tensor| Span {
            bytes: &regions[tensor.file][tensor.range.clone()],
        }));
        let hashes = hash_spans(cpu, &spans, progress)?;
        let (of_files, of_tensors) = hashes.split_at(regions.len());
        for (tensor, hash) in tensors.iter_mut().zip(of_tensors) {
            tensor.hash = *hash;
        }
        let files = cut.into_iter().zip(of_files);
        let files = files.map(|(pieces, &hash)| PlannedFile { hash, pieces });
        let plan = Self {
            files: files.collect(),
            folder,
            tensors,
        };
        // Rather now than when everything is coded.
        let index = Index {
            id: "plan".to_owned(),
            producer: "plan".to_owned(),
            architecture: "plan".to_owned(),
            source: plan.sources(),
            ..Index::default()
        };
        index.check_description(&limits)?;
        Ok(plan)
    }

    /// The files without their segments.
    pub(crate) fn sources(&self) -> Vec<SourceFile> {
        let files = self.folder.files.iter().zip(&self.files);
        let source = files.map(|(file, planned)| SourceFile {
            name: file.name.clone(),
            bytes: file.bytes.len() as u64,
            blake3: planned.hash.to_hex().to_string(),
            segments: Vec::new(),
        });
        source.collect()
    }

    /// Whether there is anything that a checkpoint must have.
    pub(crate) fn has_safetensors(&self) -> bool {
        let mut files = self.folder.files.iter();
        files.any(|file| file.name.ends_with(".safetensors"))
    }

    /// A tensor's original bytes.
    pub(super) fn bytes(&self, tensor: &PlannedTensor) -> Region {
        let file = &self.folder.files[tensor.file].bytes;
        let range = tensor.range.clone();
        file.slice(range)
            .expect("the header was checked against the file")
    }

    /// Elements of all tensors, those with the same bytes counted once.
    pub(crate) fn parameters(&self) -> u64 {
        let mut seen = HashMap::new();
        for tensor in &self.tensors {
            seen.insert((tensor.hash, tensor.dtype), tensor.shape.iter().product());
        }
        seen.values().sum::<u64>()
    }

    /// The architecture that `config.json` names, if there is one.
    pub(crate) fn architecture(&self) -> Option<String> {
        let file = self.folder.files.iter().find(|f| f.name == "config.json")?;
        let config: serde_json::Value = serde_json::from_slice(&file.bytes).ok()?;
        let name = config.get("architectures")?.get(0)?.as_str()?;
        let plain =
            !name.is_empty() && name.len() < 200 && name.chars().all(|c| c.is_ascii_graphic());
        plain.then(|| name.to_owned())
    }
}

/// Cuts one safetensors file.
struct Cutter<'a> {
    file: usize,
    name: &'a str,
    tensors: &'a mut Vec<PlannedTensor>,
    /// Names that are taken.
    names: &'a mut HashSet<String>,
    limits: &'a Limits,
}

impl Cutter<'_> {
    /// The pieces of the file: its header and its tensors in the order of their bytes.
    fn cut(&mut self, entries: BTreeMap<String, Entry>, length: usize) -> Vec<Piece> {
        let mut entries: Vec<(String, Entry)> = entries.into_iter().collect();
        entries.sort_by_key(|(_, entry)| (entry.range.start, entry.range.end));
        let data = entries
            .first()
            .map_or(length, |(_, entry)| entry.range.start);
        let mut pieces = vec![Piece::Bytes(0..data)];
        for (name, entry) in entries {
            let name = match self.names.contains(&name) {
                true => format!("{}:{name}", self.name),
                false => name,
            };
            if !self.storable(&name, &entry) {
                match pieces.last_mut() {
                    Some(Piece::Bytes(before)) => before.end = entry.range.end,
                    _ => pieces.push(Piece::Bytes(entry.range)),
                }
                continue;
            }
            self.names.insert(name.clone());
            pieces.push(Piece::Tensor(self.tensors.len()));
            self.tensors.push(PlannedTensor {
                name,
                dtype: entry.dtype,
                shape: entry.shape.iter().map(|&d| d as u64).collect(),
                file: self.file,
                range: entry.range,
                hash: Hash::from_bytes([0; 32]),
            });
        }
        pieces
    }

    /// Whether the index can hold one more tensor, of this name and shape.
    fn storable(&self, name: &str, entry: &Entry) -> bool {
        is_indexable(name, entry)
            && !self.names.contains(name)
            && self.tensors.len() < self.limits.tensors
    }
}

/// Whether an index can hold a tensor of this name and shape. Others are kept as bytes of their
/// file.
pub(crate) fn is_indexable(name: &str, entry: &Entry) -> bool {
    let limits = Limits::default();
    let index = Index {
        id: name.to_owned(),
        producer: "name".to_owned(),
        architecture: "name".to_owned(),
        ..Index::default()
    };
    index.check_description(&limits).is_ok() && entry.shape.len() <= limits.dimensions
}
