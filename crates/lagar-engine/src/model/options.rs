//! How a model computes.

use std::num::NonZero;

use lagar_kernels::{Cpu, Isa, KvFormat};

/// The arithmetic of pressed linears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activations {
    /// Inputs are rounded to bytes, one scale for each group of 128 columns; sums of products are
    /// exact integers. The fast path.
    #[default]
    Int8,
    /// Inputs stay f32.
    F32,
}

/// How a model computes. The default is the fast path for what the model is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelOptions {
    /// The arithmetic of pressed linears. Dense ones always take f32 inputs.
    pub activations: Activations,
    /// How cached keys and values are stored; by default F16 for pressed weights with int8
    /// activations, else F32.
    pub kv: Option<KvFormat>,
    /// The tier up to which a file's weights stay in memory. Those of the tiers above it, up to the
    /// one that runs, are read from the disk for every pass. By default everything stays.
    pub resident: Option<String>,
    /// Bytes of memory for weights that are read from the disk: at least one block is held. By
    /// default two, so that the next one is read while one is in use; what fits beyond that is not
    /// read again in every pass.
    pub window: Option<u64>,
    /// Copy the weights of a file that stay in memory to large pages, where the system has them, instead of mapping the
    /// file: opening takes longer, and products may be faster.
    pub huge_pages: bool,
    /// Instruction set and number of threads for decoding the weights of tier `full`, which happens
    /// while a model is opened; by default the best one and all processors. (Passes use the
    /// executor that they are given.)
    pub decoding: Option<(Isa, usize)>,
}

impl ModelOptions {
    /// The options with this arithmetic.
    #[must_use]
    pub fn with_activations(mut self, activations: Activations) -> Self {
        self.activations = activations;
        self
    }

    /// The options with cached keys and values in this format.
    #[must_use]
    pub fn with_kv(mut self, kv: KvFormat) -> Self {
        self.kv = Some(kv);
        self
    }

    /// The options with only this tier and those below it in memory.
    #[must_use]
    pub fn with_resident(mut self, tier: impl Into<String>) -> Self {
        self.resident = Some(tier.into());
        self
    }

    /// The options with so many bytes of memory for weights read from the disk.
    #[must_use]
    pub fn with_window(mut self, bytes: u64) -> Self {
        self.window = Some(bytes);
        self
    }

    /// The options with weights in large pages, or in the mapped file.
    #[must_use]
    pub fn with_huge_pages(mut self, huge_pages: bool) -> Self {
        self.huge_pages = huge_pages;
        self
    }

    /// The options with this executor for decoding while a model is opened.
    #[must_use]
    pub fn with_decoding(mut self, isa: Isa, threads: usize) -> Self {
        self.decoding = Some((isa, threads));
        self
    }

    /// An executor for decoding.
    pub(super) fn cpu(&self) -> Cpu {
        let (isa, threads) = self.decoding.unwrap_or_else(|| {
            let threads = std::thread::available_parallelism();
            (Isa::best(), threads.map_or(1, NonZero::get))
        });
        Cpu::new(isa, threads)
    }
}
