//! Turning the linears of one site into codes.

mod feedback;
mod hessian;
mod stage;
mod unit;

pub(crate) use feedback::Feedback;
pub(crate) use hessian::{Hessians, choose_transform, transform_hessian};
pub(crate) use stage::{Job, SiteCode, encode_site};
pub(crate) use unit::{Span, StoredLinear, Unit, UnitBuilder};
