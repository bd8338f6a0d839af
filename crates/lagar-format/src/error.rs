//! What can be wrong with a file.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// An error of reading or writing a `.lagar` file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The system refused an operation on a file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, such as `open`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The disk ran full.
    #[error(
        "no space left on the disk while trying to {action} {}; free some space or choose another \
         folder",
        path.display()
    )]
    DiskFull {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Another error of this type, in a file whose path is known.
    #[error("{}: {error}", path.display())]
    In {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: Box<Self>,
    },
    /// The first bytes are those of another kind of file.
    #[error("not a .lagar file: it starts with the bytes {found:02x?}")]
    NotLagar {
        /// The first bytes, at most eight.
        found: Vec<u8>,
    },
    /// The first bytes are not those of a tail file.
    #[error(
        "not a tail file, as `lagar split --rest` writes it: it starts with the bytes {found:02x?}"
    )]
    NotTail {
        /// The first bytes, at most eight.
        found: Vec<u8>,
    },
    /// A tail that was cut from another file.
    #[error("the tail belongs to another file: its id is {tail_id:?}, the file's is {id:?}")]
    TailOfAnother {
        /// Identity of the file.
        id: String,
        /// Identity of the file that the tail was cut from.
        tail_id: String,
    },
    /// A tail that does not start where the file ends.
    #[error(
        "the tail starts at byte {start} of the whole file, but the file to be joined ends at {end}; \
         split it at that tier, or use the tail that goes with it"
    )]
    TailStart {
        /// Where the tail starts.
        start: u64,
        /// Where the file ends.
        end: u64,
    },
    /// A tail that does not end where a tier ends.
    #[error("the tail ends at byte {end} of the whole file, where no tier ends")]
    TailEnd {
        /// Where the tail ends.
        end: u64,
    },
    /// A tail was asked for where nothing follows.
    #[error("nothing follows tier {tier:?}, so there is no rest to write")]
    NothingFollows {
        /// Name of the tier.
        tier: String,
    },
    /// An output that is one of the other files of the same work.
    #[error("cannot write {}: it is one of the other files of this command; choose another name", path.display())]
    SameFile {
        /// The output.
        path: PathBuf,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A version that this program does not read.
    #[error(
        "format version {found}, but this program reads versions {oldest} to {newest} only; use the \
         version of lagar that wrote the file, or a newer one"
    )]
    Version {
        /// The file's version.
        found: u32,
        /// The oldest version that is read.
        oldest: u32,
        /// The newest version that is read.
        newest: u32,
    },
    /// The header's checksum does not fit its bytes.
    #[error(
        "the header is damaged: checksum {stored:08x} is stored, {computed:08x} computed; copy the \
         file again"
    )]
    HeaderChecksum {
        /// In the file.
        stored: u32,
        /// Of the bytes in the file.
        computed: u32,
    },
    /// A header field has a value that this version does not allow.
    #[error("the header's {field} is {value}, where this version needs {expected}")]
    HeaderField {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
        /// The only allowed value.
        expected: u64,
    },
    /// The file ends within its header or its index.
    #[error("the file ends at byte {len}, within its {what}, which needs {needed}; fetch the rest")]
    Truncated {
        /// What is incomplete.
        what: &'static str,
        /// Bytes needed, from the file's start.
        needed: u64,
        /// Bytes there are.
        len: u64,
    },
    /// The file ends before its first tier does, so that nothing in it can be used.
    #[error(
        "the file ends at byte {len}, but its first tier, {tier:?}, needs {needed} bytes; fetch \
         the rest"
    )]
    FirstTierIncomplete {
        /// Name of the first tier.
        tier: String,
        /// Bytes needed, from the file's start.
        needed: u64,
        /// Bytes there are.
        len: u64,
    },
    /// A tier was asked for that the file does not hold, or not to its end.
    #[error(
        "tier {tier:?} needs {needed} bytes, the file has {len}; use a lower tier or fetch the rest"
    )]
    TierIncomplete {
        /// The tier.
        tier: String,
        /// Bytes needed, from the file's start.
        needed: u64,
        /// Bytes there are.
        len: u64,
    },
    /// Bytes after the end of the last tier.
    #[error(
        "{extra} bytes follow the end of the last tier at byte {end}; they do not belong there"
    )]
    TrailingBytes {
        /// Where the last tier ends.
        end: u64,
        /// How many bytes follow.
        extra: u64,
    },
    /// The index's checksum does not fit its bytes.
    #[error(
        "the index is damaged: checksum {stored:08x} is stored, {computed:08x} computed; copy the \
         file again"
    )]
    IndexChecksum {
        /// In the header.
        stored: u32,
        /// Of the bytes in the file.
        computed: u32,
    },
    /// The index or a stored file does not decompress.
    #[error("cannot decompress {what}: {reason}")]
    Decompress {
        /// What was to be decompressed.
        what: String,
        /// What was wrong.
        reason: String,
    },
    /// The index is not the JSON that this version knows.
    #[error(
        "cannot read the index: {}; it may come from a newer version of lagar",
        printable(source)
    )]
    Json {
        /// Where and what.
        source: serde_json::Error,
    },
    /// A number in the file is above what this reader takes.
    #[error("{value} {what}, above the limit of {limit}; raise the limit to read this file")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// The file's number.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// The index contradicts itself or the format.
    #[error("invalid index: {place}: {problem}")]
    Index {
        /// Which entry, such as `tensors[3] "model.norm.weight"`.
        place: String,
        /// What is wrong with it.
        problem: Problem,
    },
    /// A padding byte is not zero.
    #[error(
        "byte {offset}, padding before {before}, is {value:#04x} instead of zero; copy the file again"
    )]
    Padding {
        /// Offset in the file.
        offset: u64,
        /// The byte.
        value: u8,
        /// What follows the padding.
        before: String,
    },
    /// The checksum of some bytes of a part does not fit.
    #[error(
        "tier {tier:?} is damaged: part {part} ({what}), bytes {start} to {end} of the file: \
         checksum {stored:08x} is stored, {computed:08x} computed; copy the file again"
    )]
    PartChecksum {
        /// Name of the tier.
        tier: String,
        /// Number of the part.
        part: usize,
        /// What the part is for.
        what: String,
        /// Offset in the file of the first byte that the checksum covers.
        start: u64,
        /// Offset just behind the last one.
        end: u64,
        /// In the index.
        stored: u32,
        /// Of the bytes in the file.
        computed: u32,
    },
    /// A part was asked for that does not exist.
    #[error("there is no part {part}; the file has {parts}")]
    NoSuchPart {
        /// The number asked for.
        part: usize,
        /// The number of parts.
        parts: usize,
    },
    /// A tier was asked for that does not exist.
    #[error("there is no tier {tier}; the file has {tiers}")]
    NoSuchTier {
        /// The number asked for.
        tier: usize,
        /// The number of tiers.
        tiers: usize,
    },
    /// A stored file was asked for that does not exist.
    #[error("there is no stored file {name:?}; the file holds {stored:?}")]
    NoSuchFile {
        /// The name asked for.
        name: String,
        /// The names there are.
        stored: Vec<String>,
    },
    /// Bytes were asked for that a part does not have.
    #[error("part {part} has {len} bytes, but {needed} are needed")]
    PartTooShort {
        /// The part.
        part: usize,
        /// Its length.
        len: u64,
        /// What was asked for.
        needed: u64,
    },
    /// Another file has taken the name of an open one.
    #[error("{} is no longer the file that was opened; open it again", path.display())]
    Replaced {
        /// The name.
        path: PathBuf,
    },
    /// A file that was declared to the writer changed before it was copied.
    #[error("{} changed while it was being written into {}; press again", source_path.display(), path.display())]
    SourceChanged {
        /// The declared file.
        source_path: PathBuf,
        /// The file being written.
        path: PathBuf,
    },
}

