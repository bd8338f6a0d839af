//! The exact coder: what the tiers below leave of a tensor, bit for bit.
//!
//! A weight is coded around its *prediction*, the f32 that the tiers below give, or around 0. Its distance is
//! counted in *steps* of a power of two, a quarter to an eighth of the standard deviation that the scales of
//! its row and column expect, but never finer than the prediction's last digit. So the distance has one of
//! a few distributions, the *contexts*: four for the quarters of a power of two between scale and step, and
//! four more for each power of two by which the last digit is coarser ([`place()`]). All are made from one
//! *profile* of a few bytes ([`Profile`]), so that a small tensor pays for no tables. The digits behind the
//! step are as good as random and go into the coder's state as they are.
//!
//! The coder is rANS (Duda, arXiv 1311.2540; interleaved as by Giesen, arXiv 1402.3392): 32 states of 32
//! bits, words of 16 bits, frequencies of 12 bits. Elements out of reach, infinities, NaN and the like are
//! stored behind an escape symbol; zeros have a symbol of their own. Tensors of few distinct values are coded
//! by a [`Palette`] instead, and chunks that would grow are stored.
//!
//! [`mod@reference`] defines decoding. Models are chosen, and chunks decoded fast, by `lagar-kernels`.

mod bits;
mod chunk;
mod element;
mod encode;
mod model;
mod place;
mod profile;
pub mod reference;
mod shape;
mod table;

pub use chunk::{Chunk, ChunkCode};
pub use element::Fields;
pub use encode::{ChunkEncoder, Coded, code_number};
pub use model::{ExactModel, Method, Palette, Scaled, Scales};
pub use place::{MOST_DEPTH, clamp_scale, place};
pub use profile::{CENTER, ESCAPE, FAR, KNOTS, MOST_SPECIAL, PRECISION, Profile, SLOTS, ZERO};
pub use shape::{ExactShape, ExactType};
pub use table::Entry;
