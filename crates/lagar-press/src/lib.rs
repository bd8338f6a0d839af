//! Presses checkpoints: calibration, encoding, evaluation, export.
//!
//! [`press()`] streams real text through the original model block by block, sums the second moments
//! of every linear's input, and codes each weight matrix against them.
//! [`evaluate()`] says how good a model is, alone or beside its original.

mod assemble;
mod calibration;
mod encode;
mod error;
mod evaluate;
mod exact;
mod export;
mod hash;
mod measure;
mod options;
mod partial;
mod press;
mod progress;
mod random;
mod restore;
mod source;

pub use error::PressError;
pub use evaluate::{Evaluation, EvaluationOptions, PositionRange, Windows, evaluate};
pub use export::{ExportDtype, export};
pub use measure::{MeasuredText, Measurement};
pub use options::{PressOptions, STAGE_TIERS};
pub use press::{PressReport, Request, press};
pub use progress::{Progress, Silent};
pub use restore::{
    Damage, Difference, Differs, Restored, TierState, Verification, restore, restore_tensor, verify,
};
