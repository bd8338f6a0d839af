//! What can be wrong with a description of codes, tables, layouts and transforms.

use thiserror::Error;

/// A description that does not define a code.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CodecError {
    /// A table's depth is outside `1..=8`.
    #[error("table depth is {depth} bits per weight; it must be 1 to 8")]
    TableDepth {
        /// The depth found.
        depth: u8,
    },
    /// A table's window is neither as wide as its depth nor 8 bits.
    #[error("table of depth {depth} has windows of {window} bits; they must have {depth} or 8")]
    TableWindow {
        /// The table's depth.
        depth: u8,
        /// The window width found.
        window: u8,
    },
    /// A table does not have one level per window.
    #[error(
        "table with windows of {window} bits has {found} levels; it must have {}",
        1u32 << window
    )]
    TableLength {
        /// The window width.
        window: u8,
        /// The number of levels found.
        found: usize,
    },
    /// A split table's sign bit lies outside the half it must come from.
    #[error("sign bit of {half} is {bit}; it must be {first} to {last}", last = first + 3)]
    SignBit {
        /// `"A"` or `"B"`.
        half: &'static str,
        /// The bit found.
        bit: u8,
        /// The lowest bit allowed.
        first: u8,
    },
    /// A level of a split table does not fit 7 bits.
    #[error("split table: window {window} has level {level}; levels must be within ±63")]
    SplitLevel {
        /// The window.
        window: u8,
        /// Its level.
        level: i16,
    },
    /// A table's standard deviation is not a positive number.
    #[error("standard deviation of a table is {sigma}; it must be a positive number")]
    Sigma {
        /// The value found, as text.
        sigma: String,
    },
    /// A stage without rows or columns.
    #[error("shape {rows} × {cols} is empty; a stage needs at least one row and one column")]
    EmptyShape {
        /// Rows found.
        rows: usize,
        /// Columns found.
        cols: usize,
    },
    /// A stage does not have one depth per column group.
    #[error("{found} depths for {cols} columns; there must be {expected}, one per 128 columns")]
    DepthCount {
        /// Columns of the stage.
        cols: usize,
        /// Groups these columns make.
        expected: usize,
        /// Depths found.
        found: usize,
    },
    /// A group's depth is above 8.
    #[error("column group {group} has depth {depth}; depths must be 0 to 8")]
    GroupDepth {
        /// The group.
        group: usize,
        /// Its depth.
        depth: u8,
    },
    /// A lead byte or a padding byte of a stage's codes is not zero.
    #[error("byte {offset} of the codes is {found}; it must be zero")]
    NotZero {
        /// Its position in the codes.
        offset: usize,
        /// Its value.
        found: u8,
    },
    /// A stage's codes would not fit the address space.
    #[error("a stage of {rows} × {cols} weights is too large for this machine's address space")]
    TooLarge {
        /// Rows found.
        rows: usize,
        /// Columns found.
        cols: usize,
    },
    /// Gaps of a sparse stage have a width that there is not.
    #[error("gaps of a sparse stage have {gap_bytes} bytes; they must have 1 or 2")]
    GapBytes {
        /// The width found.
        gap_bytes: u8,
    },
    /// A sparse stage does not have one count per padded row.
    #[error("{found} bytes of counts for {rows} rows; there must be {expected}")]
    CountsLength {
        /// Rows of the stage.
        rows: usize,
        /// Bytes needed.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// A row of a sparse stage has more entries than it can have.
    #[error("row {row} of a sparse stage has {count} entries; it can have {most} at most")]
    RowEntries {
        /// The row.
        row: usize,
        /// Its number of entries.
        count: u16,
        /// Its number of columns, or 0 if it is padding.
        most: usize,
    },
    /// An entry of a sparse stage lies behind the last column.
    #[error(
        "row {row} of a sparse stage has an entry in column {column}; there are {cols} columns"
    )]
    EntryColumn {
        /// The row.
        row: usize,
        /// The column.
        column: usize,
        /// Columns of the stage.
        cols: usize,
    },
    /// A value of a sparse stage is no number.
    #[error(
        "row {row}, column {column} of a sparse stage has the half-precision value {value:#06x}, which is not finite"
    )]
    EntryValue {
        /// The row.
        row: usize,
        /// The column.
        column: usize,
        /// The bits of the value.
        value: u16,
    },
    /// A transform's width is 0 or more than 2³¹.
    #[error(
        "transform width is {width}; it must be 1 to {}",
        crate::transform::MAX_WIDTH
    )]
    TransformWidth {
        /// The width found.
        width: usize,
    },
    /// A permutation or sign vector does not have one entry per column.
    #[error("{what} of a transform of width {width} has {found} entries; it must have {width}")]
    TransformLength {
        /// `"permutation"` or `"signs"`.
        what: &'static str,
        /// The transform's width.
        width: usize,
        /// Entries found.
        found: usize,
    },
    /// A permutation names a column that does not exist.
    #[error("permutation entry {position} is column {column}; the transform has {width} columns")]
    PermutationRange {
        /// The entry.
        position: usize,
        /// The column it names.
        column: u32,
        /// The transform's width.
        width: usize,
    },
    /// A permutation names a column twice.
    #[error("permutation entry {position} repeats column {column}")]
    PermutationRepeat {
        /// The second entry that names the column.
        position: usize,
        /// The column.
        column: u32,
    },
    /// A tensor without elements was given to the exact coder.
    #[error("shape {rows} × {cols} is empty; there is nothing to code")]
    ExactEmpty {
        /// Rows found.
        rows: usize,
        /// Columns found.
        cols: usize,
    },
    /// A tensor of the exact coder would not fit the address space.
    #[error("a tensor of {rows} × {cols} elements is too large for this machine's address space")]
    ExactTooLarge {
        /// Rows found.
        rows: usize,
        /// Columns found.
        cols: usize,
    },
    /// The bytes of an exact model do not describe one.
    #[error("the exact coder's model is damaged: {what} is {found}; it must be {expected}")]
    ExactModel {
        /// The field.
        what: &'static str,
        /// Its value.
        found: usize,
        /// What would be right.
        expected: &'static str,
    },
    /// The bytes of an exact model end early, or go on after its end.
    #[error("the exact coder's model has {found} bytes, which is not its length")]
    ExactModelLength {
        /// Bytes there are.
        found: usize,
    },
    /// The code of a chunk was not written by the encoder.
    #[error("the exact code of chunk {chunk} is damaged: {what}")]
    ExactCode {
        /// The chunk.
        chunk: usize,
        /// What is wrong with it.
        what: &'static str,
    },
}
