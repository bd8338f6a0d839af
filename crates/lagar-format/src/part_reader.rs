//! Reading parts from the disk into memory of a known size.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::layout::CHUNK_BYTES;
use crate::os::{BLOCK, UncachedFile};
use crate::{Container, FormatError, PartId, Region};

/// Bytes that one call to the system reads, at most.
const REQUEST: usize = 4 << 20;

/// Reads parts of an open file into buffers of the caller's, past the page cache where the system
/// can, and checks what it reads.
#[derive(Debug)]
pub struct PartReader {
    container: Arc<Container>,
    /// `None` where the container has no file: its bytes are in memory.
    file: Option<UncachedFile>,
}

/// Where what one read takes lies in the file, and will lie in a buffer.
#[derive(Clone, Debug)]
pub struct ReadPlan {
    /// Ranges of the file, of whole blocks, in ascending order.
    extents: Vec<Range<u64>>,
    parts: BTreeMap<PartId, Placed>,
    blocks: usize,
}

/// Some bytes of a part in a buffer.
#[derive(Clone, Debug)]
struct Placed {
    /// Which bytes of the part: whole chunks of its checksums.
    bytes: Range<u64>,
    /// Where they are, counted from the buffer's first block boundary.
    at: usize,
}

impl ReadPlan {
    /// Length of the buffer that the read needs.
    pub fn buffer_bytes(&self) -> usize {
        (self.blocks + 1) * BLOCK
    }

    /// Bytes that are read.
    pub fn bytes(&self) -> u64 {
        (self.blocks * BLOCK) as u64
    }
}

/// Parts that were read, or pieces of them.
#[derive(Clone, Debug)]
pub struct ReadParts {
    buffer: Region,
    start: usize,
    parts: BTreeMap<PartId, Placed>,
}

impl ReadParts {
    /// Some bytes of a part; `None` if they are not among those that were asked for.
    pub fn range(&self, id: PartId, bytes: Range<u64>) -> Option<Region> {
        let placed = self.parts.get(&id)?;
        if bytes.start > bytes.end || bytes.end > placed.bytes.end {
            return None;
        }
        let before = bytes.start.checked_sub(placed.bytes.start)?;
        let at = self.start + placed.at + before as usize;
        self.buffer
            .slice(at..at + (bytes.end - bytes.start) as usize)
    }

    /// The buffer, for another read; `None` where regions of it are still in use.
    pub fn into_buffer(self) -> Option<Vec<u8>> {
        self.buffer.into_vec()
    }
}

impl PartReader {
    /// A reader of the file that the container was opened from.
    ///
    /// # Errors
    /// [`FormatError::Io`] where the file cannot be read, [`FormatError::Replaced`] where its name
    /// now belongs to another one.
    pub fn new(container: Arc<Container>) -> Result<Self, FormatError> {
        let file = match container.path() {
            None => None,
            Some(path) => Some(open(&container, path)?),
        };
        Ok(Self { container, file })
    }

    /// Plans to read bytes of parts at once. Chunks of the checksums are read whole.
    ///
    /// # Errors
    /// [`FormatError::NoSuchPart`], [`FormatError::TierIncomplete`], and
    /// [`FormatError::PartTooShort`] for bytes that a part does not have.
    pub fn plan(&self, wanted: &[(PartId, Range<u64>)]) -> Result<ReadPlan, FormatError> {
        let mut parts: BTreeMap<PartId, Range<u64>> = BTreeMap::new();
        for (id, bytes) in wanted {
            let part = self.container.part_range(*id)?;
            let len = part.end - part.start;
            if bytes.end > len {
                let (part, needed) = (*id, bytes.end);
                return Err(FormatError::PartTooShort { part, len, needed });
            }
            let first = bytes.start / CHUNK_BYTES * CHUNK_BYTES;
            let end = bytes.end.next_multiple_of(CHUNK_BYTES).min(len);
            let known = parts.entry(*id).or_insert(first..end);
            *known = known.start.min(first)..known.end.max(end);
        }
        let mut extents: Vec<Range<u64>> = Vec::new();
        let mut placed = BTreeMap::new();
        // Blocks of the extents before the last.
        let mut before = 0;
        for (id, bytes) in parts {
            let start = self.container.part_range(id)?.start + bytes.start;
            let end = start + (bytes.end - bytes.start);
            let first = start / BLOCK as u64 * BLOCK as u64;
            let end = end.next_multiple_of(BLOCK as u64);
            match extents.last_mut() {
                // Parts come in the order of the file: what begins within the last extent, or
                // right behind it, belongs to it.
                Some(last) if first <= last.end => last.end = last.end.max(end),
                last => {
                    before += last.map_or(0, |last| (last.end - last.start) as usize);
                    extents.push(first..end);
                }
            }
            let extent = extents.last().expect("one was just pushed");
            let at = before + (start - extent.start) as usize;
            placed.insert(id, Placed { bytes, at });
        }
        let last = extents.last().map_or(0, |e| (e.end - e.start) as usize);
        Ok(ReadPlan {
            extents,
            parts: placed,
            blocks: (before + last) / BLOCK,
        })
    }

