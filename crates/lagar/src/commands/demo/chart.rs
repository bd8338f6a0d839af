//! A chart as inline SVG: a logarithmic or linear scale upwards, file size to the right.

use super::report::Row;
use std::fmt::Write;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 64.0;
/// Room for the label of the last dot.
const RIGHT: f64 = 60.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 52.0;

/// An axis from `low` to `high` with labelled ticks.
struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
    logarithmic: bool,
}

impl Axis {
    /// Round steps that cover `from..=to`, about five of them.
    fn linear(from: f64, to: f64) -> Self {
        let span = (to - from).max(1e-9);
        let magnitude = 10f64.powf((span / 5.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|m| m * magnitude)
            .find(|step| span / step <= 6.0)
            .unwrap_or(10.0 * magnitude);
        let first = (from / step).floor();
        let last = (to / step).ceil().max(first + 1.0);
        let ticks = (first as i64..=last as i64)
            .map(|i| i as f64 * step)
            .collect();
        Self {
            low: first * step,
            high: last * step,
            ticks,
            logarithmic: false,
        }
    }

    /// Powers of ten that cover `from..=to`, both above 0.
    fn logarithmic(from: f64, to: f64) -> Self {
        let (first, last) = (from.log10().floor(), to.log10().ceil());
        let last = if last > first { last } else { first + 1.0 };
        let ticks = (first as i32..=last as i32)
            .map(|e| 10f64.powi(e))
            .collect();
        Self {
            low: 10f64.powf(first),
            high: 10f64.powf(last),
            ticks,
            logarithmic: true,
        }
    }

    /// Where `value` lies on the axis: 0 at its low end, 1 at its high end.
    fn place(&self, value: f64) -> f64 {
        if self.logarithmic {
            (value.log10() - self.low.log10()) / (self.high.log10() - self.low.log10())
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    fn label(&self, value: f64) -> String {
        let step = match self.ticks[..] {
            [first, second, ..] if !self.logarithmic => second - first,
            _ => value,
        };
        let digits = if step >= 1.0 {
            0
        } else {
            (-step.log10()).ceil() as usize
        };
        format!("{value:.digits$}")
    }
}

fn x(axis: &Axis, value: f64) -> f64 {
    LEFT + axis.place(value) * (WIDTH - LEFT - RIGHT)
}

fn y(axis: &Axis, value: f64) -> f64 {
    HEIGHT - BOTTOM - axis.place(value) * (HEIGHT - TOP - BOTTOM)
}

fn frame(svg: &mut String, title: &str, across: &Axis, up: &Axis, up_name: &str) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let _ = writeln!(
        svg,
        r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}" xmlns="http://www.w3.org/2000/svg"><title>{title}</title>"#
    );
    for &tick in &up.ticks {
        let at = y(up, tick);
        let _ = writeln!(
            svg,
            r#"<line class="grid" x1="{LEFT}" y1="{at:.1}" x2="{right}" y2="{at:.1}"/><text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            LEFT - 8.0,
            at + 4.0,
            up.label(tick)
        );
    }
    for &tick in &across.ticks {
        let at = x(across, tick);
        let _ = writeln!(
            svg,
            r#"<line class="axis" x1="{at:.1}" y1="{bottom}" x2="{at:.1}" y2="{:.1}"/><text class="tick" x="{at:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            bottom + 5.0,
            bottom + 19.0,
            across.label(tick)
        );
    }
    let _ = writeln!(
        svg,
        r#"<line class="axis" x1="{LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}"/>
<text class="name" x="{:.1}" y="{:.1}" text-anchor="middle">bits per parameter, whole file</text>
<text class="name" transform="translate(16 {:.1}) rotate(-90)" text-anchor="middle">{up_name}</text>"#,
        f64::midpoint(LEFT, right),
        HEIGHT - 10.0,
        f64::midpoint(TOP, bottom)
    );
}

/// A line through `points` (already in SVG units) with a dot, a label and a tooltip each.
fn series(svg: &mut String, points: &[(f64, f64, String, String)]) {
    let path: Vec<String> = points
        .iter()
        .map(|p| format!("{:.1},{:.1}", p.0, p.1))
        .collect();
    let _ = writeln!(
        svg,
        r#"<polyline class="series" points="{}"/>"#,
        path.join(" ")
    );
    let mut last: Option<(f64, f64)> = None;
    for (x, y, label, tip) in points {
        // Above its dot, or below where it would run into the label before it.
        let crowded = last.is_some_and(|(lx, ly)| (x - lx).abs() < 50.0 && (y - ly).abs() < 24.0);
        let at = if crowded { y + 17.0 } else { y - 8.0 };
        last = Some((*x, *y));
        let _ = writeln!(
            svg,
            r#"<circle class="dot" cx="{x:.1}" cy="{y:.1}" r="5"><title>{tip}</title></circle><text class="label" x="{:.1}" y="{at:.1}">{label}</text>"#,
            x + 8.0
        );
    }
}

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
        &across,
        &up,
        "perplexity (lower is better)",
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
        &across,
        &up,
        "KL in nats (log scale)",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_cover_their_values_with_few_ticks() {
        for (from, to) in [
            (0.0, 16.3),
            (24.6, 33.0),
            (2.2, 4.7),
            (0.001, 0.002),
            (7.0, 7.0),
        ] {
            let axis = Axis::linear(from, to);
            assert!(
                axis.low <= from + 1e-9 && axis.high >= to - 1e-9,
                "{from} to {to}"
            );
            assert!((2..=8).contains(&axis.ticks.len()), "{:?}", axis.ticks);
        }
        let axis = Axis::logarithmic(0.0107, 0.232);
        assert_eq!(axis.ticks, [0.01, 0.1, 1.0]);
        assert!((axis.place(0.1) - 0.5).abs() < 1e-9);
    }
}
