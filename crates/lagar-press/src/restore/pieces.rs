//! Original bytes, cut into pieces that can be made alone.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lagar_engine::exact::{ExactScratch, ExactTensor, Tensors};
use lagar_format::{Blob, Body, CheckUnit, Container, ExactBody, PIECE_BYTES, PartId, Segment};
use lagar_kernels::Cpu;

use super::checks::Checks;
use crate::PressError;

/// A run of original bytes.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) bytes: usize,
    /// The tensor that it belongs to, as a position in the index.
    pub(super) tensor: Option<usize>,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    /// A stored file.
    File(String),
    /// One piece of bytes of the exact section.
    Blob { blob: Arc<Blob>, piece: u64 },
    /// A range of a part.
    Part { part: PartId, start: usize },
    /// A chunk of a coded tensor.
    Chunk {
        tensor: Arc<ExactTensor>,
        chunk: usize,
    },
    /// Zeros, for what is known to be damaged.
    Lost,
}

/// A piece that cannot be made.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) tensor: Option<usize>,
    pub(super) chunk: Option<usize>,
    pub(super) message: String,
}

/// Makes pieces from an open file.
#[derive(Debug)]
pub(super) struct Maker<'a> {
    pub(super) cpu: &'a Cpu,
    pub(super) container: &'a Container,
    pub(super) tensors: &'a Tensors,
    scratches: Mutex<Vec<ExactScratch>>,
    /// What cannot be made, where that is to be known rather than an error.
    faults: Option<Mutex<Vec<Fault>>>,
    /// Checksums to be checked on the way.
    checks: Option<Mutex<Checks>>,
}

impl<'a> Maker<'a> {
    pub(super) fn new(cpu: &'a Cpu, tensors: &'a Tensors) -> Self {
        Self {
            cpu,
            container: tensors.container(),
            tensors,
            scratches: Mutex::default(),
            faults: None,
            checks: None,
        }
    }

    /// One that has all checksums checked on the way.
    pub(super) fn checking(self, checks: Checks) -> Self {
        Self {
            checks: Some(Mutex::new(checks)),
            ..self
        }
    }

    /// Checksums that are due after so many more bytes.
    pub(super) fn due(&self, bytes: usize) -> Vec<CheckUnit> {
        let checks = self.checks.as_ref();
        let due = checks.map(|checks| lock(checks).due(bytes as u64));
        due.unwrap_or_default()
    }

    /// Checksums that were not due yet.
    pub(super) fn rest(&self) -> Vec<CheckUnit> {
        let checks = self.checks.as_ref();
        checks.map(|checks| lock(checks).rest()).unwrap_or_default()
    }

    /// One that makes zeros of what is damaged, and keeps what was.
    pub(super) fn lenient(cpu: &'a Cpu, tensors: &'a Tensors) -> Self {
        Self {
            faults: Some(Mutex::default()),
            ..Self::new(cpu, tensors)
        }
    }

    /// What was damaged, by tensor and chunk.
    pub(super) fn faults(self) -> Vec<Fault> {
        let faults = self.faults.unwrap_or_default().into_inner();
        let mut faults = faults.unwrap_or_else(PoisonError::into_inner);
        faults.sort_by_key(|fault| (fault.tensor, fault.chunk));
        faults
    }

    fn fault(&self, fault: Fault, error: PressError) -> Result<(), PressError> {
        match &self.faults {
            None => Err(error),
            Some(faults) => {
                lock(faults).push(fault);
                Ok(())
            }
        }
    }

    /// The pieces of a source file, one segment at a time.
    pub(super) fn segment(&self, segment: &Segment) -> Result<VecDeque<Piece>, PressError> {
        match segment {
            Segment::Stored(name) => {
                let index = self.container.index();
                let file = index.files.iter().find(|file| file.name == *name);
                let bytes = file.map_or(0, |file| file.raw_bytes) as usize;
                Ok([Piece {
                    bytes,
                    tensor: None,
                    source: Source::File(name.clone()),
                }]
                .into())
            }
            Segment::Bytes(blob) => Ok(blob_pieces(blob, None)),
            Segment::Tensor(number) => self.tensor(*number),
        }
    }

