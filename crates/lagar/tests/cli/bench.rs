//! `lagar bench`: what it measures, in every form. No test looks at how fast anything was.

use crate::support::{Tiny, lagar};

const SMALL: [&str; 8] = [
    "--prompt",
    "8",
    "--generate",
    "4",
    "--rounds",
    "2",
    "--threads",
    "2",
];

fn bench(files: &[&str], options: &[&str]) -> crate::support::Finished {
    lagar([&["bench"], files, options].concat())
}

#[test]
fn every_combination_is_measured_once() {
    let tiny = Tiny::new();
    tiny.press("a.lagar").ok();
    let file = tiny.arg("a.lagar");
    let sweep = [
        "--prompt",
        "8,9",
        "--generate",
        "4",
        "--context",
        "0,16",
        "--batch",
        "1,3",
        "--thread-counts",
        "1,2",
        "--rounds",
        "2",
        "--json",
    ];
    let measured = bench(&[&file, &tiny.model()], &sweep).json();
    for key in ["processors", "isa", "system", "architecture"] {
        assert!(!measured["machine"][key].is_null(), "{measured}");
    }
    assert!(
        measured["memory_bandwidth_bytes_per_second"]
            .as_f64()
            .unwrap()
            > 0.0
    );
    let runs = measured["runs"].as_array().unwrap();
    // Two models: two prompts, and two contexts times two batches, each with two numbers of threads.
    assert_eq!(runs.len(), 2 * (2 + 4) * 2);
    let mut cases = std::collections::BTreeSet::new();
    for run in runs {
        let speed = |key: &str| run[key].as_f64().unwrap();
        assert!(speed("tokens_per_second_least") <= speed("tokens_per_second"));
        assert!(speed("tokens_per_second") <= speed("tokens_per_second_most"));
        assert!(speed("bytes_per_token") > 0.0 && speed("share_of_bandwidth") > 0.0);
        let pressed = run["model"] == file.as_str();
        assert_eq!(run["tier"].is_string(), pressed, "{run}");
        assert_eq!(run["share_of_int8_peak"].is_number(), pressed, "{run}");
        let keys = ["model", "kind", "prompt", "generated", "batch", "threads"];
        cases.insert(keys.map(|key| run[key].to_string()));
    }
    assert_eq!(cases.len(), runs.len());
    // A sequence among three reads a third of the weights for a token.
    let decode = |batch: u64| {
        let run = runs
            .iter()
            .find(|run| run["kind"] == "decode" && run["batch"] == batch);
        run.unwrap()["bytes_per_token"].as_f64().unwrap()
    };
    assert!(decode(3) < decode(1) / 2.0);
}

#[test]
fn tables_come_in_three_forms() {
    let tiny = Tiny::new();
    let model = tiny.model();
    let text = bench(&[&model], &SMALL).ok();
    assert!(
        text.contains("memory: ") && text.contains("prefill 8"),
        "{text}"
    );
    let markdown = bench(&[&model], &[&SMALL[..], &["--format", "markdown"]].concat()).ok();
    assert!(markdown.contains("| --- | ---: |"), "{markdown}");
    let csv = bench(&[&model], &[&SMALL[..], &["--format", "csv"]].concat()).ok();
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!(lines.len(), 3, "{csv}");
    let columns = |line: &str| line.split(',').count();
    assert!(lines.iter().all(|line| columns(line) == columns(lines[0])));
}

#[test]
fn results_of_others_stand_beside() {
    let tiny = Tiny::new();
    let model = tiny.model();
    let ours = bench(&[&model], &[&SMALL[..], &["--json"]].concat()).ok();
    let earlier = tiny.arg("earlier.json");
    std::fs::write(&earlier, &ours).unwrap();
    let theirs = tiny.arg("theirs.json");
    let result = |gen_: u64, prompt: u64, rate: f64| {
        serde_json::json!({
            "model_filename": "/models/other.gguf", "model_type": "llama Q4_0", "n_threads": 2,
            "n_prompt": prompt, "n_gen": gen_, "avg_ts": rate, "stddev_ts": 0.1,
        })
    };
    let results = serde_json::json!([result(0, 8, 0.5), result(4, 0, 0.25), result(0, 9, 1.0)]);
    std::fs::write(&theirs, results.to_string()).unwrap();
    let options = [
        &SMALL[..],
        &["--compare", &theirs, "--compare", &earlier, "--json"],
    ]
    .concat();
    let measured = bench(&[&model], &options).json();
    let peers = measured["peers"].as_array().unwrap();
    assert_eq!(peers.len(), 5);
    for (peer, test) in
        peers
            .iter()
            .zip(["prefill 8", "decode", "prefill 9", "prefill 8", "decode"])
    {
        assert_eq!(peer["test"], test, "{peer}");
        // Nothing here read a prompt of 9 tokens.
        assert_eq!(peer["ratio"].is_null(), test == "prefill 9", "{peer}");
    }
    assert_eq!(peers[0]["name"], "other.gguf (llama Q4_0)");
    let ratio = peers[0]["ratio"].as_f64().unwrap();
    // JSON's reader may miss a number's last digit.
    let expected = peers[0]["ours"].as_f64().unwrap() / 0.5;
    assert!((ratio / expected - 1.0).abs() < 1e-12, "{ratio} {expected}");
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let tiny = Tiny::new();
    let model = tiny.model();
    bench(&[&model], &["--prompt", "0", "--generate", "0"]).fails(2, &["nothing to measure"]);
    bench(&[&model], &["--prompt", "100000"]).fails(2, &["prefill of 100000", "--prompt"]);
    bench(&[&model], &["--tier", "R", "--prompt", "8"]).fails(2, &["tier"]);
    bench(&[&tiny.arg("none.lagar")], &[]).fails(3, &["none.lagar"]);
    let text = tiny.arg("text.txt");
    bench(&[&model], &["--compare", &text]).fails(3, &["text.txt", "llama-bench"]);
}
