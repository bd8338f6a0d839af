//! Tail files: what follows a tier of a file, kept apart from it.

use std::path::{Path, PathBuf};

use crate::header::HEADER_BYTES;
use crate::steps::{GoOn, Steps};
use crate::{Container, FormatError, Limits, NewFile, os};

const MAGIC: [u8; 8] = *b"\x89LAGTL\r\n";
const TAIL_VERSION: u32 = 1;
/// Up to the identity.
const FIXED_BYTES: usize = 32 + HEADER_BYTES as usize;
/// Bytes copied between two looks at whether to go on.
const STEP: usize = 4 << 20;

/// What is written before the bytes of a tail: which file it was cut from, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TailHeader {
    /// Where the tail starts in its file.
    offset: u64,
    /// Its length.
    bytes: u64,
    /// The header of its file.
    whole: [u8; HEADER_BYTES as usize],
    /// The identity in its file's index.
    id: String,
}

impl TailHeader {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(TAIL_VERSION.to_le_bytes());
        bytes.extend((self.id.len() as u32).to_le_bytes());
        bytes.extend(self.offset.to_le_bytes());
        bytes.extend(self.bytes.to_le_bytes());
        bytes.extend(self.whole);
        bytes.extend(self.id.as_bytes());
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// Reads the header and returns it with its length.
    fn read(tail: &[u8], limits: &Limits) -> Result<(Self, usize), FormatError> {
        let magic = &tail[..tail.len().min(MAGIC.len())];
        if magic != &MAGIC[..magic.len()] {
            return Err(FormatError::NotTail {
                found: magic.to_vec(),
            });
        }
        let truncated = |needed: usize| FormatError::Truncated {
            what: "tail header",
            needed: needed as u64,
            len: tail.len() as u64,
        };
        let Some((fixed, rest)) = tail.split_first_chunk::<FIXED_BYTES>() else {
            return Err(truncated(FIXED_BYTES));
        };
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| fixed[at + i]));
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| fixed[at + i]));
        let version = u32_at(8);
        if version != TAIL_VERSION {
            return Err(FormatError::Version {
                found: version,
                oldest: TAIL_VERSION,
                newest: TAIL_VERSION,
            });
        }
        let id_bytes = u32_at(12) as usize;
        if id_bytes > limits.text_bytes {
            return Err(FormatError::Limit {
                what: "bytes of the tail's id",
                value: id_bytes as u64,
                limit: limits.text_bytes as u64,
            });
        }
        let end = FIXED_BYTES + id_bytes + 4;
        let Some((id, crc)) = rest.get(..id_bytes + 4).map(|rest| rest.split_at(id_bytes)) else {
            return Err(truncated(end));
        };
        let stored = u32::from_le_bytes(crc.try_into().expect("four bytes"));
        let computed = crc32c::crc32c(&tail[..end - 4]);
        if stored != computed {
            return Err(FormatError::HeaderChecksum { stored, computed });
        }
        // Behind a checksum that fits it is text; where it is not, it equals no file's identity.
        let id = String::from_utf8_lossy(id).into_owned();
        let whole = std::array::from_fn(|i| fixed[32 + i]);
        let header = Self {
            offset: u64_at(16),
            bytes: u64_at(24),
            whole,
            id,
        };
        Ok((header, end))
    }

    /// Whether the tail goes right behind all that `prefix` has.
    fn fits(&self, prefix: &Container) -> Result<(), FormatError> {
        let id = &prefix.index().id;
        if self.id != *id || self.whole != *prefix.header_bytes() {
            return Err(FormatError::TailOfAnother {
                id: id.clone(),
                tail_id: self.id.clone(),
            });
        }
        let end = prefix.tier_bytes(prefix.tiers_complete() - 1)?;
        if prefix.partial_bytes() != 0 || self.offset != end {
            return Err(FormatError::TailStart {
                start: self.offset,
                end: end + prefix.partial_bytes(),
            });
        }
        let behind = prefix.tiers_complete()..prefix.index().tiers.len();
        let mut ends = behind.map(|tier| prefix.tier_bytes(tier));
        let tail_end = self.offset.checked_add(self.bytes);
        match ends.any(|end| end.ok() == tail_end) {
            true => Ok(()),
            false => Err(FormatError::TailEnd {
                end: tail_end.unwrap_or(u64::MAX),
            }),
        }
    }
}

/// What [`split`] wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitBytes {
    /// Length of the file of the tier.
    pub output: u64,
    /// Length of the tail file, its header included; 0 where none was asked for.
    pub rest: u64,
}

