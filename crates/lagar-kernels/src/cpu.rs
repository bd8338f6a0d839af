//! The executor.

use crate::{Isa, Pool};

/// Runs whole operations on slices in host memory, with one instruction set and one thread pool.
///
/// Matrices are row-major. Slices of the wrong length are errors of the program, and panic.
#[derive(Debug)]
pub struct Cpu {
    isa: Isa,
    pool: Pool,
}

impl Cpu {
    /// An executor with `threads` threads, the caller's included.
    ///
    /// # Panics
    /// If this processor lacks the instruction set, and as [`Pool::new`] does.
    pub fn new(isa: Isa, threads: usize) -> Self {
        assert!(isa.is_available(), "this processor cannot run {isa}");
        Self {
            isa,
            pool: Pool::new(threads),
        }
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// The thread pool.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }
}
