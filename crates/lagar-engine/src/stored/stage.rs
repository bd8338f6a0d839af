//! A pressed matrix in memory.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use lagar_codec::{SparseLayout, StageLayout, Table, Transform};
use lagar_format::Region;
use lagar_kernels::{Cpu, KernelError, PredictScratch, SparseStage, WindowStage};

/// `(Σ stages + Σ low rank) · T + Σ sparse`.
#[derive(Clone, Debug)]
pub(crate) struct Pressed {
    /// Shared by the linears that read the same vector.
    pub(crate) transform: Arc<Transform>,
    /// At least one.
    pub(crate) stages: Vec<Stage>,
    pub(crate) low_rank: Vec<LowRank>,
    pub(crate) sparse: Vec<Sparse>,
}

impl Pressed {
    /// Bytes that a product reads of the matrix.
    pub(crate) fn bytes(&self) -> u64 {
        let factors = self.low_rank.iter().flat_map(|l| [&l.v, &l.u]);
        let dense = self
            .stages
            .iter()
            .chain(factors)
            .map(|stage| stage.codes.len() + stage.scales.len() + stage.row_scales.len());
        let sparse = self.sparse.iter().map(|s| s.gaps.len() + s.values.len());
        dense.chain(sparse).sum::<usize>() as u64
    }

    /// The window stages as the kernels take them.
    pub(crate) fn stage_views(&self) -> Vec<WindowStage<'_>> {
        self.stages.iter().map(Stage::checked_view).collect()
    }

    /// Writes rows of the matrix in the space of its input, the first a multiple of 16; `out` is rows ×
    /// columns. Works on the calling thread. The bits are those that the exact coder predicts by.
    pub(crate) fn predict(
        &self,
        cpu: &Cpu,
        rows: Range<usize>,
        scratch: &mut PredictScratch,
        out: &mut [f32],
    ) {
        let stages = self.stage_views();
        let u: Vec<_> = self.low_rank.iter().map(|l| l.u.checked_view()).collect();
        let factors = u.iter().zip(&self.low_rank);
        let factors: Vec<_> = factors
            .map(|(u, low_rank)| lagar_kernels::LowRank {
                u,
                v: low_rank.dense_v(cpu),
            })
            .collect();
        cpu.predict_rows(
            &stages,
            &factors,
            &self.transform,
            rows.clone(),
            scratch,
            out,
        );
        for stage in &self.sparse {
            cpu.add_sparse(&stage.checked_view(), rows.clone(), out);
        }
    }
}

/// A window stage of a pressed matrix.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) layout: StageLayout,
    pub(crate) table: Arc<Table>,
    pub(crate) codes: Region,
    pub(crate) scales: Region,
    pub(crate) row_scales: Region,
}

/// A low-rank stage of a pressed matrix.
#[derive(Clone, Debug)]
pub(crate) struct LowRank {
    /// Rank × columns.
    pub(crate) v: Stage,
    /// Rows × rank.
    pub(crate) u: Stage,
    /// The weights of `v`, once anybody needs them as such.
    dense: OnceLock<Vec<f32>>,
}

/// A sparse stage of a pressed matrix.
#[derive(Clone, Debug)]
pub(crate) struct Sparse {
    pub(crate) layout: SparseLayout,
    pub(crate) gaps: Region,
    pub(crate) values: Region,
}

impl Stage {
    pub(super) fn view(&self) -> Result<WindowStage<'_>, KernelError> {
        WindowStage::new(
            &self.layout,
            &self.table,
            &self.codes,
            &self.scales,
            &self.row_scales,
        )
    }

    /// The stage as the kernels take it.
    pub(crate) fn checked_view(&self) -> WindowStage<'_> {
        self.view().expect("the stage was checked on loading")
    }
}

impl LowRank {
    pub(super) fn new(v: Stage, u: Stage) -> Self {
        let dense = OnceLock::new();
        Self { v, u, dense }
    }

    /// Rows of `v`, columns of `u`.
    pub(crate) fn rank(&self) -> usize {
        self.v.layout.rows()
    }

    /// The weights of `v`, rank × padded columns. They are kept: not more than 32 times its codes.
    pub(crate) fn dense_v(&self, cpu: &Cpu) -> &[f32] {
        self.dense.get_or_init(|| {
            let rows: Vec<u32> = (0..self.rank() as u32).collect();
            let mut out = vec![0.0; self.rank() * self.v.layout.padded_cols()];
            cpu.window_rows(&self.v.checked_view(), &rows, &mut out);
            out
        })
    }
}

impl Sparse {
    pub(super) fn view(&self) -> Result<SparseStage<'_>, KernelError> {
        SparseStage::new(&self.layout, &self.gaps, &self.values)
    }

    /// The stage as the kernels take it.
    pub(crate) fn checked_view(&self) -> SparseStage<'_> {
        self.view().expect("the stage was checked on loading")
    }
}
