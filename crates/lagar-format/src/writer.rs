//! Writing a file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::header::Header;
use crate::layout::{CHUNK_BYTES, PART_ALIGN, SECTION_ALIGN, align_up};
use crate::steps::{GoOn, Steps};
use crate::{
    Container, FormatError, Index, Limits, Part, PartId, Problem, StoredFile, TableRecord,
    TensorRecord, Tier, TransformRecord, validate, zlib,
};

/// Where the bytes of a part come from.
#[derive(Clone, Debug)]
pub enum PartSource {
    /// From memory.
    Bytes(Vec<u8>),
    /// A range of a file, which must not change until it is copied.
    File {
        /// The file.
        path: PathBuf,
        /// Where the part starts in it.
        offset: u64,
        /// Length of the part.
        bytes: u64,
    },
}

impl From<Vec<u8>> for PartSource {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

/// Collects what goes into a file, then writes it.
///
/// Tiers are begun in order, and each part belongs to the tier begun last. What is written depends
/// on what was declared, in which order, and on nothing else.
#[derive(Debug)]
pub struct Writer {
    index: Index,
    sources: Vec<PartSource>,
}

impl Writer {
    /// A writer of a file described by `index`, whose lists of tiers, parts, files, tables,
    /// transforms and tensors are emptied: they are filled by the methods below.
    pub fn new(index: Index) -> Self {
        let index = Index {
            tiers: Vec::new(),
            parts: Vec::new(),
            files: Vec::new(),
            tables: Vec::new(),
            transforms: Vec::new(),
            tensors: Vec::new(),
            ..index
        };
        Self {
            index,
            sources: Vec::new(),
        }
    }

    /// A writer of all that a complete file holds, to which more is then added: descriptions,
    /// parts, files, tables, transforms, tensors and tiers stay as they are, in their order.
    ///
    /// # Errors
    /// [`FormatError::TierIncomplete`] where the file was cut off, and [`FormatError::Io`] where
    /// it was not opened by its name.
    pub fn extending(container: &Container) -> Result<Self, FormatError> {
        let mut index = container.index().clone();
        container.require(index.tiers.len() - 1)?;
        let path = container.path().ok_or_else(|| {
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
            FormatError::io("find the file of", Path::new(""), source)
        })?;
        let mut sources = Vec::new();
        for part in &mut index.parts {
            part.crc32c.clear();
            sources.push(PartSource::File {
                path: path.to_owned(),
                offset: container.absolute(part.offset),
                bytes: part.bytes,
            });
        }
        Ok(Self { index, sources })
    }

    /// The index, to be changed. Its tiers and parts are the writer's: whatever else is done to
    /// them is overwritten or refused on writing.
    pub fn index_mut(&mut self) -> &mut Index {
        &mut self.index
    }

    /// What has been declared so far. Offsets, checksums and tier ends are filled in on writing.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Where the bytes of a part come from.
    ///
    /// # Panics
    /// If there is no such part.
    pub fn source(&self, part: PartId) -> &PartSource {
        &self.sources[part]
    }

    /// Begins the next tier and returns its number.
    pub fn begin_tier(&mut self, name: impl Into<String>) -> usize {
        self.index.tiers.push(Tier {
            name: name.into(),
            end: 0,
        });
        self.index.tiers.len() - 1
    }

    /// Adds a part to the tier begun last.
    pub fn part(&mut self, source: impl Into<PartSource>) -> PartId {
        let source = source.into();
        let bytes = match &source {
            PartSource::Bytes(bytes) => bytes.len() as u64,
            PartSource::File { bytes, .. } => *bytes,
        };
        let tier = self.index.tiers.len().saturating_sub(1);
        self.index.parts.push(Part {
            tier,
            offset: 0,
            bytes,
            crc32c: Vec::new(),
        });
        self.sources.push(source);
        self.sources.len() - 1
    }

