//! Calibration text on its way through the original model, one block after the other.

use lagar_engine::{Model, Observer, Site};
use lagar_kernels::Cpu;

use crate::encode::Hessians;
use crate::{PressError, Progress};

/// Calibration tokens whose forward pass and Hessians cost about as much as coding the weights
/// they pass through: for the estimate of time left only.
const TOKENS_PER_CODING: u64 = 8192;

/// Steps that the forward pass of a layer counts as, next to one a weight for coding it.
pub(crate) fn reading_steps(sites: &[Site], tokens: usize) -> u64 {
    let weights: u64 = sites
        .iter()
        .map(|site| (site.width * site.width) as u64)
        .sum();
    weights * tokens as u64 / TOKENS_PER_CODING
}

/// The residual stream of every calibration window, between two blocks.
pub(crate) struct Stream<'a> {
    cpu: &'a Cpu,
    model: &'a Model,
    progress: &'a dyn Progress,
    /// `n × hidden` for each window.
    windows: Vec<Vec<f32>>,
}

impl<'a> Stream<'a> {
    /// Looks every token up.
    pub(crate) fn new(
        cpu: &'a Cpu,
        model: &'a Model,
        windows: impl Iterator<Item = Vec<u32>>,
        progress: &'a dyn Progress,
    ) -> Result<Self, PressError> {
        let look_up = |window: Vec<u32>| {
            let mut x = vec![0f32; window.len() * model.spec().hidden];
            model.embed(cpu, &window, &mut x)?;
            Ok(x)
        };
        Ok(Self {
            cpu,
            model,
            progress,
            windows: windows.map(look_up).collect::<Result<_, PressError>>()?,
        })
    }

    /// Takes all windows through one block, whose sites are given.
    pub(crate) fn layer(
        &mut self,
        layer: usize,
        sites: &[Site],
        hessians: &mut Hessians<'_>,
    ) -> Result<(), PressError> {
        let hidden = self.model.spec().hidden;
        let mut cache = self.model.layer_cache(layer);
        for x in &mut self.windows {
            if self.progress.cancelled() {
                return Err(PressError::Interrupted);
            }
            cache.truncate(0);
            let n = x.len() / hidden;
            self.model
                .layer(self.cpu, layer, x, n, &mut cache, hessians)?;
            self.progress.advance(reading_steps(sites, n));
        }
        Ok(())
    }

    /// Observes the input of the output head.
    pub(crate) fn head(&mut self, hessians: &mut Hessians<'_>) {
        let hidden = self.model.spec().hidden;
        for x in &mut self.windows {
            let n = x.len() / hidden;
            self.model.final_norm(self.cpu, x, n);
            hessians.input(self.model.spec().head_site(), x, n);
        }
    }
}
