//! Looking at what linears read.

use crate::spec::SiteId;

/// Sees the inputs of linears during a forward pass: calibration, chiefly. It must not compute with
/// the same model: the pass holds weights that another one may have to wait for.
pub trait Observer {
    /// `n` vectors that the linears of a site are about to read, `x` being n × the site's width.
    fn input(&mut self, site: SiteId, x: &[f32], n: usize);
}

/// Looks at nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn input(&mut self, _: SiteId, _: &[f32], _: usize) {}
}
