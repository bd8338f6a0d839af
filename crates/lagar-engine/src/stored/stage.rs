//! A pressed matrix in memory.

use std::sync::Arc;

use lagar_codec::{StageLayout, Table, Transform};
use lagar_format::Region;
use lagar_kernels::{KernelError, WindowStage};

/// `(Σ stages) · T`.
#[derive(Debug)]
pub(crate) struct Pressed {
    /// Shared by the linears that read the same vector.
    pub(crate) transform: Arc<Transform>,
    /// At least one.
    pub(crate) stages: Vec<Stage>,
}

/// A window stage of a pressed matrix.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) layout: StageLayout,
    pub(crate) table: Arc<Table>,
    pub(crate) codes: Region,
    pub(crate) scales: Region,
    pub(crate) row_scales: Region,
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
