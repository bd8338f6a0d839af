//! Comparing a file's description with a checkpoint folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lagar_engine::checkpoint::parse;
use lagar_format::{Container, Index, Region, Segment, SourceFile};
use lagar_kernels::Cpu;

use crate::exact::{Folder, FolderFile, is_indexable};
use crate::hash::{Span, hash_spans};
use crate::{PressError, Progress};

/// A file or tensor of a folder that is not as the `.lagar` file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The file's name in the folder.
    pub file: String,
    /// The tensor, where it is known to be the one that differs.
    pub tensor: Option<String>,
    /// How it differs.
    pub differs: Differs,
}

/// How something differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Differs {
    /// The folder lacks it.
    Missing,
    /// Only the folder has it.
    Extra,
    /// Its bytes are others.
    Content,
    /// Of a safetensors file whose tensors are the same: what else is in it, above all its header.
    Header,
}

/// What in `folder` is not as the file's index says. Without an exact section the index lists the
/// files that were pressed only, so that others count as no difference.
pub(super) fn differences(
    cpu: &Cpu,
    container: &Container,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<Vec<Difference>, PressError> {
    let index = container.index();
    let folder = Folder::open(folder, container.path())?;
    let there: BTreeMap<&str, &FolderFile> = folder
        .files
        .iter()
        .map(|file| (file.name.as_str(), file))
        .collect();
    let pairs: Vec<(&SourceFile, Option<&FolderFile>)> = index
        .source
        .iter()
        .map(|source| (source, there.get(source.name.as_str()).copied()))
        .collect();
    let same_length =
        |source: &SourceFile, file: &FolderFile| source.bytes == file.bytes.len() as u64;
    let mut compared: Vec<(&SourceFile, &FolderFile)> = Vec::new();
    let mut found = Vec::new();
    let mut changed = Vec::new();
    for (source, file) in pairs {
        match file {
            None => found.push(difference(&source.name, None, Differs::Missing)),
            Some(file) if same_length(source, file) => compared.push((source, file)),
            Some(file) => changed.push((source, file)),
        }
    }
    progress.phase(
        "Comparing",
        compared.iter().map(|(source, _)| source.bytes).sum(),
    );
    let spans: Vec<Span<'_>> = compared
        .iter()
        .map(|(_, file)| Span { bytes: &file.bytes })
        .collect();
    let hashes = hash_spans(cpu, &spans, progress)?;
    for ((source, file), hash) in compared.into_iter().zip(hashes) {
        if hash.to_hex().as_str() != source.blake3 {
            changed.push((source, file));
        }
    }
    for (source, file) in changed {
        found.extend(changed_file(cpu, index, source, file, progress)?);
    }
    if index.full_tier().is_some() {
        let known: BTreeSet<&str> = index.source.iter().map(|f| f.name.as_str()).collect();
        let extra = there.keys().filter(|name| !known.contains(*name));
        found.extend(extra.map(|name| difference(name, None, Differs::Extra)));
    }
    found.sort_by(|a, b| (&a.file, &a.tensor).cmp(&(&b.file, &b.tensor)));
    Ok(found)
}

fn difference(file: &str, tensor: Option<&str>, differs: Differs) -> Difference {
    Difference {
        file: file.to_owned(),
        tensor: tensor.map(str::to_owned),
        differs,
    }
}

/// What differs in a file that has other bytes: the tensors, where both sides tell them.
fn changed_file(
    cpu: &Cpu,
    index: &Index,
    source: &SourceFile,
    file: &FolderFile,
    progress: &dyn Progress,
) -> Result<Vec<Difference>, PressError> {
    let whole = || vec![difference(&source.name, None, Differs::Content)];
    let prefix = format!("{}:", source.name);
    let mut expected = BTreeMap::new();
    for segment in &source.segments {
        if let Segment::Tensor(number) = segment {
            let record = &index.tensors[*number];
            let name = record.name.strip_prefix(&prefix).unwrap_or(&record.name);
            expected.insert(name, record);
        }
    }
    let Ok(entries) = parse(&source.name, &file.bytes) else {
        return Ok(whole());
    };
    if expected.is_empty() {
        return Ok(whole());
    }
    let region = |range| -> Region {
        let bytes = file.bytes.slice(range);
        bytes.expect("the header was checked against the file")
    };
    let mut found = Vec::new();
    let mut both = Vec::new();
    for (name, record) in &expected {
        match entries.get(*name) {
            None => found.push(difference(&source.name, Some(name), Differs::Missing)),
            Some(entry) => {
                let shape = entry.shape.iter().map(|&d| d as u64);
                match entry.dtype == record.dtype && record.shape.iter().copied().eq(shape) {
                    true => both.push((*name, *record, region(entry.range.clone()))),
                    false => found.push(difference(&source.name, Some(name), Differs::Content)),
                }
            }
        }
    }
    for (name, _) in entries
        .iter()
        .filter(|(name, entry)| !expected.contains_key(name.as_str()) && is_indexable(name, entry))
    {
        found.push(difference(&source.name, Some(name), Differs::Extra));
    }
    let bytes = both.iter().map(|(_, _, bytes)| bytes.len() as u64);
    progress.phase(
        &format!("Comparing the tensors of {}", source.name),
        bytes.sum(),
    );
    let spans: Vec<Span<'_>> = both.iter().map(|(_, _, bytes)| Span { bytes }).collect();
    let hashes = hash_spans(cpu, &spans, progress)?;
    for ((name, record, _), hash) in both.iter().zip(hashes) {
        let exact = record.exact.as_ref().map(|exact| exact.blake3.as_str());
        if exact != Some(hash.to_hex().as_str()) {
            found.push(difference(&source.name, Some(name), Differs::Content));
        }
    }
    if found.is_empty() {
        found.push(difference(&source.name, None, Differs::Header));
    }
    Ok(found)
}

/// A file or tensor that differs, in words.
impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            file,
            tensor,
            differs,
        } = self;
        match (tensor, differs) {
            (None, Differs::Missing) => write!(f, "{file:?} is missing in the folder"),
            (None, Differs::Extra) => write!(f, "{file:?} is in the folder, but not in the file"),
            (None, Differs::Content) => write!(f, "{file:?} differs"),
            (None, Differs::Header) => {
                write!(
                    f,
                    "{file:?} differs outside its tensors, in its header for instance"
                )
            }
            (Some(tensor), Differs::Missing) => {
                write!(f, "tensor {tensor:?} is missing in the folder's {file:?}")
            }
            (Some(tensor), Differs::Extra) => {
                write!(f, "tensor {tensor:?} is in the folder's {file:?} only")
            }
            (Some(tensor), _) => write!(f, "tensor {tensor:?} in {file:?} differs"),
        }
    }
}