    /// Reads what was planned, into `buffer`, which grows where it is too short, and checks every
    /// checksum. `go_on` is asked between calls to the system; if it says no, the result is `None`.
    ///
    /// # Errors
    /// [`FormatError::Io`], and [`FormatError::PartChecksum`] for bytes that are damaged.
    pub fn read(
        &self,
        plan: &ReadPlan,
        mut buffer: Vec<u8>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<ReadParts>, FormatError> {
        if buffer.len() < plan.buffer_bytes() {
            // Nothing of the old content is needed: do not copy it.
            buffer.clear();
            buffer.resize(plan.buffer_bytes(), 0);
        }
        let start = buffer.as_ptr().align_offset(BLOCK);
        let mut rest = &mut buffer[start..start + plan.blocks * BLOCK];
        for extent in &plan.extents {
            let (target, behind) = rest.split_at_mut((extent.end - extent.start) as usize);
            rest = behind;
            for (i, piece) in target.chunks_mut(REQUEST).enumerate() {
                if !go_on() {
                    return Ok(None);
                }
                self.read_blocks(piece, extent.start + (i * REQUEST) as u64)?;
            }
        }
        let read = ReadParts {
            buffer: Region::from_vec(buffer),
            start,
            parts: plan.parts.clone(),
        };
        for (&id, Placed { bytes, at }) in &plan.parts {
            let len = (bytes.end - bytes.start) as usize;
            let found = &read.buffer[start + at..start + at + len];
            self.container.check_chunks(id, bytes.start, found)?;
        }
        Ok(Some(read))
    }

    fn read_blocks(&self, piece: &mut [u8], offset: u64) -> Result<(), FormatError> {
        let len = self.container.file_len();
        let needed = (len - offset).min(piece.len() as u64);
        let Some(file) = &self.file else {
            let there = self.container.bytes(offset, offset + needed);
            piece[..there.len()].copy_from_slice(there);
            return Ok(());
        };
        let path = self.container.path().unwrap_or(Path::new(""));
        file.read(piece, offset, needed as usize)
            .map_err(|error| FormatError::io("read", path, error))
    }
}

/// Opens a file by name again, and makes sure that it is the container's: header and index, with
/// the checksums of all parts, are the same bytes.
fn open(container: &Container, path: &Path) -> Result<UncachedFile, FormatError> {
    let fail = |error: io::Error| FormatError::io("read", path, error);
    let file = UncachedFile::open(path).map_err(fail)?;
    let head = container.bytes(0, container.absolute(0));
    let mut buffer = vec![0; REQUEST.min(head.len()) + BLOCK];
    let start = buffer.as_ptr().align_offset(BLOCK);
    for (i, expected) in head.chunks(REQUEST).enumerate() {
        let found = &mut buffer[start..start + expected.len()];
        let read = file.read(found, (i * REQUEST) as u64, expected.len());
        let replaced = match read {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => true,
            Err(error) => return Err(fail(error)),
            Ok(()) => found != expected,
        };
        if replaced {
            let path = path.to_owned();
            return Err(FormatError::Replaced { path });
        }
    }
    Ok(file)
}
