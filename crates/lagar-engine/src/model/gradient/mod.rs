//! The backward pass: from a loss of the logits to gradients everywhere.
//!
//! [`Model::backward`](crate::Model::backward) takes one window of text forward, remembers the residual
//! stream before each block, and goes back block by block: a block is computed once more, by the same
//! code as in the forward pass, watched by an observer that keeps what its linears read and gave.
//! Then gradients flow through it, and a [`GradientObserver`] sees them. Memory is the residual stream
//! of the window once for each block, the values inside one block, and the logits of some positions.
//!
//! Weights may be dense or pressed; through a pressed linear the way back is `Ŵᵀ dy`, with rows of `Ŵ`
//! decoded strip by strip. Activations are f32 either way: int8 ones have no gradient.

mod block;
mod linear;
mod loss;
mod observer;
mod pass;
mod recorded;

pub use loss::{CrossEntropy, Kl, Loss, SampledCrossEntropy};
pub use observer::{GradientObserver, LinearGradient, NoGradientObserver};
