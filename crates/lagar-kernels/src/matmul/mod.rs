//! Products of pressed linears, straight from their codes.
//!
//! A pressed linear computes `y = Ŵ (T x)`: [`Cpu::transform_to_bytes`] makes `T x` and rounds it, and
//! [`Cpu::window_matmul_int8`] multiplies it with a [`WindowStage`]; [`Cpu::window_matmul_f32`] takes `T x` as
//! [`Cpu::transform`] makes it. All return the bits of [`lagar_codec::reference`],
//! on every instruction set, for any number of threads and in any batch.
//!
//! [`Cpu::sparse_matmul`] adds the product of a [`SparseStage`] with the vectors as they were before the
//! transform. A low-rank stage is two products, that of its second factor being rounded in between.
//!
//! [`Cpu::predict_rows`] undoes the transform instead: it gives `Ŵ T`, chunk by chunk, to which
//! [`Cpu::add_sparse`] adds what is sparse.
//!
//! Work on bytes, decoding windows and dot products, is written per instruction set
//! ([`tile::Ops`]); other float work is written once over [`crate::simd::Simd`].

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod float32;
mod int8;
mod lookup;
mod low_rank;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod predict;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod quads;
mod rows;
mod sparse;
mod stage;
mod tasks;
#[cfg(test)]
mod tests;
mod tile;
mod transform;

pub(crate) use transform::{Hadamard, largest};

use std::cell::RefCell;
use std::slice;

use lagar_codec::Activations;

use crate::{Cpu, Disjoint, Isa};
use float32::Float32Task;
use int8::{Int8Task, Scratch};
pub use predict::{LowRank, PredictScratch};
pub use sparse::SparseStage;
pub use stage::WindowStage;
use tasks::{Output, Task, Tasks};
use tile::Ops;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Computes at least this many products of bytes and their sums, operands in registers, on the calling thread: how long that
/// takes is the limit of [`Cpu::window_matmul_int8`] with many vectors.
///
/// # Panics
/// If this processor lacks the instruction set.
pub(crate) fn int8_peak(isa: Isa, products: u64) {
    assert!(isa.is_available(), "this processor cannot run {isa}");
    // SAFETY: these are the operations of an instruction set that this processor has.
    unsafe { (Ops::of(isa).peak)(products) }
}

/// Whether AMX computes what its kernel expects, on a processor that has it and AVX-512, in a process that may use it.
#[cfg(target_arch = "x86_64")]
pub(crate) fn amx_works() -> bool {
    // SAFETY: the caller has found both, and has been given leave.
    unsafe { amx::works() }
}

/// One of the products of [`Cpu::window_matmuls_int8`] and [`Cpu::window_matmuls_f32`].
#[derive(Debug)]
pub struct WindowProduct<'a> {
    /// Their sum is the matrix: at least one, all of one shape.
    pub stages: &'a [WindowStage<'a>],
    /// Vectors × rows.
    pub y: &'a mut [f32],
    /// Whether the product is added to what is in `y`.
    pub add: bool,
}

impl Cpu {
    /// `y[v, r] (+)= Σ_c w[r, c] x[v, c]`, with `x` the `n` vectors rounded to bytes and `y` `n × rows`;
    /// added to what is there if `add` is set. [`lagar_codec::reference::matmul_int8`] defines the bits.
    ///
    /// # Panics
    ///
    /// If `x` does not have the stage's padded columns or `y` not `n · rows` values.
    pub fn window_matmul_int8(
        &self,
        w: &WindowStage<'_>,
        x: &Activations,
        y: &mut [f32],
        add: bool,
    ) {
        let stages = slice::from_ref(w);
        self.window_matmuls_int8(&mut [WindowProduct { stages, y, add }], x);
    }

    /// Several products with the same vectors, stage by stage as [`Cpu::window_matmul_int8`] computes them, as one piece of work: threads
    /// wait for each other once.
    ///
    /// # Panics
    ///
    /// As there, and if a product has no stages or they differ in shape.
    pub fn window_matmuls_int8(&self, products: &mut [WindowProduct<'_>], x: &Activations) {
        let (n, width, groups) = (x.n, x.padded_width, x.groups());
        assert!(x.q.len() == n * width && x.scale.len() == n * groups && x.sum.len() == n * groups);
        self.window_products(products, n, width, |ops, stage, task, output, scratch| {
            Int8Task {
                ops,
                stage,
                x,
                task,
                output,
                scratch,
            }
            .run(self.isa());
        });
    }

    /// `y[v, r] (+)= Σ_c w[r, c] x[v, c]` in f32: `x` is `n × padded_cols`, transformed, `y` `n × rows`;
    /// added to what is there if `add` is set. [`lagar_codec::reference::matmul_f32`] defines the bits.
    ///
    /// # Panics
    ///
    /// If `x` does not have `n · padded_cols` values or `y` not `n · rows`.
    pub fn window_matmul_f32(
        &self,
        w: &WindowStage<'_>,
        x: &[f32],
        n: usize,
        y: &mut [f32],
        add: bool,
    ) {
        let stages = slice::from_ref(w);
        self.window_matmuls_f32(&mut [WindowProduct { stages, y, add }], x, n);
    }

    /// [`Cpu::window_matmuls_int8`] as [`Cpu::window_matmul_f32`] computes them.
    ///
    /// # Panics
    ///
    /// As they do.
    pub fn window_matmuls_f32(&self, products: &mut [WindowProduct<'_>], x: &[f32], n: usize) {
        let Some(first) = products.first() else {
            return;
        };
        let width = first.stages[0].layout().padded_cols();
        assert_eq!(x.len(), n * width, "vectors × padded columns");
        self.window_products(products, n, width, |ops, stage, task, output, scratch| {
            self.isa().dispatch(Float32Task {
                ops,
                stage,
                x,
                task,
                output,
                scratch,
            });
        });
    }

    /// Cuts products with `n` vectors of `width` padded columns into tasks and does `work` for each stage of each of them, on any
    /// thread, with that thread's scratch memory.
    fn window_products(
        &self,
        products: &mut [WindowProduct<'_>],
        n: usize,
        width: usize,
        work: impl Fn(Ops, &WindowStage<'_>, &Task, Output<'_>, &mut Scratch) + Sync,
    ) {
        for product in &*products {
            let rows = product.stages[0].layout().rows();
            for stage in product.stages {
                let layout = stage.layout();
                assert_eq!(layout.rows(), rows, "rows of stages");
                assert_eq!(
                    layout.padded_cols(),
                    width,
                    "columns of activations and stage"
                );
            }
            assert_eq!(product.y.len(), n * rows, "vectors × rows");
        }
        if n == 0 || products.is_empty() {
            return;
        }
        let ops = Ops::of(self.isa());
        let layouts = products.iter().map(|product| product.stages[0].layout());
        let tasks = Tasks::new(layouts, n, self.pool());
        let products: Vec<_> = products
            .iter_mut()
            .map(|product| {
                let output = Output {
                    y: Disjoint::new(product.y),
                    add: product.add,
                };
                (product.stages, output)
            })
            .collect();
        self.pool().run_alike(tasks.len(), &|index| {
            let Some((product, task)) = tasks.get(index) else {
                return;
            };
            let (stages, mut output) = products[product];
            SCRATCH.with_borrow_mut(|scratch| {
                for stage in stages {
                    work(ops, stage, &task, output, scratch);
                    output.add = true;
                }
            });
        });
    }
}
