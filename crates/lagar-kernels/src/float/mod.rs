//! Float operations: norms, activations, attention, and products of dense matrices; and the way back
//! through them.

mod attention;
mod backward;
mod dense;
mod exp;
mod kv;
mod rope;
mod rows;
#[cfg(test)]
mod tests;

pub use attention::AttentionArgs;
pub use backward::AttentionBackward;
pub use dense::DenseWeight;
pub use kv::{KvCache, KvFormat, KvPush};
