//! A heat map as inline SVG: a row for each tensor, a cell for each column group.

use crate::page::html;
use std::fmt::Write;

/// Shades, from none to the darkest.
pub(super) const SHADES: u8 = 10;

/// A row.
pub(super) struct Row {
    pub(super) name: String,
    /// What a pointer that rests on the row is told.
    pub(super) tip: String,
    /// Shade of each cell, below [`SHADES`].
    pub(super) cells: Vec<u8>,
}

const ROW: usize = 16;
/// Rows that stay on one page of paper.
const TOGETHER: usize = 48;
/// Width of a character of a name, at most.
const LETTER: f64 = 6.8;
/// Width of all cells of the longest row, about.
const WIDTH: f64 = 620.0;
const NARROWEST: f64 = 3.0;
const WIDEST: f64 = 40.0;

/// Rows below each other, each as wide as it has cells.
pub(super) fn map(title: &str, rows: &[Row]) -> String {
    let letters = rows.iter().map(|row| row.name.chars().count()).max();
    let left = (letters.unwrap_or(0) as f64 * LETTER + 12.0).ceil();
    let longest = rows.iter().map(|row| row.cells.len()).max().unwrap_or(0);
    let cell = (WIDTH / longest.max(1) as f64).clamp(NARROWEST, WIDEST);
    let width = left + cell * longest as f64 + 2.0;
    let pieces = rows.chunks(TOGETHER);
    pieces
        .map(|rows| piece(title, rows, left, cell, width))
        .collect()
}

fn piece(title: &str, rows: &[Row], left: f64, cell: f64, width: f64) -> String {
    let height = rows.len() * ROW;
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        r#"<svg viewBox="0 0 {width:.0} {height}" width="{width:.0}" height="{height}" role="img" aria-label="{title}" xmlns="http://www.w3.org/2000/svg"><title>{title}</title>"#,
    );
    for (at, row) in rows.iter().enumerate() {
        let top = at * ROW;
        let _ = write!(
            svg,
            r#"<g><title>{}</title><text class="mono" x="{:.0}" y="{}" text-anchor="end">{}</text>"#,
            html(&row.tip),
            left - 8.0,
            top + 12,
            html(&row.name)
        );
        // Neighbours of one shade are one rectangle.
        let mut first = 0;
        for run in row.cells.chunk_by(|a, b| a == b) {
            let _ = write!(
                svg,
                r#"<rect class="d{}" x="{:.1}" y="{}" width="{:.1}" height="{}"/>"#,
                run[0].min(SHADES - 1),
                left + cell * f64::from(first),
                top + 1,
                cell * run.len() as f64,
                ROW - 2
            );
            first += run.len() as u32;
        }
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

/// What the shades mean, in one line.
pub(super) fn legend(labels: &[(u8, String)]) -> String {
    let mut svg = String::new();
    let step = 620 / labels.len().max(1);
    let width = step * labels.len() + 4;
    let _ = write!(
        svg,
        r#"<svg viewBox="0 0 {width} 20" width="{width}" height="20" role="img" aria-label="legend" xmlns="http://www.w3.org/2000/svg">"#,
    );
    for (at, (shade, label)) in labels.iter().enumerate() {
        let x = at * step;
        let _ = write!(
            svg,
            r#"<rect class="d{}" x="{x}" y="3" width="14" height="14"/><text class="tick" x="{}" y="14">{}</text>"#,
            shade.min(&(SHADES - 1)),
            x + 19,
            html(label)
        );
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_its_name_and_all_its_cells() {
        let row = |name: &str, cells: &[u8]| Row {
            name: name.to_owned(),
            tip: "2 < 3".to_owned(),
            cells: cells.to_vec(),
        };
        let svg = map("depths", &[row("a<b", &[4, 4, 2, 99]), row("c", &[1])]);
        assert!(svg.contains(">a&lt;b<") && svg.contains("2 &lt; 3") && svg.contains(">c<"));
        assert_eq!(svg.matches("<rect").count(), 4);
        assert!(svg.contains(r#"class="d9""#));
    }
}
