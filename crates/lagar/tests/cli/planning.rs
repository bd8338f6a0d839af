//! What is said and refused before a press begins.

use crate::support::{Finished, Tiny, evaluation_text, lagar, novels};

fn press(tiny: &Tiny, more: &[&str]) -> Finished {
    let (model, output, text) = (tiny.model(), tiny.arg("a.lagar"), tiny.arg("text.txt"));
    let args = ["press", &model, "-o", &output, "--text", &text];
    lagar(args.iter().chain(more))
}

fn nothing_was_written(tiny: &Tiny) {
    for name in ["a.lagar", "a.lagar.partial", "a.html"] {
        tiny.absent(name);
    }
}

/// Lengths are those of the press, to a page; the exact section's is a guess.
#[test]
fn a_plan_comes_true() {
    let tiny = Tiny::new();
    for stages in [
        &["--tiers", "2,2+exact"][..],
        &["--tiers", "3,1.5"],
        &["--bits", "4"],
        &["--bpw", "7"],
    ] {
        let plan = press(&tiny, &[stages, &["--dry-run", "--json"]].concat()).json();
        nothing_was_written(&tiny);
        let done = press(&tiny, &[stages, &["--json", "--no-report"]].concat()).json();
        let (planned, made) = (&plan["tiers"], &done["tiers"]);
        let count = made.as_array().unwrap().len();
        assert_eq!(planned.as_array().unwrap().len(), count, "{plan}");
        for at in 0..count {
            assert_eq!(planned[at]["name"], made[at]["name"]);
            let [a, b] = [planned, made].map(|tiers| tiers[at]["bytes"].as_f64().unwrap());
            let most = if planned[at]["guess"] == true {
                0.2
            } else {
                0.05
            };
            assert!((a - b).abs() < 8192.0 + most * b, "{stages:?}: {a} {b}");
            assert!(planned[at]["memory_bytes"].as_f64().unwrap() > a.min(b) / 2.0);
        }
        assert_eq!(plan["calibration_tokens"], done["calibration_tokens"]);
        assert!(plan["seconds"].as_f64().unwrap() > 0.0);
        std::fs::remove_file(tiny.path("a.lagar")).unwrap();
    }
}

#[test]
fn a_plan_for_a_size_says_what_is_possible() {
    let tiny = Tiny::new();
    let told = press(&tiny, &["--bpw", "7", "--dry-run"]).ok();
    assert!(
        told.contains("possible are") && told.contains("about"),
        "{told}"
    );
    let plan = press(&tiny, &["--bpw", "7", "--dry-run", "--json"]).json();
    let target = &plan["target"];
    let bytes = |key: &str| target[key].as_u64().unwrap();
    assert!(bytes("floor_bytes") < bytes("bytes") && bytes("bytes") < bytes("ceiling_bytes"));
}

/// With and without --dry-run, before anything is read or written.
#[test]
fn impossible_sizes_are_refused_with_the_possible_ones() {
    let tiny = Tiny::new();
    for dry in [&["--dry-run"][..], &[]] {
        let refused = |size: &str| press(&tiny, &[&["--size", size][..], dry].concat());
        refused("5000").fails(2, &["tier R cannot have 5000 bytes", "already has"]);
        refused("1GB").fails(2, &["--tiers exact"]);
        nothing_was_written(&tiny);
    }
}

/// More than all weights with 8 bits can use is told, and they get that.
#[test]
fn above_the_most_that_there_is_a_file_gets_that() {
    let tiny = Tiny::new();
    let size = ["--size", "95%"];
    let plan = press(&tiny, &[&size[..], &["--dry-run", "--json"]].concat()).json();
    let ceiling = &plan["target"]["ceiling_bytes"];
    assert_eq!(&plan["tiers"][0]["bytes"], ceiling);
    let done = press(&tiny, &[&size[..], &["--json", "--no-report"]].concat());
    assert!(
        done.stderr.contains("8 bits for every weight"),
        "{}",
        done.stderr
    );
    let bytes = done.json()["tiers"][0]["bytes"].as_u64().unwrap();
    assert!(
        bytes.abs_diff(ceiling.as_u64().unwrap()) <= 8192,
        "{bytes} {ceiling}"
    );
}

/// Text in a language or a form that the vocabulary was not made for, too little text, no letters; and nothing
/// about a novel.
#[test]
fn odd_calibration_text_is_warned_of() {
    let tiny = Tiny::new();
    let told = |text: &str| {
        std::fs::write(tiny.path("text.txt"), text).unwrap();
        let (model, output, path) = (novels(), tiny.arg("a.lagar"), tiny.arg("text.txt"));
        let args = ["press", &model, "-o", &output, "--text", &path, "--dry-run"];
        let done = lagar(args);
        let warnings = done.stderr.clone();
        done.ok();
        warnings
    };
    let novel = std::fs::read_to_string(evaluation_text()).unwrap();
    assert!(!told(&novel).contains("warning"), "{}", told(&novel));
    let german =
        "Es war einmal ein König, der hatte drei Söhne, davon waren zwei klug. ".repeat(50);
    assert!(!told(&german).contains("warning"), "{}", told(&german));
    let russian = "Все счастливые семьи похожи друг на друга. ".repeat(50);
    assert!(
        told(&russian).contains("vocabulary was not made for"),
        "{}",
        told(&russian)
    );
    let chinese = "滾滾長江東逝水，浪花淘盡英雄。是非成敗轉頭空。".repeat(50);
    assert!(
        told(&chinese).contains("vocabulary was not made for"),
        "{}",
        told(&chinese)
    );
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        format!("{:02x}", state >> 24)
    };
    let hex: String = (0..4000).map(|_| random()).collect();
    assert!(
        told(&hex).contains("vocabulary was not made for"),
        "{}",
        told(&hex)
    );
    assert!(told(&"1 2 3 4 5 6 7 8 9 ".repeat(200)).contains("not one letter"));
    assert!(told("It was a fine morning.").contains("less than one window"));
}

/// A press whose gradients overflow says where.
#[test]
fn an_overflow_names_its_layer() {
    let tiny = Tiny::new();
    tiny.edit_tensors(|header, data| {
        let tensor = &header["model.layers.1.mlp.down_proj.weight"];
        let [from, to] = [0, 1].map(|at| tensor["data_offsets"][at].as_u64().unwrap() as usize);
        let bytes = tensor["dtype"]
            .as_str()
            .map_or(2, |t| if t == "F32" { 4 } else { 2 });
        let large: &[u8] = if bytes == 4 {
            &1e37f32.to_le_bytes()
        } else {
            &[0x70, 0x7d]
        };
        for weight in data[from..to].chunks_exact_mut(bytes) {
            weight.copy_from_slice(large);
        }
    });
    press(&tiny, &["--bpw", "7"]).fails(3, &["layer"]);
}
