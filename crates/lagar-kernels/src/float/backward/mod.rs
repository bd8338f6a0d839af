//! Gradients of float operations: from `dLoss/dout` to `dLoss/dx`.
//!
//! A product `y = W x` needs no kernel of its own: `dx = Wᵀ dy` is [`Cpu::gemm_tn`](crate::Cpu::gemm_tn)
//! of the transposed `dy` and `W`. Nor does a rotation: its transpose rotates by the negated sines.

mod attention;
mod columns;
mod loss;
mod rows;

pub use attention::AttentionBackward;
