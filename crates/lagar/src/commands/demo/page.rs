//! The demo's page: one HTML file with everything in it, for light and dark screens.

use super::chart;
use super::report::{COLUMNS, ORIGINAL, Report};
use crate::page::{self, html};
use crate::terminal::{bytes, count};

/// The page as HTML.
pub(super) fn render(report: &Report) -> String {
    let mut page = String::new();
    page.push_str(&introduction(report));
    page.push_str("<section class=\"charts\">\n");
    for (picture, caption) in [
        (
            chart::perplexity(&report.rows),
            "How well each size predicts the text. The dashed line is the original.",
        ),
        (
            chart::divergence(&report.rows),
            "How far each size's predictions are from the original's.",
        ),
    ] {
        page.push_str(&format!(
            "<figure>{picture}<figcaption>{caption}</figcaption></figure>\n"
        ));
    }
    page.push_str("</section>\n");
    page.push_str(&table(report));
    page.push_str(&paragraphs(report));
    page.push_str(&format!(
        "<footer><p>lagar {} · {} threads · {} · the whole demo took {:.0} seconds</p></footer>\n",
        env!("CARGO_PKG_VERSION"),
        report.threads,
        html(&report.instruction_set),
        report.seconds
    ));
    page::document("lagar demo", "lagar demo", &page)
}

fn introduction(report: &Report) -> String {
    let original = report.rows.iter().find(|r| r.bits.is_none());
    let smallest = report
        .rows
        .iter()
        .filter(|r| r.bits.is_some())
        .min_by_key(|r| r.file_bytes);
    let sizes = match (original, smallest) {
        (Some(original), Some(smallest)) => format!(
            " The original takes {}; the smallest file here {}.",
            bytes(original.file_bytes),
            bytes(smallest.file_bytes)
        ),
        _ => String::new(),
    };
    format!(
        "<header><h1>One small model, four sizes</h1>\n\
         <p>A Llama of {} parameters, trained on English novels of 1840–1920, pressed into files of \
         different depth and measured on {} tokens of a novel it has not seen.{sizes}</p></header>\n",
        count(report.parameters),
        report.tokens
    )
}

fn table(report: &Report) -> String {
    let mut out = String::from("<section><h2>Measured</h2>\n");
    let mut table = page::Table::new(&COLUMNS);
    for row in report.all_rows() {
        let class = match row.name == ORIGINAL {
            true => "original",
            false => "",
        };
        table.row(class, row.cells());
    }
    out.push_str(&table.render());
    out.push_str(&format!("<p>{}</p>\n", html(&report.tiered.words())));
    out.push_str(
        "<dl>\
         <dt>bits/parameter</dt><dd>eight times the size of the whole file, tokenizer and all, over the number of parameters</dd>\
         <dt>perplexity</dt><dd>how many tokens, in effect, the model hesitates between; lower is better</dd>\
         <dt>KL</dt><dd>mean divergence of the predictions from the original's, in nats; 0 means the same</dd>\
         <dt>same top token</dt><dd>how often the most likely next token is the one that the original finds most likely</dd>\
         <dt>tok/s</dt><dd>tokens generated in a second, one after another</dd></dl></section>\n",
    );
    out
}

fn paragraphs(report: &Report) -> String {
    let mut out = format!(
        "<section><h2>What each size writes</h2>\n<p>After “{}”, with the same random numbers:</p>\n",
        html(&report.prompt)
    );
    for row in report.all_rows() {
        out.push_str(&format!(
            "<article><h3>{}</h3><p><span class=\"prompt\">{}</span>{}</p></article>\n",
            html(&row.name),
            html(&report.prompt),
            html(&row.paragraph)
        ));
    }
    out.push_str("</section>\n");
    out
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::commands::demo::report::{Row, Tiered};

    /// A report with made-up figures.
    pub(in crate::commands::demo) fn sample() -> Report {
        let row = |name: &str, bits, bpp: f64, perplexity, kl, top1| Row {
            name: name.to_owned(),
            bits,
            file_bytes: (bpp * 4_459_264.0 / 8.0) as u64,
            bits_per_parameter: bpp,
            perplexity,
            kl_mean: kl,
            top1_agreement: top1,
            tokens_per_second: 900.0,
            press_seconds: bits.map(|_| 4.0),
            paragraph: " the captain said <nothing> & \"left\".".to_owned(),
        };
        Report {
            parameters: 4_459_264,
            tokens: 12_288,
            threads: 2,
            instruction_set: "avx512".to_owned(),
            seconds: 31.0,
            prompt: "It was a fine morning, and".to_owned(),
            page: "lagar-demo.html".into(),
            rows: vec![
                row("original", None, 16.3, 25.14, 0.0, 1.0),
                row("2 bits", Some(2), 2.4, 31.7, 0.232, 0.78),
                row("3 bits", Some(3), 3.4, 26.1, 0.039, 0.89),
                row("4 bits", Some(4), 4.4, 25.4, 0.0107, 0.94),
            ],
            tiered: Tiered {
                rows: vec![row("tier R", None, 2.4, 29.9, 0.2, 0.7)],
                file_bytes: 6_400_000,
                bits_per_parameter: 11.5,
                restored_files: 5,
                press_seconds: 9.0,
            },
        }
    }

    #[test]
    fn the_page_needs_nothing_from_outside_and_escapes_what_models_write() {
        let page = render(&sample());
        for outside in ["<script", "src=", "href=", "url(", "@import"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("&lt;nothing&gt; &amp; &quot;left&quot;"));
        assert!(!page.contains("<nothing>"));
    }

    #[test]
    fn every_row_is_in_the_table_and_both_charts() {
        let report = sample();
        let page = render(&report);
        for row in report.rows.iter().filter(|r| r.bits.is_some()) {
            // Two chart labels, a row of the table, a paragraph.
            assert_eq!(
                page.matches(&format!(">{}<", row.name)).count(),
                4,
                "{}",
                row.name
            );
        }
        assert_eq!(page.matches("<svg").count(), 2);
        for row in &report.tiered.rows {
            assert_eq!(page.matches(&format!(">{}<", row.name)).count(), 2);
        }
        assert!(page.contains("5 files are what they were"));
    }
}
