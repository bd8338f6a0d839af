//! Float operations: norms, activations, attention, and products of dense matrices.

mod attention;
mod dense;
mod exp;
mod kv;
mod rope;
mod rows;
#[cfg(test)]
mod tests;

pub use attention::AttentionArgs;
pub use dense::DenseWeight;
pub use kv::{KvCache, KvFormat};