/// Writes the prefix of a file that is a file of this tier, and to `rest`, if that is given, a tail
/// file with the complete tiers that follow. The codes are not touched; all that is copied is
/// checked against its checksums.
///
/// Both files get their names when they are complete, in place of what had them.
///
/// # Errors
/// [`FormatError::NoSuchTier`] and [`FormatError::TierIncomplete`]; [`FormatError::NothingFollows`]
/// where a tail would be empty; [`FormatError::SameFile`] where two of the files are the same;
/// damage as [`Container::check`] finds it; [`FormatError::Io`], [`FormatError::DiskFull`], and
/// [`FormatError::Interrupted`] when told to stop. Neither file is there then.
pub fn split(
    container: &Container,
    tier: usize,
    output: &Path,
    rest: Option<&Path>,
    go_on: GoOn<'_>,
) -> Result<SplitBytes, FormatError> {
    container.require(tier)?;
    let last = container.tiers_complete() - 1;
    if rest.is_some() && tier == last {
        let tier = container.index().tiers[tier].name.clone();
        return Err(container.inside(FormatError::NothingFollows { tier }));
    }
    let inputs = container.path().into_iter().chain(rest);
    for input in inputs {
        different(output, input)?;
    }
    if let (Some(rest), Some(input)) = (rest, container.path()) {
        different(rest, input)?;
    }
    let (offset, end) = (container.tier_bytes(tier)?, container.tier_bytes(last)?);
    let copied = if rest.is_some() { end } else { offset };
    let mut steps = Steps::new(copied * 2, go_on);
    for unit in container.check_units(if rest.is_some() { last } else { tier })? {
        container.check_unit(unit)?;
        steps.advance(unit.bytes())?;
    }
    steps.reach(copied)?;

    let mut prefix = NewFile::create(output)?;
    copy(container.bytes(0, offset), &mut prefix, &mut steps)?;
    let mut written = SplitBytes {
        output: offset,
        rest: 0,
    };
    if let Some(rest) = rest {
        let header = TailHeader {
            offset,
            bytes: end - offset,
            whole: *container.header_bytes(),
            id: container.index().id.clone(),
        };
        let header = header.to_bytes();
        let mut tail = NewFile::create(rest)?;
        tail.write(&header)?;
        copy(container.bytes(offset, end), &mut tail, &mut steps)?;
        written.rest = header.len() as u64 + end - offset;
        tail.finish()?;
    }
    let finished = prefix.finish();
    if let (Err(_), Some(rest)) = (&finished, rest) {
        // Without its prefix the tail is of no use; the first error is the one to report.
        let _ = std::fs::remove_file(rest);
    }
    finished?;
    Ok(written)
}

/// Puts a file and a tail file of it together again; the inverse of [`split`]. Returns the length
/// of the new file, which gets its name when it is complete and all of it was checked.
///
/// # Errors
/// [`FormatError::In`] with what is wrong with the file or the tail: a tail of another file, one
/// that starts elsewhere than the file ends, one that is cut off or damaged. As for [`split`], an
/// error leaves no file.
pub fn join(
    prefix: &Path,
    tail: &Path,
    output: &Path,
    limits: &Limits,
    go_on: GoOn<'_>,
) -> Result<u64, FormatError> {
    different(output, prefix)?;
    different(output, tail)?;
    let container = Container::open(prefix, limits)?;
    let region = os::map(tail)?;
    let in_tail = |error| FormatError::In {
        path: tail.to_owned(),
        error: Box::new(error),
    };
    let (header, start) = TailHeader::read(&region, limits).map_err(in_tail)?;
    header.fits(&container).map_err(in_tail)?;
    let found = (region.len() - start) as u64;
    let (needed, len) = (header.bytes + start as u64, region.len() as u64);
    if found < header.bytes {
        let what = "tail";
        return Err(in_tail(FormatError::Truncated { what, needed, len }));
    }
    if let extra @ 1.. = found - header.bytes {
        return Err(in_tail(FormatError::TrailingBytes { end: needed, extra }));
    }

    let total = header.offset + header.bytes;
    let mut steps = Steps::new(total * 2, go_on);
    let mut file = NewFile::create(output)?;
    copy(container.bytes(0, header.offset), &mut file, &mut steps)?;
    copy(&region[start..], &mut file, &mut steps)?;
    check(file.temporary(), tail, limits, &mut steps)?;
    file.finish()?;
    Ok(total)
}

/// Reads back what was joined; damage is the tail's or the prefix's.
fn check(
    joined: &Path,
    tail: &Path,
    limits: &Limits,
    steps: &mut Steps<'_>,
) -> Result<(), FormatError> {
    // Not by its name: it is only for now.
    let whole = Container::from_region(os::map(joined)?, limits)?;
    for unit in whole.check_units(whole.tiers_complete() - 1)? {
        whole.check_unit(unit).map_err(|error| FormatError::In {
            path: tail.to_owned(),
            error: error.into(),
        })?;
        steps.advance(unit.bytes())?;
    }
    steps.finish()
}

fn copy(from: &[u8], to: &mut NewFile, steps: &mut Steps<'_>) -> Result<(), FormatError> {
    for piece in from.chunks(STEP) {
        to.write(piece)?;
        steps.advance(piece.len() as u64)?;
    }
    Ok(())
}

/// Refuses an output that is another file of the same work.
fn different(output: &Path, other: &Path) -> Result<(), FormatError> {
    let place = |path: &Path| -> Option<PathBuf> {
        path.canonicalize().ok().or_else(|| {
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new(".")).canonicalize().ok()?;
            Some(folder.join(path.file_name()?))
        })
    };
    match (place(output), place(other)) {
        (Some(a), Some(b)) if a == b => Err(FormatError::SameFile {
            path: output.to_owned(),
        }),
        _ => Ok(()),
    }
}
