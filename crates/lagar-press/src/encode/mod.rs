//! Turning the linears of one site into codes.

mod feedback;
mod hessian;
mod importance;
mod loss;
mod stage;
mod strip;
mod unit;

pub(crate) use feedback::Feedback;
pub(crate) use hessian::{Hessians, choose_transform, transform_hessian};
pub(crate) use importance::of_tokens;
pub(crate) use loss::Loss;
pub(crate) use stage::{Job, SiteCode, StageCode, encode_site, split_depths, trellis_table};
pub(crate) use unit::{
    Span, StoredLinear, StoredSite, StoredStage, StoredWindows, Unit, UnitBuilder,
};
