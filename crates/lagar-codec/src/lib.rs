//! The window code, its tables, scales and transforms, as plain safe definitions.
//!
//! A pressed linear stores `y = W x` as `y = Ŵ' (T x)`: the input is transformed once
//! ([`Transform`]), and the transformed weight is a sum of *stages*, each a stream of `K` bits per
//! weight ([`StageLayout`]) decoded through a table of signed bytes ([`Table`]), with one scale per
//! row and column group ([`scale_value`]). A few weights can be added by themselves, in the space of the
//! input ([`SparseLayout`]).
//!
//! What the stages leave of a tensor is coded by [`exact`], so that its original bits come back.
//!
//! [`mod@reference`] holds the definition of every computation on them: what it returns is what every
//! fast path must return.
//!
//! # The window code
//!
//! Weight `t` of a stream is `levels[w_t]`. The window `w_t` is the `L` bits `[K·t + K − L, K·t + K)`
//! of the little-endian bit stream, bits before its start being 0; so the newest `K` bits are the
//! *top* bits of the window and `w_t = (w_{t−1} >> K) | (symbol_t << (L − K))`. With `L = K` this is
//! an ordinary codebook, with `L = 8 > K` bitshift trellis-coded quantization.
#![forbid(unsafe_code)]

mod activations;
mod bent;
mod error;
pub mod exact;
mod layout;
pub mod reference;
mod scale;
mod sparse;
mod stream;
mod table;
mod tables;
mod transform;

pub use activations::Activations;
pub use bent::Bent;
pub use error::CodecError;
pub use layout::{Group, StageLayout};
pub use scale::{ZERO_SCALE, scale_code, scale_value};
pub use sparse::{HALF_SCALE, PackedSparse, SparseLayout, half_value, pack_sparse};
pub use stream::{next_window, pack_windows, symbol};
pub use table::{Split, Table};
pub use transform::{Transform, hadamard_blocks, hadamard_norm};

/// Columns of a column group: the unit of bit depth and of scales. The last group may be shorter.
pub const GROUP: usize = 128;

/// Rows of a tile. The last tile of a stage may be shorter.
pub const TILE_ROWS: usize = 256;

/// Rows are padded to a multiple of this.
pub const ROW_UNIT: usize = 16;

/// Columns of a block, the unit of coding order inside a tile. Columns are padded to a multiple of this.
pub const BLOCK_COLS: usize = 4;

/// Zero bytes after a stage's last tile, so that a vector load of 64 bytes at any stored byte is in bounds.
pub const CODES_PADDING: usize = 64;

/// Largest depth, in bits per weight.
pub const MAX_DEPTH: u8 = 8;
