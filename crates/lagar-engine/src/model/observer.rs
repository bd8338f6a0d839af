//! Looking at what linears read and give.

use crate::spec::SiteId;

/// Sees the inputs of linears, and what they give, during a forward pass: calibration, chiefly. It must not compute with
/// the same model: the pass holds weights that another one may have to wait for.
pub trait Observer {
    /// `n` vectors that the linears of a site are about to read, `x` being n × the site's width.
    fn input(&mut self, site: SiteId, x: &[f32], n: usize);

    /// What a linear of a site in a block makes of them, before its bias: `linear` is its place among
    /// the site's linears, `y` n × outputs.
    fn output(&mut self, site: SiteId, linear: usize, y: &[f32], n: usize) {
        let _ = (site, linear, y, n);
    }
}

/// Looks at nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn input(&mut self, _: SiteId, _: &[f32], _: usize) {}
}
