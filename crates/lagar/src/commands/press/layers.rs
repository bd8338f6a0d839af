//! Bits of each layer as a chart.

use super::report::TensorLine;
use crate::page::chart::{self, Axis};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A bar for each layer, in pieces: one for each stage.
pub(super) fn bits(tensors: &[TensorLine]) -> String {
    // For each layer its weights, and the bits of each stage.
    let mut layers: BTreeMap<usize, (f64, Vec<f64>)> = BTreeMap::new();
    for tensor in tensors {
        let Some(layer) = tensor.layer else { continue };
        let weights = tensor.shape.iter().product::<usize>() as f64;
        let (all, bits) = layers.entry(layer).or_default();
        *all += weights;
        bits.resize(tensor.tiers.len(), 0.0);
        for (sum, tier) in bits.iter_mut().zip(&tensor.tiers) {
            *sum += tier.bits_per_weight * weights;
        }
    }
    let count = layers.keys().last().map_or(0, |last| last + 1);
    let totals = layers
        .values()
        .map(|(all, bits)| bits.iter().sum::<f64>() / all);
    let up = Axis::linear(0.0, totals.fold(1.0, f64::max));
    let across = Axis::places(count);
    let mut svg = String::new();
    chart::frame(
        &mut svg,
        "Bits per weight of each layer",
        (&across, "layer"),
        (&up, "bits per weight"),
    );
    for (layer, (all, bits)) in &layers {
        let place = *layer as f64;
        let gap = 0.12;
        let left = chart::x(&across, place - 0.5 + gap);
        let right = chart::x(&across, place + 0.5 - gap);
        let mut below = 0.0;
        for (stage, bits) in bits.iter().enumerate() {
            let above = below + bits / all;
            let (top, bottom) = (chart::y(&up, above), chart::y(&up, below));
            let _ = writeln!(
                svg,
                r#"<rect class="stage{stage}" x="{left:.1}" y="{top:.1}" width="{:.1}" height="{:.1}"><title>layer {layer}: {above:.3} bits per weight{}</title></rect>"#,
                right - left,
                bottom - top,
                if stage == 0 { "" } else { " with this stage" }
            );
            below = above;
        }
    }
    svg.push_str("</svg>");
    svg
}