/// What is wrong with an entry of the index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Required entries are missing.
    #[error("there is none, but at least one is needed")]
    Missing,
    /// A name that another entry has too.
    #[error("the name occurs twice")]
    DuplicateName,
    /// A text that is empty, has control characters, or is no plain file name where one is needed.
    #[error("{text:?} {reason}")]
    Text {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A number that refers to nothing.
    #[error("refers to {what} {value}, but there are {count}")]
    Reference {
        /// What is referred to.
        what: &'static str,
        /// The number.
        value: usize,
        /// How many there are.
        count: usize,
    },
    /// A number outside its range.
    #[error("{what} is {value}, which must be {allowed}")]
    Range {
        /// What the number is.
        what: &'static str,
        /// The number.
        value: u64,
        /// The range in words.
        allowed: &'static str,
    },
    /// A number that is determined by others.
    #[error("{what} is {value}, which must be {expected}")]
    Mismatch {
        /// What the number is.
        what: &'static str,
        /// The number.
        value: u64,
        /// What it must be.
        expected: u64,
    },
    /// A part that starts within the one before it, or before its section.
    #[error("starts at {offset}, before {free}, where free space starts")]
    Overlap {
        /// Where the part starts.
        offset: u64,
        /// The lowest allowed start.
        free: u64,
    },
    /// A part that is not aligned.
    #[error("starts at {offset}, which is no multiple of {align}")]
    Unaligned {
        /// Where the part starts.
        offset: u64,
        /// The alignment.
        align: u64,
    },
    /// More padding than an alignment can need.
    #[error("starts at {offset}, leaving a hole after {free}")]
    Hole {
        /// Where the part starts.
        offset: u64,
        /// Where free space starts.
        free: u64,
    },
    /// A linear whose first stage is of another kind than the others build on.
    #[error("the first stage is not a window stage, which it must be")]
    FirstStage,
    /// A part that lies in another tier's section than it should.
    #[error("part {part} lies in tier {found}, which must be {allowed}")]
    WrongTier {
        /// The part.
        part: usize,
        /// Its tier.
        found: usize,
        /// Where it may lie, in words.
        allowed: String,
    },
    /// Something that only a file with an exact section may have.
    #[error("has {what} of an exact section, but there is no last tier \"full\" to hold it")]
    NoExactSection {
        /// What is there.
        what: &'static str,
    },
    /// A tier that must be the last one.
    #[error("must be the last of the {tiers} tiers")]
    NotLast {
        /// Number of tiers.
        tiers: usize,
    },
    /// A tensor's original bytes cannot be where the index says.
    #[error("the exact body {problem}")]
    ExactBody {
        /// What is wrong.
        problem: &'static str,
    },
    /// A file of an older version that uses what a newer version brought.
    #[error("uses what only files of version {needed} have")]
    NewerVersion {
        /// The version that has it.
        needed: u32,
    },
    /// A size that does not fit 64 bits.
    #[error("{what} does not fit 64 bits")]
    Overflow {
        /// What the size is of.
        what: &'static str,
    },
}

/// A message without the control characters that it may quote from a file.
fn printable(message: &impl fmt::Display) -> String {
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    message.to_string().chars().map(escape).collect()
}

impl FormatError {
    /// An [`FormatError::Io`], or [`FormatError::DiskFull`] where that is the cause.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { action, path }
            }
            _ => Self::Io {
                action,
                path,
                source,
            },
        }
    }

    /// The error itself, without the path of the file it was found in.
    pub fn root(&self) -> &Self {
        match self {
            Self::In { error, .. } => error.root(),
            error => error,
        }
    }

    /// Whether the file's content is at fault, not the system or the caller.
    pub fn is_bad_input(&self) -> bool {
        !matches!(
            self.root(),
            Self::Io { .. }
                | Self::DiskFull { .. }
                | Self::NoSuchPart { .. }
                | Self::NoSuchTier { .. }
                | Self::Replaced { .. }
                | Self::SourceChanged { .. }
                | Self::NothingFollows { .. }
                | Self::SameFile { .. }
                | Self::Interrupted
        )
    }
}
