//! The checkpoint back from a file's exact section, and checking that it would come back.

mod against;
mod checks;
mod folder;
mod pieces;
mod pump;
mod verify;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use lagar_engine::exact::Tensors;
use lagar_format::{Container, Limits, NewFile, SourceFile, TensorRecord};
use lagar_kernels::Cpu;

use crate::{PressError, Progress};
pub use against::{Difference, Differs};
use checks::{Checks, check_all, units_of};
use folder::WorkFolder;
use pieces::{Maker, Piece};
use pump::{Target, pump};
pub(crate) use verify::check_exact;
pub use verify::{Damage, TierState, Verification, verify};

/// What [`restore`] or [`restore_tensor`] wrote.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Restored {
    /// Number of files.
    pub files: usize,
    /// Their bytes in all.
    pub bytes: u64,
    /// The folder or file that was written.
    pub path: PathBuf,
    /// Wall-clock time.
    pub seconds: f64,
}

/// Writes every file of the checkpoint folder that `file` was pressed from into `folder`, which
/// must not exist or be empty.
///
/// The files are written under a temporary name and get theirs when the BLAKE3 hash of each of
/// them fits. Memory is bounded by two windows of some 24 MiB, and what one chunk of each thread takes.
///
/// # Errors
/// [`PressError::NoExact`] where the file has no complete tier `full`, [`PressError::Damaged`] and
/// others where bytes do not come back, [`PressError::Interrupted`]. No error leaves anything.
pub fn restore(
    cpu: &Cpu,
    file: &Path,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<Restored, PressError> {
    let started = Instant::now();
    let tensors = open_exact(file)?;
    let container = Arc::clone(tensors.container());
    let source = &container.index().source;
    let bytes = source.iter().map(|file| file.bytes).sum();
    let work = WorkFolder::create(folder)?;
    progress.phase("Restoring", bytes);
    let checks = Checks::new(&container, bytes)?;
    let maker = Maker::new(cpu, &tensors).checking(checks);
    let result = source
        .iter()
        .try_for_each(|file| restore_file(&maker, file, &work, progress));
    result.map_err(|error| explain(cpu, &container, error))?;
    // What no file is made of, and what was not due.
    check_all(cpu, &container, &maker.rest())?;
    if progress.cancelled() {
        return Err(PressError::Interrupted);
    }
    work.finish()?;
    Ok(Restored {
        files: source.len(),
        bytes,
        path: folder.to_owned(),
        seconds: started.elapsed().as_secs_f64(),
    })
}

fn restore_file(
    maker: &Maker<'_>,
    source: &SourceFile,
    work: &WorkFolder,
    progress: &dyn Progress,
) -> Result<(), PressError> {
    let path = work.path(&source.name);
    let io = |source| PressError::Io {
        path: path.clone(),
        source,
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io)?;
    }
    // Two names that this file system takes for one are an error here.
    let file = File::create_new(&path).map_err(io)?;
    let target = Target {
        file: &file,
        path: &path,
        offset: 0,
    };
    let hash = pump(
        maker,
        source.bytes,
        segments(maker, source),
        Some(target),
        None,
        progress,
    )?;
    if hash.to_hex().as_str() != source.blake3 {
        return Err(damaged(
            maker.container,
            format!("the file {:?}", source.name),
        ));
    }
    file.sync_all().map_err(io)
}