    /// Compresses a small file and adds it to the tier begun last.
    pub fn file(&mut self, name: impl Into<String>, content: &[u8]) {
        let part = self.part(zlib::compress(content));
        let raw_bytes = content.len() as u64;
        self.index.files.push(StoredFile {
            name: name.into(),
            part,
            raw_bytes,
        });
    }

    /// Adds a table, or finds it where it was added before, and returns its number.
    pub fn table(&mut self, table: TableRecord) -> usize {
        let tables = &mut self.index.tables;
        tables
            .iter()
            .position(|known| *known == table)
            .unwrap_or_else(|| {
                tables.push(table);
                tables.len() - 1
            })
    }

    /// Adds a transform and returns its number.
    pub fn transform(&mut self, transform: TransformRecord) -> usize {
        self.index.transforms.push(transform);
        self.index.transforms.len() - 1
    }

    /// Adds a tensor.
    pub fn tensor(&mut self, tensor: TensorRecord) {
        self.index.tensors.push(tensor);
    }

    /// Where each tier ends in the file as declared so far, in bytes from its start, without reading any
    /// source. The checksums, which the index has in compressed form, are made up: the index may come
    /// out a few bytes longer or shorter, which moves the ends where it crosses a page of 4096 bytes.
    ///
    /// # Errors
    /// [`FormatError::Index`] where the parts' lengths overflow.
    pub fn tier_ends(mut self) -> Result<Vec<u64>, FormatError> {
        self.lay_out()?;
        let mut random = 1u32;
        for part in &mut self.index.parts {
            let chunks = part.bytes.div_ceil(CHUNK_BYTES);
            // Xorshift: digits as mixed as those of checksums.
            let mut next = || {
                random ^= random << 13;
                random ^= random >> 17;
                random ^= random << 5;
                random
            };
            part.crc32c = (0..chunks).map(|_| next()).collect();
        }
        let json =
            serde_json::to_vec(&self.index).map_err(|source| FormatError::Json { source })?;
        let version = validate::least_version(&self.index);
        let header = Header::new(version, &zlib::compress(&json), json.len() as u64);
        let header = header.ok_or_else(index_overflow)?;
        let ends = self
            .index
            .tiers
            .iter()
            .map(|tier| header.data_offset + tier.end);
        Ok(ends.collect())
    }

    /// Writes the file, makes it durable and returns its length in bytes.
    ///
    /// What lay at `path` is lost, and an error leaves an incomplete file there. So give a
    /// temporary name, and put the file in its place with [`crate::os::replace_atomically`].
    ///
    /// # Errors
    /// [`FormatError::Index`] and [`FormatError::Limit`] where a reader would refuse the file,
    /// [`FormatError::Io`], [`FormatError::DiskFull`], [`FormatError::SourceChanged`].
    pub fn write(self, path: &Path) -> Result<u64, FormatError> {
        self.write_with(path, &mut |_, _| true)
    }

