use crate::Isa;

/// What can go wrong before a kernel runs. Kernels themselves do not fail: slices of the wrong
/// length are errors of the program, and panic.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A name that stands for no instruction set.
    #[error("unknown instruction set \"{name}\"; known are {}", Isa::names())]
    UnknownIsa {
        /// The name that was given.
        name: String,
    },
    /// An instruction set that this processor lacks.
    #[error("this processor cannot run \"{}\"; the best it can run is \"{}\"", isa.name(), Isa::best().name())]
    UnavailableIsa {
        /// The instruction set that was asked for.
        isa: Isa,
    },
    /// A part of a window stage does not have the length of its layout.
    #[error("{what} of a {rows} × {cols} stage have {found} bytes; its layout needs {expected}")]
    StageLength {
        /// `"codes"`, `"scales"` or `"row scales"`.
        what: &'static str,
        /// Rows of the stage.
        rows: usize,
        /// Columns of the stage.
        cols: usize,
        /// Bytes of the layout.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// A column group has another depth than the stage's table.
    #[error("column group {group} has depth {depth}, but the stage's table {table_depth}")]
    StageDepth {
        /// The group.
        group: usize,
        /// Its depth.
        depth: u8,
        /// The depth of the table.
        table_depth: u8,
    },
}
