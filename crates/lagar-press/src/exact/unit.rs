//! A finished piece of an exact section on disk: one tensor, or the bytes of one file.
//!
//! Layout: magic, payload, header (JSON), length of the header (u64), BLAKE3 of everything before
//! it. The header comes last because it says how long the payload became. Units are not synced: one
//! that did not reach the disk does not fit its hash, and is made again.

use std::fs::{self, File};
use std::io::{BufWriter, Error, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use blake3::Hasher;
use lagar_format::PartSource;
use serde::{Deserialize, Serialize};

use crate::PressError;

const MAGIC: &[u8; 8] = b"LAGAREX1";
const FOOT: u64 = 8 + 32;
const HEADER_LIMIT: u64 = 1 << 28;

/// Bytes of the unit's file.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Span {
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// What a unit holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Held {
    /// Nothing: the original bytes are stored as they are.
    AsItIs,
    /// zlib streams of these lengths.
    Zlib { streams: Span, lengths: Vec<u64> },
    /// A coded tensor.
    Coded {
        model: Span,
        lengths: Span,
        codes: Span,
    },
}

/// A unit's file and what is in it.
#[derive(Debug)]
pub(super) struct Unit {
    path: PathBuf,
    pub(super) held: Held,
}

impl Unit {
    /// A span as a part of the file to be written.
    pub(super) fn part(&self, span: Span) -> PartSource {
        PartSource::File {
            path: self.path.clone(),
            offset: span.offset,
            bytes: span.bytes,
        }
    }

    /// Reads a unit that an earlier run finished; `None` if it is absent or damaged.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, PressError> {
        match read(path) {
            Ok(held) => Ok(held.map(|held| Self {
                path: path.to_owned(),
                held,
            })),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(PressError::Io {
                path: path.to_owned(),
                source,
            }),
        }
    }
}

fn read(path: &Path) -> std::io::Result<Option<Held>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let Some(body) = length.checked_sub(FOOT + MAGIC.len() as u64) else {
        return Ok(None);
    };
    let mut hasher = Hasher::new();
    hasher.update_reader((&mut file).take(length - 32))?;
    let mut hash = [0; 32];
    file.read_exact(&mut hash)?;
    let mut number = [0; 8];
    file.seek(SeekFrom::Start(length - FOOT))?;
    file.read_exact(&mut number)?;
    let header = u64::from_le_bytes(number);
    if hasher.finalize() != hash || header > body.min(HEADER_LIMIT) {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(length - FOOT - header))?;
    let mut json = vec![0; header as usize];
    file.read_exact(&mut json)?;
    let held: Option<Held> = serde_json::from_slice(&json).ok();
    let mut start = [0; 8];
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut start)?;
    Ok(held.filter(|_| start == *MAGIC))
}

/// Writes a unit.
#[derive(Debug)]
pub(super) struct UnitWriter {
    file: BufWriter<File>,
    hasher: Hasher,
    length: u64,
    temporary: PathBuf,
    path: PathBuf,
}

impl UnitWriter {
    pub(super) fn create(path: &Path) -> Result<Self, PressError> {
        let temporary = path.with_extension("tmp");
        let file = File::create(&temporary).map_err(|source| PressError::Io {
            path: temporary.clone(),
            source,
        })?;
        let mut writer = Self {
            file: BufWriter::with_capacity(1 << 20, file),
            hasher: Hasher::new(),
            length: 0,
            temporary,
            path: path.to_owned(),
        };
        writer.put(MAGIC)?;
        Ok(writer)
    }

    /// Adds pieces, one after the other, as one span.
    pub(super) fn span<'a>(
        &mut self,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Span, PressError> {
        let offset = self.length;
        for piece in pieces {
            self.put(piece)?;
        }
        Ok(Span {
            offset,
            bytes: self.length - offset,
        })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), PressError> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|e| self.failed(e))
    }

    fn failed(&self, source: Error) -> PressError {
        PressError::Io {
            path: self.temporary.clone(),
            source,
        }
    }

    /// Ends the unit and gives it its name.
    pub(super) fn finish(mut self, held: Held) -> Result<Unit, PressError> {
        let header = serde_json::to_vec(&held).expect("plain data serialises");
        self.put(&header)?;
        self.put(&(header.len() as u64).to_le_bytes())?;
        let hash = self.hasher.finalize();
        let written = self.file.write_all(hash.as_bytes());
        written
            .and_then(|()| self.file.flush())
            .and_then(|()| fs::rename(&self.temporary, &self.path))
            .map_err(|e| self.failed(e))?;
        Ok(Unit {
            path: self.path,
            held,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_comes_back_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.unit");
        assert!(Unit::read(&path).unwrap().is_none());
        let mut writer = UnitWriter::create(&path).unwrap();
        let model = writer.span([&b"model"[..]]).unwrap();
        let lengths = writer.span([&b"12"[..], b"34"]).unwrap();
        let codes = writer.span([&b""[..]]).unwrap();
        assert!(Unit::read(&path).unwrap().is_none());
        let held = Held::Coded {
            model,
            lengths,
            codes,
        };
        writer.finish(held.clone()).unwrap();
        assert_eq!(Unit::read(&path).unwrap().unwrap().held, held);
        let bytes = fs::read(&path).unwrap();
        assert_eq!(&bytes[lengths.offset as usize..][..4], b"1234");
        for len in 0..bytes.len() {
            fs::write(&path, &bytes[..len]).unwrap();
            assert!(Unit::read(&path).unwrap().is_none(), "{len}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            fs::write(&path, damaged).unwrap();
            assert!(Unit::read(&path).unwrap().is_none(), "{at}");
        }
    }
}
