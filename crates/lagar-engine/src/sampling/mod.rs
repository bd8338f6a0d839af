//! Choosing the next token.

mod draws;
mod exponential;
mod options;
mod sampler;

pub(crate) use draws::Draws;
pub use options::SamplingOptions;
pub use sampler::{Sampler, most_likely};