    /// The pieces of a tensor.
    pub(super) fn tensor(&self, number: usize) -> Result<VecDeque<Piece>, PressError> {
        let index = self.container.index();
        let record = &index.tensors[number];
        let exact = record.exact.as_ref();
        match &exact.expect("the file has an exact section").body {
            ExactBody::Raw => {
                let Body::Raw { parts, .. } = &record.body else {
                    unreachable!("the index was checked");
                };
                let part = index.latest(parts, index.tiers.len());
                let part = part.expect("a raw tensor has a part");
                let bytes = index.parts[part].bytes as usize;
                let starts = (0..bytes).step_by(PIECE_BYTES as usize);
                Ok(starts
                    .map(|start| Piece {
                        bytes: (bytes - start).min(PIECE_BYTES as usize),
                        tensor: Some(number),
                        source: Source::Part { part, start },
                    })
                    .collect())
            }
            ExactBody::Stored(blob) => Ok(blob_pieces(blob, Some(number))),
            ExactBody::Coded { .. } => {
                let tensor = match self.tensors.exact(number) {
                    Ok(tensor) => Arc::new(tensor.expect("the tensor is coded")),
                    Err(error) => {
                        let fault = Fault {
                            tensor: Some(number),
                            chunk: None,
                            message: error.to_string(),
                        };
                        self.fault(fault, error.into())?;
                        return Ok(lost(record.bytes(), number));
                    }
                };
                Ok((0..tensor.chunks())
                    .map(|chunk| Piece {
                        bytes: tensor.shape().chunk_bytes(chunk),
                        tensor: Some(number),
                        source: Source::Chunk {
                            tensor: Arc::clone(&tensor),
                            chunk,
                        },
                    })
                    .collect())
            }
            ExactBody::Same(other) => {
                let mut pieces = self.tensor(*other)?;
                for piece in &mut pieces {
                    piece.tensor = Some(number);
                }
                Ok(pieces)
            }
            _ => Err(PressError::UnknownExact {
                tensor: record.name.clone(),
            }),
        }
    }

    /// Makes a piece on the calling thread.
    pub(super) fn make(&self, piece: &Piece, out: &mut [u8]) -> Result<(), PressError> {
        let Err(error) = self.try_make(piece, out) else {
            return Ok(());
        };
        out.fill(0);
        let fault = Fault {
            tensor: piece.tensor,
            chunk: match piece.source {
                Source::Chunk { chunk, .. } => Some(chunk),
                _ => None,
            },
            message: error.to_string(),
        };
        self.fault(fault, error)
    }

    fn try_make(&self, piece: &Piece, out: &mut [u8]) -> Result<(), PressError> {
        match &piece.source {
            Source::Lost => out.fill(0),
            Source::File(name) => out.copy_from_slice(&self.container.file(name)?),
            Source::Blob { blob, piece } => {
                out.copy_from_slice(&self.container.blob_piece(blob, *piece)?);
            }
            Source::Part { part, start } => {
                let part = self.container.part(*part)?;
                out.copy_from_slice(&part[*start..*start + out.len()]);
            }
            Source::Chunk { tensor, chunk } => {
                let free = || lock(&self.scratches);
                let mut scratch = free().pop().unwrap_or_default();
                let decoded = tensor.decode_chunk(self.cpu, *chunk, &mut scratch, out);
                free().push(scratch);
                decoded?;
            }
        }
        Ok(())
    }
}

/// Zeros instead of a tensor.
fn lost(bytes: u64, tensor: usize) -> VecDeque<Piece> {
    let starts = (0..bytes).step_by(PIECE_BYTES as usize);
    starts
        .map(|start| Piece {
            bytes: (bytes - start).min(PIECE_BYTES) as usize,
            tensor: Some(tensor),
            source: Source::Lost,
        })
        .collect()
}

/// Locks what no panic can leave half-done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn blob_pieces(blob: &Blob, tensor: Option<usize>) -> VecDeque<Piece> {
    let shared = Arc::new(blob.clone());
    (0..blob.bytes.div_ceil(PIECE_BYTES))
        .map(|piece| Piece {
            bytes: (blob.bytes - piece * PIECE_BYTES).min(PIECE_BYTES) as usize,
            tensor,
            source: Source::Blob {
                blob: Arc::clone(&shared),
                piece,
            },
        })
        .collect()
}
