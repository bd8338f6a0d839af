//! The report of a press: the page beside the file, and the same as JSON.

use crate::support::{Finished, Tiny, lagar};
use serde_json::Value;

fn press(tiny: &Tiny, file: &str, more: &[&str]) -> Finished {
    let (model, output, text) = (tiny.model(), tiny.arg(file), tiny.arg("text.txt"));
    let args = ["press", &model, "-o", &output, "--text", &text];
    lagar(args.iter().chain(more))
}

fn page(tiny: &Tiny, name: &str) -> String {
    std::fs::read_to_string(tiny.path(name)).unwrap()
}

/// Everything that the page shows is in it, nothing comes from elsewhere, and the object on stdout has the same.
#[test]
fn the_page_and_the_object_tell_what_became_of_every_tensor() {
    let tiny = Tiny::new();
    let told = press(&tiny, "a.lagar", &["--bpw", "7", "--json"]).json();
    let page = page(&tiny, "a.html");
    for outside in ["<script", "src=", "href=", "url(", "@import", "onload"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    assert!(page.contains("@media print"));
    let tensors = told["tensors"].as_array().unwrap();
    assert!(!tensors.is_empty());
    for tensor in tensors {
        let name = tensor["name"].as_str().unwrap();
        assert!(page.contains(name.trim_end_matches(".weight")), "{name}");
        let cosine = tensor["weight_cosine"].as_f64().unwrap();
        let error = tensor["relative_error"].as_f64().unwrap();
        assert!(cosine > 0.8 && cosine <= 1.0 + 1e-9, "{tensor}");
        assert!(error > 0.0 && error < 0.7, "{tensor}");
        let bits = tensor["error_bits"].as_f64().unwrap();
        assert!((bits + error.log2()).abs() < 1e-9, "{tensor}");
        let groups = tensor["depths"][0].as_array().unwrap().len();
        let width = tensor["shape"][1].as_u64().unwrap() as usize;
        assert_eq!(groups, width.div_ceil(128));
        assert!(tensor["bits_per_weight"].as_f64().unwrap() > 0.0);
        let sensitivity = &tensor["sensitivity"];
        let sum = |key: &str| -> f64 {
            let values = sensitivity[key].as_array().unwrap();
            assert_eq!(values.len(), groups);
            values.iter().map(|v| v.as_f64().unwrap()).sum()
        };
        let (lost, left_out) = (sum("lost_by_group"), sum("left_out_by_group"));
        assert!(lost > 0.0 && lost < left_out, "{tensor}");
    }
    for key in ["id", "producer", "report", "sources", "settings"] {
        assert!(!told[key].is_null(), "{key}");
    }
    assert!(page.contains(told["id"].as_str().unwrap()));
    for source in told["sources"].as_array().unwrap() {
        assert!(page.contains(source["blake3"].as_str().unwrap()));
    }
    assert!(told["measured"]["original_perplexity"].as_f64().unwrap() > 1.0);
    assert!(told["tiers"][0]["perplexity"].as_f64().unwrap() > 1.0);
}

/// Each stage makes the error smaller, and a press that is resumed reports what one in one go does.
#[test]
fn later_stages_leave_less_and_without_a_target_nothing_is_said_of_sensitivity() {
    let tiny = Tiny::new();
    let told = press(&tiny, "a.lagar", &["--tiers", "2,2+exact", "--json"]).json();
    for tensor in told["tensors"].as_array().unwrap() {
        let errors = tensor["tiers"].as_array().unwrap().iter();
        let errors: Vec<f64> = errors
            .map(|t| t["relative_error"].as_f64().unwrap())
            .collect();
        assert!(errors.len() == 2 && errors[1] < 0.6 * errors[0], "{tensor}");
        assert_eq!(tensor["sensitivity"], Value::Null);
        assert_eq!(tensor["depths"][1][0], 2);
    }
    let page = page(&tiny, "a.html");
    assert!(
        page.contains("tier RG") && page.contains("tier full"),
        "{page}"
    );
}

#[test]
fn only_a_report_is_replaced_and_none_is_written_where_none_is_wanted() {
    let tiny = Tiny::new();
    press(&tiny, "a.lagar", &["--bits", "4", "--no-report"]).ok();
    tiny.absent("a.html");
    std::fs::write(tiny.path("a.html"), "my notes").unwrap();
    let told = press(&tiny, "a.lagar", &["--bits", "4", "--json"]);
    assert!(told.stderr.contains("a.html"), "{}", told.stderr);
    assert_eq!(told.json()["report"], Value::Null);
    assert_eq!(page(&tiny, "a.html"), "my notes");
    std::fs::remove_file(tiny.path("a.html")).unwrap();
    for _ in 0..2 {
        let told = press(&tiny, "a.lagar", &["--bits", "4"]).ok();
        assert!(told.contains("the report is "), "{told}");
    }
    assert!(page(&tiny, "a.html").contains("a.lagar"));
}

/// Names come from the checkpoint and the command line.
#[test]
fn names_are_escaped() {
    let tiny = Tiny::new();
    let model = tiny.path("model<script>");
    std::fs::rename(tiny.path("model"), &model).unwrap();
    let (model, output) = (tiny.arg("model<script>"), tiny.arg("a.lagar"));
    let text = tiny.arg("text.txt");
    lagar([
        "press", &model, "-o", &output, "--text", &text, "--bits", "2",
    ])
    .ok();
    let page = page(&tiny, "a.html");
    assert!(!page.contains("<script") && page.contains("model&lt;script&gt;"));
}
