//! The `.lagar` container: header, index, tiers, reading, writing, limits.
//!
//! A file is a 64-byte header, a compressed JSON [`Index`], and one section per tier. A section is
//! a run of *parts*: byte ranges that the index refers to by number. The container knows where the
//! bytes are, that they are intact and how long each part must be; it never decodes them.
//! `FORMAT.md` at the root of the repository is the full description.
//!
//! ```text
//! 0         64            data_offset         tier 0 ends        (4096-aligned)
//! | header  | index, zlib | 0 | part part part | 0 | part part ... |
//! ```
//!
//! A prefix that ends at a tier's end is a valid file of that tier. Nothing is allocated from a
//! number in a file before that number is checked against [`Limits`] and the bytes at hand.

mod check;
mod container;
mod error;
mod exact;
mod header;
mod index;
mod layout;
mod limits;
pub mod os;
mod part_reader;
mod region;
mod steps;
mod tail;
mod temporary;
mod validate;
mod writer;
mod zlib;

pub use check::CheckUnit;
pub use container::Container;
pub use error::{FormatError, Problem};
pub use exact::{
    Blob, Coding, Exact, ExactBody, MAX_CODED_COLS, PIECE_BYTES, Segment, coded_matrix,
};
pub use header::{OLDEST_VERSION, VERSION};
pub use index::{
    Body, Dtype, FULL_TIER, Index, Levels, LowRankStage, Part, PartId, SourceFile, SparseStage,
    Stage, StoredFile, TableRecord, TensorRecord, Tier, TransformRecord, WindowStage,
};
pub use layout::{CHUNK_BYTES, PART_ALIGN, SECTION_ALIGN};
pub use limits::Limits;
pub use part_reader::{PartReader, ReadParts, ReadPlan};
pub use region::Region;
pub use steps::GoOn;
pub use tail::{SplitBytes, join, split};
pub use temporary::NewFile;
pub use writer::{PartSource, Writer};
pub use zlib::compress;
