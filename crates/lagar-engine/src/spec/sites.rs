//! The distinct vectors that linears read.

use super::{Mlp, ModelSpec};

/// Names a [`Site`]: its place in [`ModelSpec::sites`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(pub usize);

/// A vector that one or more linears read. They share its transform, its Hessian and, at run
/// time, its preparation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The site's name.
    pub id: SiteId,
    /// The block it lies in; `None` for the input of the head.
    pub layer: Option<usize>,
    /// Length of the vector.
    pub width: usize,
    /// The weight tensors that read it.
    pub linears: Vec<String>,
}

/// Sites of a block, in order.
pub(crate) const ATTENTION_INPUT: usize = 0;
pub(crate) const ATTENTION_OUTPUT: usize = 1;
pub(crate) const MLP_INPUT: usize = 2;
pub(crate) const MLP_OUTPUT: usize = 3;
const SITES_PER_BLOCK: usize = 4;

impl ModelSpec {
    /// Every distinct linear input, block by block in the order of the forward pass; the head's
    /// input is last. `sites()[i].id == SiteId(i)`.
    pub fn sites(&self) -> Vec<Site> {
        let mut sites = Vec::with_capacity(self.blocks.len() * SITES_PER_BLOCK + 1);
        for (layer, block) in self.blocks.iter().enumerate() {
            let attention = &block.attention;
            let Mlp::SwiGlu { gate, up, down } = &block.mlp;
            for group in [
                &[&attention.query, &attention.key, &attention.value][..],
                &[&attention.output],
                &[gate, up],
                &[down],
            ] {
                sites.push(Site {
                    id: SiteId(sites.len()),
                    layer: Some(layer),
                    width: group[0].inputs,
                    linears: group.iter().map(|linear| linear.weight.clone()).collect(),
                });
            }
        }
        sites.push(Site {
            id: self.head_site(),
            layer: None,
            width: self.head.inputs,
            linears: vec![self.head.weight.clone()],
        });
        sites
    }

    /// The site of the head's input.
    pub fn head_site(&self) -> SiteId {
        SiteId(self.blocks.len() * SITES_PER_BLOCK)
    }

    pub(crate) fn block_site(layer: usize, place: usize) -> SiteId {
        SiteId(layer * SITES_PER_BLOCK + place)
    }
}
