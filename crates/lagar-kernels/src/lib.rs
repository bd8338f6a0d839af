//! The fast paths of lagar: multiplication, encoding and float kernels, with run-time dispatch.
//!
//! [`Cpu`] is the executor: it holds an instruction set ([`Isa`]) and a thread [`Pool`], and offers
//! whole operations on slices in host memory. Every algorithm is written once over the small trait
//! [`simd::Simd`], whose vectors have 16 lanes on every machine, and instantiated per instruction
//! set by [`Isa::dispatch`].
//!
//! **The same bits everywhere.** Float kernels use 16 virtual lanes (element `i` in lane `i % 16`),
//! fused multiply-add, and a fixed tree to add the lanes up. So a result depends neither on the
//! instruction set nor on the number of threads, nor on what else was in the batch.
//!
//! This is the only crate of the workspace with `unsafe` code.

mod cpu;
mod error;
mod exact;
mod float;
mod gemm;
mod isa;
mod matmul;
mod pool;
mod probe;
pub mod simd;
mod viterbi;

pub use cpu::Cpu;
pub use error::KernelError;
pub use exact::ExactSource;
pub use float::{AttentionArgs, AttentionBackward, DenseWeight, KvCache, KvFormat, KvPush};
pub use isa::Isa;
pub use matmul::{LowRank, PredictScratch, SparseStage, WindowProduct, WindowStage};
pub use pool::{Disjoint, Pool};
pub use viterbi::Encoder;
