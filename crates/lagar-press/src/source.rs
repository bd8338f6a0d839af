//! The checkpoint's files as a press sees them: hashed, and searched for weights that no code can
//! hold.

use std::sync::Mutex;

use lagar_engine::{Checkpoint, ModelSpec};
use lagar_format::SourceFile;
use lagar_kernels::Cpu;

use crate::{PressError, Progress};

/// Bytes hashed between two progress reports.
const STEP: usize = 1 << 24;

/// BLAKE3 of every file of the checkpoint, in the order of their names.
pub(crate) fn hash_files(
    cpu: &Cpu,
    checkpoint: &Checkpoint,
    progress: &dyn Progress,
) -> Result<Vec<SourceFile>, PressError> {
    let files = checkpoint.files();
    let bytes = files.iter().map(|(_, bytes)| bytes.len() as u64);
    progress.phase("Checking the checkpoint", bytes.sum());
    let hashes: Vec<Mutex<Option<SourceFile>>> = files.iter().map(|_| Mutex::new(None)).collect();
    cpu.pool().run(files.len(), &|i| {
        let (name, bytes) = &files[i];
        let mut hasher = blake3::Hasher::new();
        for piece in bytes.chunks(STEP) {
            if progress.cancelled() {
                return;
            }
            hasher.update(piece);
            progress.advance(piece.len() as u64);
        }
        *hashes[i].lock().expect("no holder panics") = Some(SourceFile {
            segments: Vec::new(),
            name: name.clone(),
            bytes: bytes.len() as u64,
            blake3: hasher.finalize().to_hex().to_string(),
        });
    });
    hashes
        .into_iter()
        .map(|slot| {
            slot.into_inner()
                .expect("no holder panics")
                .ok_or(PressError::Interrupted)
        })
        .collect()
}

/// Refuses weights that are NaN or infinite.
pub(crate) fn check_weights(
    cpu: &Cpu,
    checkpoint: &Checkpoint,
    spec: &ModelSpec,
    progress: &dyn Progress,
) -> Result<(), PressError> {
    for tensor in spec.tensors() {
        if progress.cancelled() {
            return Err(PressError::Interrupted);
        }
        let view = checkpoint.tensor(&tensor.name)?;
        if let Some(found) = view.non_finite(cpu) {
            return Err(PressError::NotFinite {
                file: view.file().to_owned(),
                tensor: tensor.name,
                found,
            });
        }
    }
    Ok(())
}
