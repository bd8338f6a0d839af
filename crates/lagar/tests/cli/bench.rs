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
        text.contains("2 threads: memory ") && text.contains("prefill 8"),
        "{text}"
    );
    let markdown = bench(&[&model], &[&SMALL[..], &["--format", "markdown"]].concat()).ok();
    assert!(markdown.contains("| --- | ---: | --- |"), "{markdown}");
    let csv = bench(&[&model], &[&SMALL[..], &["--format", "csv"]].concat()).ok();
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!(lines.len(), 3, "{csv}");
    let columns = |line: &str| line.split(',').count();
    assert!(lines.iter().all(|line| columns(line) == columns(lines[0])));
    // What JSON has, by its names.
    assert!(lines[0].starts_with("kind,model,tier,"), "{csv}");
    let rate = lines[0]
        .split(',')
        .position(|name| name == "tokens_per_second");
    for line in &lines[1..] {
        let cell = line.split(',').nth(rate.unwrap()).unwrap();
        assert!(cell.parse::<f64>().unwrap() > 0.0, "{line}");
    }
}

#[test]
fn results_of_others_stand_beside() {
    let tiny = Tiny::new();
    let model = tiny.model();
    let ours = bench(&[&model], &[&SMALL[..], &["--json"]].concat()).ok();
    let earlier = tiny.arg("earlier.json");
    std::fs::write(&earlier, &ours).unwrap();
    let theirs = tiny.arg("theirs.json");
    let result = |depth: u64, prompt: u64, generated: u64, rate: f64| {
        serde_json::json!({
            "model_filename": "/models/other.gguf", "model_type": "llama Q4_0", "n_threads": 2, "type_k": "f16",
            "n_depth": depth, "n_prompt": prompt, "n_gen": generated, "avg_ts": rate, "stddev_ts": 0.1,
        })
    };
    let results = [
        result(0, 8, 0, 0.5),
        result(0, 0, 4, 0.25),
        result(0, 9, 0, 1.0),
        result(16, 8, 0, 1.0),
        result(0, 8, 4, 1.0),
    ];
    let lines = results.map(|result| result.to_string()).join("\n");
    std::fs::write(&theirs, lines).unwrap();
    let options = [
        &SMALL[..],
        &["--compare", &theirs, "--compare", &earlier, "--json"],
    ]
    .concat();
    let measured = bench(&[&model], &options).json();
    let peers = measured["peers"].as_array().unwrap();
    let expected = [
        ("prefill 8", true),
        ("decode 4", true),
        // Nothing here did one of these.
        ("prefill 9", false),
        ("prefill 8 after 16", false),
        ("prefill 8 + decode 4", false),
        ("prefill 8", true),
        ("decode 4", true),
    ];
    assert_eq!(peers.len(), expected.len());
    for (peer, (test, done)) in peers.iter().zip(expected) {
        assert_eq!(peer["test"], test, "{peer}");
        assert_eq!(peer["ratio"].is_number(), done, "{peer}");
    }
    assert_eq!(peers[0]["name"], "other.gguf (llama Q4_0)");
    let ratio = peers[0]["ratio"].as_f64().unwrap();
    // JSON's reader may miss a number's last digit.
    let expected = peers[0]["ours"].as_f64().unwrap() / 0.5;
    assert!((ratio / expected - 1.0).abs() < 1e-12, "{ratio} {expected}");
}

#[test]
fn what_is_not_asked_for_is_what_the_model_holds() {
    let tiny = Tiny::new();
    let options = ["--rounds", "1", "--threads", "1", "--energy", "--json"];
    let measured = bench(&[&tiny.model()], &options).json();
    let runs = measured["runs"].as_array().unwrap();
    let tests = runs
        .iter()
        .map(|run| (&run["kind"], &run["prompt"], &run["generated"]));
    let tests: Vec<_> = tests
        .map(|(kind, prompt, made)| format!("{kind} {prompt} {made}"))
        .collect();
    // The context is 256 tokens long.
    assert_eq!(
        tests,
        ["\"prefill\" 128 0", "\"prefill\" 256 0", "\"decode\" 0 64"]
    );
    assert_eq!(measured["limits"].as_array().unwrap().len(), 1);
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
