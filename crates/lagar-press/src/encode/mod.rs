//! Turning the linears of one site into codes.

pub(crate) mod codebook;
mod eigen;
mod feedback;
mod hessian;
mod importance;
mod loss;
pub(crate) mod low_rank;
pub(crate) mod outliers;
mod stage;
mod strip;
mod tables;
mod unit;

pub(crate) use feedback::Feedback;
pub(crate) use hessian::{Hessians, choose_transform, transform_hessian};
pub(crate) use importance::of_tokens;
pub(crate) use loss::Loss;
pub(crate) use stage::{
    EncodedStage, Job, SiteCode, StageCode, encode_site, split_depths, table_record,
};
pub(crate) use tables::Tables;
pub(crate) use unit::{
    EncodedTerm, Span, StoredLinear, StoredSite, StoredTerm, StoredWindow, StoredWindows, Unit,
    UnitBuilder,
};
