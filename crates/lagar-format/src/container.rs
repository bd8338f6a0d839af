//! An open file.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::header::Header;
use crate::{
    Blob, Coding, FormatError, Index, Limits, PIECE_BYTES, PartId, Region, TensorRecord, os,
    validate, zlib,
};

/// An open `.lagar` file whose header and index are checked, and which holds its first tier at
/// least. The bytes of the parts are not checked until [`Container::check`] is called.
#[derive(Clone, Debug)]
pub struct Container {
    path: Option<PathBuf>,
    region: Region,
    /// The first bytes of the region once more, in large pages.
    held: Option<Region>,
    version: u32,
    data_offset: u64,
    index: Index,
    limits: Limits,
    tensors: HashMap<String, usize>,
    tiers_complete: usize,
}

impl Container {
    /// Opens a file by mapping it; see [`os::map`] for what must not happen to it meanwhile.
    ///
    /// A file that was cut short opens with the tiers that are whole, see
    /// [`Container::tiers_complete`] and [`Container::partial_bytes`].
    ///
    /// # Errors
    /// [`FormatError::Io`] where the file cannot be mapped, else [`FormatError::In`] with what is
    /// wrong with it.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, FormatError> {
        let region = os::map(path)?;
        let opened = Self::from_region(region, limits);
        let mut container = opened.map_err(|error| FormatError::In {
            path: path.to_owned(),
            error: error.into(),
        })?;
        container.path = Some(path.to_owned());
        Ok(container)
    }

    /// Opens the bytes of a file.
    ///
    /// # Errors
    /// What is wrong with the header or the index, a limit that they exceed, or
    /// [`FormatError::FirstTierIncomplete`].
    pub fn from_region(region: Region, limits: &Limits) -> Result<Self, FormatError> {
        let len = region.len() as u64;
        let header = Header::read(&region, limits)?;
        let truncated = |needed| FormatError::Truncated {
            what: "index",
            needed,
            len,
        };
        let index_end = header.index_end();
        let stored_index = bytes(&region, crate::header::HEADER_BYTES, index_end);
        let stored_index = stored_index.ok_or_else(|| truncated(index_end))?;
        let (stored, computed) = (header.index_crc32c, crc32c::crc32c(stored_index));
        if stored != computed {
            return Err(FormatError::IndexChecksum { stored, computed });
        }
        let padding = bytes(&region, index_end, header.data_offset.min(len)).unwrap_or_default();
        crate::check::padding(padding, index_end, || "the first section".to_owned())?;

        let json = zlib::decompress_exactly(stored_index, header.index_raw).map_err(|reason| {
            FormatError::Decompress {
                what: "the index".to_owned(),
                reason,
            }
        })?;
        let index: Index =
            serde_json::from_slice(&json).map_err(|source| FormatError::Json { source })?;
        drop(json);
        validate::validate(&index, header.version, header.data_offset, limits)?;

        let tier_end = |end: u64| header.data_offset + end;
        let complete = index
            .tiers
            .iter()
            .take_while(|tier| tier_end(tier.end) <= len)
            .count();
        if complete == 0 {
            let tier = &index.tiers[0];
            let (tier, needed) = (tier.name.clone(), tier_end(tier.end));
            return Err(FormatError::FirstTierIncomplete { tier, needed, len });
        }
        if complete == index.tiers.len() {
            let end = tier_end(index.tiers[complete - 1].end);
            if let extra @ 1.. = len - end {
                return Err(FormatError::TrailingBytes { end, extra });
            }
        }
        let tensors = index.tensors.iter().enumerate();
        Ok(Self {
            path: None,
            region,
            held: None,
            version: header.version,
            data_offset: header.data_offset,
            limits: limits.clone(),
            tensors: tensors
                .map(|(i, tensor)| (tensor.name.clone(), i))
                .collect(),
            tiers_complete: complete,
            index,
        })
    }

    /// The index.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The version of the format that the file has.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The header, byte for byte.
    pub(crate) fn header_bytes(&self) -> &[u8; crate::header::HEADER_BYTES as usize] {
        let header = self.region.first_chunk();
        header.expect("an opened file has a header")
    }

    /// Where the file lies, if it was opened by name.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// How many tiers, counted from the first, the file holds to their end: at least one.
    pub fn tiers_complete(&self) -> usize {
        self.tiers_complete
    }

    /// Length of the prefix of the file that is a file of this tier.
    ///
    /// # Errors
    /// [`FormatError::NoSuchTier`].
    pub fn tier_bytes(&self, tier: usize) -> Result<u64, FormatError> {
        let tiers = self.index.tiers.len();
        let record = self
            .index
            .tiers
            .get(tier)
            .ok_or(FormatError::NoSuchTier { tier, tiers })?;
        Ok(self.data_offset + record.end)
    }

    /// Bytes behind the last complete tier: those of a tier that was cut off. Zero in a file that
    /// ends where a tier ends.
    pub fn partial_bytes(&self) -> u64 {
        let end = self.data_offset + self.index.tiers[self.tiers_complete - 1].end;
        self.region.len() as u64 - end
    }

    /// Copies a tier and those below it to memory of large pages, where the system has them: the parts that are asked for
    /// from now on lie there.
    ///
    /// # Errors
    /// [`FormatError::NoSuchTier`], or [`FormatError::Io`] where the system has not so much memory.
    pub fn hold_in_huge_pages(&mut self, tier: usize) -> Result<(), FormatError> {
        let end = self.tier_bytes(tier)?.min(self.region.len() as u64);
        let held = os::in_huge_pages(&self.region[..end as usize]).map_err(|e| {
            let path = self.path.as_deref().unwrap_or(Path::new(""));
            FormatError::io("copy", path, e)
        })?;
        self.held = Some(held);
        // The copy is read now.
        os::advise(&self.region, os::Advice::DontNeed);
        Ok(())
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorRecord> {
        self.tensors.get(name).map(|&at| &self.index.tensors[at])
    }

    /// The bytes of a part.
    ///
    /// # Errors
    /// [`FormatError::NoSuchPart`], or [`FormatError::TierIncomplete`] where the file was cut
    /// before the part's tier ends.
    pub fn part(&self, id: PartId) -> Result<Region, FormatError> {
        let Range { start, end } = self.part_range(id)?;
        let range = start as usize..end as usize;
        let held = self
            .held
            .as_ref()
            .and_then(|held| held.slice(range.clone()));
        let region = held.or_else(|| self.region.slice(range));
        Ok(region.expect("the parts of a complete tier lie within the file"))
    }

    /// Where in the file a part of a complete tier lies.
    pub(crate) fn part_range(&self, id: PartId) -> Result<Range<u64>, FormatError> {
        let parts = self.index.parts.len();
        let part = self
            .index
            .parts
            .get(id)
            .ok_or(FormatError::NoSuchPart { part: id, parts })?;
        self.require(part.tier)?;
        let start = self.absolute(part.offset);
        Ok(start..start + part.bytes)
    }

    /// Length of the file.
    pub(crate) fn file_len(&self) -> u64 {
        self.region.len() as u64
    }

    /// Where a part starts, counted from the start of the file.
    ///
    /// # Panics
    /// If there is no such part.
    pub fn part_offset(&self, id: PartId) -> u64 {
        self.absolute(self.index.parts[id].offset)
    }

    /// The content of a stored file.
    ///
    /// # Errors
    /// [`FormatError::NoSuchFile`], [`FormatError::TierIncomplete`], or
    /// [`FormatError::Decompress`] where the content is damaged.
    pub fn file(&self, name: &str) -> Result<Vec<u8>, FormatError> {
        let files = &self.index.files;
        let Some(file) = files.iter().find(|file| file.name == name) else {
            let stored = files.iter().map(|file| file.name.clone()).collect();
            return Err(self.inside(FormatError::NoSuchFile {
                name: name.to_owned(),
                stored,
            }));
        };
        let stored = self.part(file.part)?;
        zlib::decompress_exactly(&stored, file.raw_bytes).map_err(|reason| {
            self.inside(FormatError::Decompress {
                what: format!("the file {name:?}"),
                reason,
            })
        })
    }

    /// One of the pieces of [`crate::PIECE_BYTES`] that a run of bytes of the exact section is cut
    /// into, the last one shorter.
    ///
    /// # Errors
    /// [`FormatError::TierIncomplete`], or [`FormatError::Decompress`] where the bytes are damaged.
    ///
    /// # Panics
    /// If there is no such piece, or the run is not one of this file's index.
    pub fn blob_piece(&self, blob: &Blob, piece: u64) -> Result<Region, FormatError> {
        self.blob_piece_of(blob, piece, &self.part(blob.part)?)
    }

    /// All bytes of a blob whose part was read, see [`crate::PartReader`].
    ///
    /// # Errors
    /// [`FormatError::Decompress`] where the bytes are damaged.
    ///
    /// # Panics
    /// If `part` is shorter than the blob's part.
    pub fn unpack(&self, blob: &Blob, part: &Region) -> Result<Region, FormatError> {
        if blob.coding == Coding::Raw {
            return Ok(part.clone());
        }
        let mut bytes = Vec::new();
        for piece in 0..blob.bytes.div_ceil(PIECE_BYTES) {
            bytes.extend_from_slice(&self.blob_piece_of(blob, piece, part)?);
        }
        Ok(Region::from_vec(bytes))
    }

    fn blob_piece_of(&self, blob: &Blob, piece: u64, part: &Region) -> Result<Region, FormatError> {
        let start = piece * PIECE_BYTES;
        assert!(start < blob.bytes, "piece {piece} of {} bytes", blob.bytes);
        let bytes = (blob.bytes - start).min(PIECE_BYTES);
        let inside = "the lengths of a checked index fit its parts";
        if blob.coding == Coding::Raw {
            let range = start as usize..(start + bytes) as usize;
            return Ok(part.slice(range).expect(inside));
        }
        let before: u64 = blob.lengths[..piece as usize].iter().sum();
        let (before, length) = (before as usize, blob.lengths[piece as usize] as usize);
        let stored = part.get(before..before + length).expect(inside);
        match zlib::decompress_exactly(stored, bytes) {
            Ok(raw) => Ok(Region::from_vec(raw)),
            Err(reason) => Err(self.inside(FormatError::Decompress {
                what: self.index.describe_part(blob.part),
                reason,
            })),
        }
    }

    /// Fails unless the file holds this tier to its end.
    pub(crate) fn require(&self, tier: usize) -> Result<(), FormatError> {
        let needed = self.tier_bytes(tier)?;
        if tier < self.tiers_complete {
            return Ok(());
        }
        let (tier, len) = (
            self.index.tiers[tier].name.clone(),
            self.region.len() as u64,
        );
        Err(self.inside(FormatError::TierIncomplete { tier, needed, len }))
    }

    /// The bytes of the file between two offsets that are known to lie inside.
    pub(crate) fn bytes(&self, start: u64, end: u64) -> &[u8] {
        let held = self.held.as_ref();
        let held = held.and_then(|held| bytes(held, start, end));
        held.or_else(|| bytes(&self.region, start, end))
            .expect("the range lies within a complete tier")
    }

    /// Offset in the file of an offset in the index.
    pub(crate) fn absolute(&self, offset: u64) -> u64 {
        self.data_offset + offset
    }

    /// The error with this file's path, where it has one.
    pub(crate) fn inside(&self, error: FormatError) -> FormatError {
        match &self.path {
            Some(path) => FormatError::In {
                path: path.clone(),
                error: error.into(),
            },
            None => error,
        }
    }

    /// The limits that the file was opened with.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// The bytes between two offsets; `None` where they do not lie inside.
fn bytes(file: &[u8], start: u64, end: u64) -> Option<&[u8]> {
    file.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}
