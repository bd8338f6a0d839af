//! The exact section: every file of the checkpoint folder, byte for byte.
//!
//! [`plan()`] cuts the folder's files into small files that every tier carries, tensors and other
//! bytes, and hashes all of it. [`finish()`] codes each tensor against what the tiers below predict
//! puts the section behind them and decodes the result before it gets its name.

mod blob;
mod folder;
mod plan;
mod press;
mod section;
mod tensor;
mod unit;

pub(crate) use folder::{Folder, FolderFile};
pub(crate) use plan::is_indexable;
pub(crate) use press::{finish, plan, press_alone};
pub(crate) use section::Below;
