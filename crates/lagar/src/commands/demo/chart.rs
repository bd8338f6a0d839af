//! The demo's charts: what is lost against size.

use super::report::Row;
use crate::page::chart::{Axis, LEFT, RIGHT, WIDTH, frame, series, x, y};
use std::fmt::Write;

const ACROSS: &str = "bits per parameter, whole file";

fn pressed(rows: &[Row]) -> impl Iterator<Item = &Row> {
    rows.iter().filter(|row| row.bits.is_some())
}

/// Perplexity against size, the original included.
pub(super) fn perplexity(rows: &[Row]) -> String {
    let low = rows
        .iter()
        .map(|r| r.perplexity)
        .fold(f64::INFINITY, f64::min);
    let high = rows.iter().map(|r| r.perplexity).fold(0.0, f64::max);
    let widest = rows
        .iter()
        .map(|r| r.bits_per_parameter)
        .fold(0.0, f64::max);
    let (across, up) = (
        Axis::linear(0.0, widest),
        Axis::linear(low * 0.98, high * 1.02),
    );
    let mut svg = String::new();
    frame(
        &mut svg,
        "Perplexity against size",
        (&across, ACROSS),
        (&up, "perplexity (lower is better)"),
    );
    if let Some(original) = rows.iter().find(|r| r.bits.is_none()) {
        let at = y(&up, original.perplexity);
        let _ = writeln!(
            svg,
            r#"<line class="reference" x1="{LEFT}" y1="{at:.1}" x2="{:.1}" y2="{at:.1}"/>"#,
            WIDTH - RIGHT
        );
    }
    let mut by_size: Vec<&Row> = rows.iter().collect();
    by_size.sort_by(|a, b| a.bits_per_parameter.total_cmp(&b.bits_per_parameter));
    let points: Vec<_> = by_size
        .into_iter()
        .map(|r| {
            let tip = format!(
                "{}: {:.2} bits per parameter, perplexity {:.2}",
                r.name, r.bits_per_parameter, r.perplexity
            );
            (
                x(&across, r.bits_per_parameter),
                y(&up, r.perplexity),
                r.name.clone(),
                tip,
            )
        })
        .collect();
    series(&mut svg, &points);
    svg.push_str("</svg>");
    svg
}

/// Divergence from the original against size, on a logarithmic scale; the original is at no finite place.
pub(super) fn divergence(rows: &[Row]) -> String {
    let smallest = f64::MIN_POSITIVE.sqrt();
    let low = pressed(rows)
        .map(|r| r.kl_mean)
        .fold(f64::INFINITY, f64::min)
        .max(smallest);
    let high = pressed(rows)
        .map(|r| r.kl_mean)
        .fold(0.0, f64::max)
        .max(smallest);
    let from = pressed(rows)
        .map(|r| r.bits_per_parameter)
        .fold(f64::INFINITY, f64::min);
    let to = pressed(rows)
        .map(|r| r.bits_per_parameter)
        .fold(0.0, f64::max);
    let (across, up) = (
        Axis::linear(from - 0.25, to + 0.25),
        Axis::logarithmic(low, high),
    );
    let mut svg = String::new();
    frame(
        &mut svg,
        "Divergence from the original against size",
        (&across, ACROSS),
        (&up, "KL in nats (log scale)"),
    );
    let points: Vec<_> = pressed(rows)
        .map(|r| {
            let tip = format!(
                "{}: {:.2} bits per parameter, KL {:.4} nats",
                r.name, r.bits_per_parameter, r.kl_mean
            );
            (
                x(&across, r.bits_per_parameter),
                y(&up, r.kl_mean.max(smallest)),
                r.name.clone(),
                tip,
            )
        })
        .collect();
    series(&mut svg, &points);
    svg.push_str("</svg>");
    svg
}
