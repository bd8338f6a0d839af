//! Looking at gradients.

use crate::spec::SiteId;

/// A linear on the way back, `y = W x` without its bias.
///
/// The gradient of the weight, which nobody computes unasked, is `dyᵀ x`; that of a factor of row `r`
/// of `W`, at 1, is `Σ dy[t, r] · y[t, r]` over the vectors.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LinearGradient<'a> {
    /// The name of the weight's tensor.
    pub weight: &'a str,
    /// The site whose vectors it reads.
    pub site: SiteId,
    /// The number of vectors.
    pub n: usize,
    /// What it reads, n × inputs.
    pub x: &'a [f32],
    /// What it gives, n × outputs.
    pub y: &'a [f32],
    /// The gradient of the loss, n × outputs.
    pub dy: &'a [f32],
}

/// Sees the gradients of a window on their way back, from the head to the embedding. It must not
/// compute with the same model: the pass holds weights that another one may have to wait for.
///
/// Gradients are those of the summed loss of the window. The head comes in pieces of positions, as
/// several calls with the same name, and so does its bias: gradients of a tensor are the sums over all
/// calls. A tied embedding has two shares: [`GradientObserver::linear`] sees the head's and
/// [`GradientObserver::embedding`] that of the look-up.
pub trait GradientObserver {
    /// A linear.
    fn linear(&mut self, linear: &LinearGradient<'_>) {
        let _ = linear;
    }

    /// The gradient of a norm's weights, summed over tokens (and heads).
    fn norm(&mut self, name: &str, dweight: &[f32]) {
        let _ = (name, dweight);
    }

    /// The gradient of a bias, summed over tokens.
    fn bias(&mut self, name: &str, dbias: &[f32]) {
        let _ = (name, dbias);
    }

    /// The rows of the embedding that were looked up, and their gradient, both tokens × hidden.
    fn embedding(&mut self, tokens: &[u32], rows: &[f32], drows: &[f32]) {
        let _ = (tokens, rows, drows);
    }
}

/// Looks at nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoGradientObserver;

impl GradientObserver for NoGradientObserver {}