/// Writes one tensor into `folder` as a safetensors file of its own, named like it. The folder may
/// hold other files, but none of this name.
///
/// # Errors
/// [`PressError::NoSuchTensor`], and as [`restore`].
pub fn restore_tensor(
    cpu: &Cpu,
    file: &Path,
    name: &str,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<Restored, PressError> {
    let started = Instant::now();
    let tensors = open_exact(file)?;
    let container = Arc::clone(tensors.container());
    let index = container.index();
    let number = index.tensors.iter().position(|tensor| tensor.name == name);
    let number = number.ok_or_else(|| PressError::NoSuchTensor {
        path: file.to_owned(),
        name: name.to_owned(),
        tensors: index.tensors.len(),
    })?;
    let record = &index.tensors[number];
    let existed = folder.exists();
    fs::create_dir_all(folder).map_err(|source| PressError::Io {
        path: folder.to_owned(),
        source,
    })?;
    let path = folder.join(tensor_file_name(name));
    let result = (|| {
        if path.symlink_metadata().is_ok() {
            return Err(PressError::Io {
                path: path.clone(),
                source: std::io::ErrorKind::AlreadyExists.into(),
            });
        }
        let header = tensor_header(record);
        check_all(cpu, &container, &units_of(&container, number)?)?;
        let mut output = NewFile::create(&path)?;
        output.write(&header)?;
        progress.phase("Restoring", record.bytes());
        let maker = Maker::new(cpu, &tensors);
        let target = Target {
            file: output.file(),
            path: &path,
            offset: header.len() as u64,
        };
        let mut pieces = Some(number);
        let next = || pieces.take().map(|number| maker.tensor(number)).transpose();
        let hash = pump(&maker, record.bytes(), next, Some(target), None, progress)
            .map_err(|error| explain(cpu, &container, error))?;
        let exact = record.exact.as_ref();
        if exact.is_none_or(|exact| hash.to_hex().as_str() != exact.blake3) {
            let error = damaged(&container, format!("tensor {name:?}"));
            return Err(explain(cpu, &container, error));
        }
        output.finish()?;
        Ok(header.len() as u64 + record.bytes())
    })();
    if result.is_err() && !existed {
        // Only where nothing else is in it.
        let _ = fs::remove_dir(folder);
    }
    Ok(Restored {
        files: 1,
        bytes: result?,
        path,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// A tensor's name as that of a file: what is not a letter, digit, dot, hyphen or underscore becomes an
/// underscore.
fn tensor_file_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name: String = name
        .chars()
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    format!("{}.safetensors", &name[..name.len().min(200)])
}

/// The header of a safetensors file of one tensor.
fn tensor_header(record: &TensorRecord) -> Vec<u8> {
    let entry = serde_json::json!({
        &record.name: {
            "dtype": record.dtype.name(),
            "shape": record.shape,
            "data_offsets": [0, record.bytes()],
        }
    });
    let mut json = serde_json::to_vec(&entry).expect("plain data serialises");
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.extend(json);
    header
}

/// Opens a file that has its exact section to the end.
fn open_exact(path: &Path) -> Result<Tensors, PressError> {
    let container = Container::open(path, &Limits::default())?;
    let index = container.index();
    let complete = container.tiers_complete();
    match index.full_tier() {
        Some(full) if full < complete => Ok(Tensors::new(Arc::new(container))),
        full => {
            let tiers = index.tiers[..complete]
                .iter()
                .map(|tier| tier.name.as_str());
            Err(PressError::NoExact {
                path: path.to_owned(),
                tiers: tiers.collect::<Vec<_>>().join(", "),
                cut_off: full.is_some(),
            })
        }
    }
}

/// Gives a file's pieces segment by segment.
fn segments<'a>(
    maker: &'a Maker<'_>,
    source: &'a SourceFile,
) -> impl FnMut() -> Result<Option<VecDeque<Piece>>, PressError> + use<'a> {
    let mut segments = source.segments.iter();
    move || {
        segments
            .next()
            .map(|segment| maker.segment(segment))
            .transpose()
    }
}

fn damaged(container: &Container, what: String) -> PressError {
    PressError::Damaged {
        path: container.path().unwrap_or(Path::new("")).to_owned(),
        what,
    }
}

/// Bytes that do not come back are damage of the file, and its checksums say where.
fn explain(cpu: &Cpu, container: &Container, error: PressError) -> PressError {
    if !matches!(
        error,
        PressError::Damaged { .. }
            | PressError::Engine(_)
            | PressError::Format(_)
            | PressError::Codec(_)
    ) {
        return error;
    }
    let Ok(units) = container.check_units(container.tiers_complete() - 1) else {
        return error;
    };
    match check_all(cpu, container, &units) {
        Err(damage) => damage,
        Ok(()) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::tensor_file_name;

    #[test]
    fn a_tensors_file_has_a_plain_name() {
        for (tensor, file) in [
            ("model.norm.weight", "model.norm.weight.safetensors"),
            ("a/../b:c", "a_.._b_c.safetensors"),
            ("ü", "_.safetensors"),
            ("", ".safetensors"),
        ] {
            assert_eq!(tensor_file_name(tensor), file);
        }
        assert_eq!(tensor_file_name(&"x".repeat(4000)).len(), 212);
    }
}
