//! What a block's linears read and give, kept for the way back.

use crate::model::Observer;
use crate::spec::SiteId;

/// Sites of a block.
const SITES: usize = 4;
/// The most linears that share one.
const LINEARS: usize = 3;

/// Keeps the vectors at the sites of one block and the products of its linears.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    first: usize,
    inputs: [Vec<f32>; SITES],
    outputs: [[Vec<f32>; LINEARS]; SITES],
}

impl Recorded {
    /// Starts over with the block whose first site this is.
    pub(super) fn begin(&mut self, site: SiteId) {
        self.first = site.0;
    }

    /// What the linears at a place in the block read.
    pub(super) fn input(&self, place: usize) -> &[f32] {
        &self.inputs[place]
    }

    /// What one of them gives, without its bias.
    pub(super) fn output(&self, (place, at): (usize, usize)) -> &[f32] {
        &self.outputs[place][at]
    }
}

impl Observer for Recorded {
    fn input(&mut self, site: SiteId, x: &[f32], _: usize) {
        keep(&mut self.inputs[site.0 - self.first], x);
    }

    fn output(&mut self, site: SiteId, linear: usize, y: &[f32], _: usize) {
        keep(&mut self.outputs[site.0 - self.first][linear], y);
    }
}

fn keep(buffer: &mut Vec<f32>, values: &[f32]) {
    buffer.clear();
    buffer.extend_from_slice(values);
}
