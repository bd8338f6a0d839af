//! A chart as inline SVG: a linear or logarithmic scale upwards and a linear one to the right.

use std::fmt::Write;

pub(crate) const WIDTH: f64 = 560.0;
pub(crate) const HEIGHT: f64 = 320.0;
pub(crate) const LEFT: f64 = 64.0;
/// Room for the label of the last dot.
pub(crate) const RIGHT: f64 = 60.0;
const TOP: f64 = 20.0;
pub(crate) const BOTTOM: f64 = 52.0;

/// An axis from `low` to `high` with labelled ticks.
pub(crate) struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
    logarithmic: bool,
}

impl Axis {
    /// Round steps that cover `from..=to`, about five of them.
    pub(crate) fn linear(from: f64, to: f64) -> Self {
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

    /// The numbers below `count`, each in the middle of its place; not more than twelve are labelled.
    pub(crate) fn places(count: usize) -> Self {
        let steps = [1, 2, 5, 10, 20, 50, 100, 200];
        let step = steps.into_iter().find(|step| count.div_ceil(*step) <= 12);
        let ticks = (0..count).step_by(step.unwrap_or(500));
        Self {
            low: -0.5,
            high: count as f64 - 0.5,
            ticks: ticks.map(|i| i as f64).collect(),
            logarithmic: false,
        }
    }

    /// Powers of ten that cover `from..=to`, both above 0.
    pub(crate) fn logarithmic(from: f64, to: f64) -> Self {
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

pub(crate) fn x(axis: &Axis, value: f64) -> f64 {
    LEFT + axis.place(value) * (WIDTH - LEFT - RIGHT)
}

pub(crate) fn y(axis: &Axis, value: f64) -> f64 {
    HEIGHT - BOTTOM - axis.place(value) * (HEIGHT - TOP - BOTTOM)
}

/// Begins an SVG: both axes with their names; `title` is for those who cannot see it.
pub(crate) fn frame(
    svg: &mut String,
    title: &str,
    (across, across_name): (&Axis, &str),
    (up, up_name): (&Axis, &str),
) {
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
<text class="name" x="{:.1}" y="{:.1}" text-anchor="middle">{across_name}</text>
<text class="name" transform="translate(16 {:.1}) rotate(-90)" text-anchor="middle">{up_name}</text>"#,
        f64::midpoint(LEFT, right),
        HEIGHT - 10.0,
        f64::midpoint(TOP, bottom)
    );
}

/// A line through `points` (already in SVG units) with a dot, a label and a tooltip each.
pub(crate) fn series(svg: &mut String, points: &[(f64, f64, String, String)]) {
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
