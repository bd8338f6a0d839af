//! Presses checkpoints: calibration, encoding, evaluation, export.
//!
//! [`press()`] streams real text through the original model block by block, sums the second moments
//! of every linear's input, and codes each weight matrix against them.
//! [`evaluate()`] says how good a model is, alone or beside its original; [`score()`] how well it
//! answers the questions of a task.

mod assemble;
mod budget;
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
mod plan;
mod prepare;
mod press;
mod pressing;
mod progress;
mod random;
mod recipe;
mod refine;
mod restore;
mod rounds;
mod source;
mod stream;
mod tensors;
mod warnings;

pub use budget::{Bounds, Sensitivity};
pub use error::PressError;
pub use evaluate::{
    Answer, Comparison, Evaluation, EvaluationOptions, Evaluations, Example, PositionRange,
    Question, Task, TaskResult, Windows, evaluate, evaluate_all, score,
};
pub use export::{ExportDtype, export};
pub use measure::{MeasuredText, Measurement};
pub use options::{PressOptions, STAGE_TIERS, StageBits};
pub use plan::{Plan, PlannedTier, plan};
pub use press::{PressReport, Request, press};
pub use progress::{Progress, Silent};
pub use recipe::Recipe;
pub use refine::{MOST_EFFORT, Refinement};
pub use restore::{
    Damage, Difference, Differs, Restored, TierState, Verification, restore, restore_tensor, verify,
};
pub use tensors::{PressedStage, PressedTensor};