    /// As [`Writer::write`]; `go_on` is told the bytes done and the bytes in all (each is read
    /// twice), and may stop the work with [`FormatError::Interrupted`].
    ///
    /// # Errors
    /// As [`Writer::write`], and [`FormatError::Interrupted`].
    pub fn write_with(mut self, path: &Path, go_on: GoOn<'_>) -> Result<u64, FormatError> {
        self.lay_out()?;
        let bytes: u64 = self.index.parts.iter().map(|part| part.bytes).sum();
        let mut steps = Steps::new(bytes.saturating_mul(2), go_on);
        for (part, source) in self.index.parts.iter_mut().zip(&self.sources) {
            part.crc32c.clear();
            source.chunks(path, |chunk| {
                part.crc32c.push(crc32c::crc32c(chunk));
                steps.advance(chunk.len() as u64)
            })?;
        }
        let json =
            serde_json::to_vec(&self.index).map_err(|source| FormatError::Json { source })?;
        let stored_index = zlib::compress(&json);
        let version = validate::least_version(&self.index);
        let header = Header::new(version, &stored_index, json.len() as u64);
        let header = header.ok_or_else(index_overflow)?;
        let limits = Limits::default();
        validate::validate(&self.index, header.version, header.data_offset, &limits)?;
        Header::read(&header.to_bytes(), &limits)?;

        let failed = |e| FormatError::io("write", path, e);
        let mut file = File::create(path).map_err(|e| FormatError::io("create", path, e))?;
        let mut out = std::io::BufWriter::with_capacity(1 << 20, &mut file);
        let mut written = 0;
        let mut put = |bytes: &[u8]| {
            written += bytes.len() as u64;
            out.write_all(bytes).map_err(failed)
        };
        put(&header.to_bytes())?;
        put(&stored_index)?;
        let mut end = header.index_end();
        for (part, source) in self.index.parts.iter().zip(&self.sources) {
            let start = header.data_offset + part.offset;
            // Less than two pages: a section's start, or the index's end and the first section.
            put(&vec![0; (start - end) as usize])?;
            let mut crcs = part.crc32c.iter();
            source.chunks(path, |chunk| {
                if crcs.next() != Some(&crc32c::crc32c(chunk)) {
                    return Err(source.changed(path));
                }
                put(chunk)?;
                steps.advance(chunk.len() as u64)
            })?;
            end = start + part.bytes;
        }
        out.flush().map_err(failed)?;
        drop(out);
        file.sync_all()
            .map_err(|e| FormatError::io("sync", path, e))?;
        debug_assert_eq!(written, end);
        Ok(written)
    }

    /// Gives every part its offset and every tier its end.
    fn lay_out(&mut self) -> Result<(), FormatError> {
        let (mut free, mut section) = (0u64, None);
        for (id, part) in self.index.parts.iter_mut().enumerate() {
            let align = if section == Some(part.tier) {
                PART_ALIGN
            } else {
                SECTION_ALIGN
            };
            section = Some(part.tier);
            let offset = align_up(free, align);
            let end = offset.and_then(|offset| offset.checked_add(part.bytes));
            let (Some(offset), Some(end)) = (offset, end) else {
                let problem = Problem::Overflow {
                    what: "the end of the part",
                };
                return Err(FormatError::Index {
                    place: format!("parts[{id}]"),
                    problem,
                });
            };
            (part.offset, free) = (offset, end);
            if let Some(tier) = self.index.tiers.get_mut(part.tier) {
                tier.end = end;
            }
        }
        Ok(())
    }
}

fn index_overflow() -> FormatError {
    FormatError::Index {
        place: "index".to_owned(),
        problem: Problem::Overflow { what: "the index" },
    }
}

impl PartSource {
    /// Hands on the bytes in pieces of [`CHUNK_BYTES`]; `target` is the file being written.
    fn chunks(
        &self,
        target: &Path,
        mut each: impl FnMut(&[u8]) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        match self {
            Self::Bytes(bytes) => bytes.chunks(CHUNK_BYTES as usize).try_for_each(each),
            Self::File {
                path,
                offset,
                bytes,
            } => {
                let mut file = File::open(path).map_err(|e| FormatError::io("open", path, e))?;
                let failed = |e: std::io::Error| match e.kind() {
                    std::io::ErrorKind::UnexpectedEof => self.changed(target),
                    _ => FormatError::io("read", path, e),
                };
                file.seek(SeekFrom::Start(*offset)).map_err(failed)?;
                let mut left = *bytes;
                let mut buffer = vec![0; left.min(CHUNK_BYTES) as usize];
                while left > 0 {
                    let piece = &mut buffer[..left.min(CHUNK_BYTES) as usize];
                    file.read_exact(piece).map_err(failed)?;
                    each(piece)?;
                    left -= piece.len() as u64;
                }
                Ok(())
            }
        }
    }

    /// The error of a file that is no longer what it was.
    fn changed(&self, target: &Path) -> FormatError {
        let source_path = match self {
            Self::File { path, .. } => path.clone(),
            Self::Bytes(_) => PathBuf::new(),
        };
        FormatError::SourceChanged {
            source_path,
            path: target.to_owned(),
        }
    }
}
