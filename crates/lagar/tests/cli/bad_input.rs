//! Damaged and missing input: one clear line, exit code 3, nothing under the output's name, no panic.

use crate::support::{Tiny, lagar};
use serde_json::json;

/// One way to spoil a checkpoint, and what the message has to name.
struct Damage {
    name: &'static str,
    spoil: fn(&Tiny),
    words: &'static [&'static str],
}

const DAMAGES: &[Damage] = &[
    Damage {
        name: "no config",
        spoil: |tiny| std::fs::remove_file(tiny.path("model/config.json")).unwrap(),
        words: &["config.json"],
    },
    Damage {
        name: "config cut in half",
        spoil: |tiny| tiny.edit("config.json", |bytes| bytes.truncate(bytes.len() / 2)),
        words: &["config.json", "JSON"],
    },
    Damage {
        name: "config of another type",
        spoil: |tiny| {
            tiny.replace(
                "config.json",
                "\"hidden_size\": 64",
                "\"hidden_size\": \"wide\"",
            )
        },
        words: &["config.json", "hidden_size"],
    },
    Damage {
        name: "unknown architecture",
        spoil: |tiny| tiny.replace("config.json", "LlamaForCausalLM", "MysteryForCausalLM"),
        words: &[
            "config.json",
            "MysteryForCausalLM",
            "LlamaForCausalLM",
            "MistralForCausalLM",
            "Qwen2ForCausalLM",
            "Qwen3ForCausalLM",
        ],
    },
    Damage {
        name: "no weights",
        spoil: |tiny| std::fs::remove_file(tiny.path("model/model.safetensors")).unwrap(),
        words: &["model.safetensors"],
    },
    Damage {
        name: "weights cut short",
        spoil: |tiny| {
            tiny.edit("model.safetensors", |bytes| {
                bytes.truncate(bytes.len() - 1000)
            })
        },
        words: &["model.safetensors"],
    },
    Damage {
        name: "weights cut within the header",
        spoil: |tiny| tiny.edit("model.safetensors", |bytes| bytes.truncate(100)),
        words: &["model.safetensors"],
    },
    Damage {
        name: "empty weights",
        spoil: |tiny| tiny.edit("model.safetensors", Vec::clear),
        words: &["model.safetensors"],
    },
    Damage {
        name: "a header length beyond the file",
        spoil: |tiny| {
            tiny.edit("model.safetensors", |bytes| {
                bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes())
            })
        },
        words: &["model.safetensors"],
    },
    Damage {
        name: "a missing tensor",
        spoil: |tiny| {
            tiny.edit_tensors(|header, data| {
                // The last tensor's bytes go too: a hole would be another damage.
                let last = header
                    .iter()
                    .filter(|(name, _)| *name != "__metadata__")
                    .max_by_key(|(_, entry)| entry["data_offsets"][1].as_u64())
                    .map(|(name, entry)| (name.clone(), entry["data_offsets"][0].as_u64().unwrap()))
                    .unwrap();
                header.remove(&last.0);
                data.truncate(last.1 as usize);
            });
        },
        words: &["is missing", "expected shape"],
    },
    Damage {
        name: "an extra tensor",
        spoil: |tiny| {
            tiny.edit_tensors(|header, data| {
                let end = data.len();
                data.extend([0; 8]);
                header.insert(
                    "model.layers.0.extra.weight".into(),
                    json!({"dtype": "F32", "shape": [2], "data_offsets": [end, end + 8]}),
                );
            });
        },
        words: &["model.layers.0.extra.weight"],
    },
    Damage {
        name: "a wrong shape",
        spoil: |tiny| {
            tiny.edit_tensors(|header, _| {
                let shape = header["model.layers.0.mlp.down_proj.weight"]["shape"]
                    .as_array_mut()
                    .unwrap();
                shape.reverse();
            });
        },
        words: &[
            "model.layers.0.mlp.down_proj.weight",
            "[88, 64]",
            "[64, 88]",
        ],
    },
    Damage {
        name: "a weight that is no number",
        spoil: |tiny| {
            tiny.edit_tensors(|header, data| {
                let entry = &header["model.layers.1.self_attn.q_proj.weight"];
                let start = entry["data_offsets"][0].as_u64().unwrap() as usize;
                let bytes = if entry["dtype"] == "F32" { 4 } else { 2 };
                data[start..start + bytes].fill(0xff);
            });
        },
        words: &["model.layers.1.self_attn.q_proj.weight", "NaN"],
    },
    Damage {
        name: "no tokenizer",
        spoil: |tiny| std::fs::remove_file(tiny.path("model/tokenizer.json")).unwrap(),
        words: &["tokenizer.json"],
    },
    Damage {
        name: "a damaged tokenizer",
        spoil: |tiny| tiny.edit("tokenizer.json", |bytes| bytes.truncate(bytes.len() / 2)),
        words: &["tokenizer.json"],
    },
    Damage {
        name: "empty calibration text",
        spoil: |tiny| std::fs::write(tiny.path("text.txt"), "").unwrap(),
        words: &["calibration text"],
    },
    Damage {
        name: "calibration text that is not UTF-8",
        spoil: |tiny| std::fs::write(tiny.path("text.txt"), b"caf\xe9 au lait").unwrap(),
        words: &["text.txt", "UTF-8", "byte 3"],
    },
    Damage {
        name: "no calibration text",
        spoil: |tiny| std::fs::remove_file(tiny.path("text.txt")).unwrap(),
        words: &["text.txt"],
    },
];

/// Merges that do not fit the vocabulary make the tokenizer's library panic.
#[test]
fn a_tokenizer_that_does_not_fit_together_is_refused() {
    let tiny = Tiny::new();
    tiny.edit("tokenizer.json", |bytes| {
        *bytes = json!({"version": "1.0", "model": {
            "type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]],
        }})
        .to_string()
        .into_bytes();
    });
    tiny.press("out.lagar").fails(3, &["tokenizer.json"]);
    tiny.absent("out.lagar");
}

#[test]
fn a_template_that_does_not_parse_matters_only_where_it_is_used() {
    let tiny = Tiny::new();
    tiny.replace(
        "tokenizer_config.json",
        "{",
        "{\"chat_template\": \"{% if %}\",",
    );
    let args = ["run", &tiny.model(), "The", "-n", "2", "--greedy"];
    lagar(args).fails(3, &["chat template", "--raw"]);
    lagar(["chat", &tiny.model()]).fails(3, &["chat template"]);
    lagar([&args[..], &["--raw"]].concat()).ok();
}

#[test]
fn messages_name_the_folder_or_the_file() {
    for (name, damage) in [
        ("generation_config.json", "{"),
        ("tokenizer.json", "[]"),
        ("tokenizer_config.json", "[]"),
    ] {
        let tiny = Tiny::new();
        tiny.edit(name, |bytes| *bytes = damage.as_bytes().to_vec());
        let place = tiny.path("model").join(name);
        let place = crate::support::text(&place);
        lagar(["run", &tiny.model(), "The"]).fails(3, &[&place]);
    }
}

#[test]
fn settings_of_generation_are_read_before_the_work() {
    let tiny = Tiny::new();
    tiny.edit("generation_config.json", |bytes| *bytes = b"{".to_vec());
    tiny.press("out.lagar")
        .fails(3, &["generation_config.json"]);
    tiny.absent("out.lagar");
}

#[test]
fn a_press_does_not_overwrite_what_it_reads() {
    let tiny = Tiny::new();
    for name in ["model/model.safetensors", "text.txt"] {
        let before = std::fs::read(tiny.path(name)).unwrap();
        tiny.press(name).fails(2, &[name]);
        assert_eq!(std::fs::read(tiny.path(name)).unwrap(), before);
    }
}

#[test]
fn numbers_out_of_range_are_wrong_usage() {
    let tiny = Tiny::new();
    for (option, value) in [
        ("--threads", "0"),
        ("--threads", "5000"),
        ("--temperature", "-1"),
        ("--temperature", "nan"),
        ("--top-p", "2"),
        ("--repeat-penalty", "1e-45"),
    ] {
        let run = lagar(["run", &tiny.model(), "The", option, value]);
        assert!(run.stderr.contains(option), "{run:?}");
        run.fails(2, &["invalid value"]);
    }
}

#[test]
fn a_spoilt_checkpoint_is_refused_by_name() {
    for damage in DAMAGES {
        let tiny = Tiny::new();
        (damage.spoil)(&tiny);
        println!("{}", damage.name);
        tiny.press("out.lagar").fails(3, damage.words);
        tiny.absent("out.lagar");
    }
}

#[test]
fn a_path_that_is_not_there_is_named() {
    let tiny = Tiny::new();
    for command in ["run", "inspect", "chat"] {
        lagar([command, &tiny.arg("nowhere")]).fails(3, &["nowhere"]);
    }
    lagar([
        "eval",
        &tiny.arg("nowhere"),
        "--text",
        &tiny.arg("text.txt"),
    ])
    .fails(3, &["nowhere"]);
    lagar(["eval", &tiny.model(), "--text", &tiny.arg("no-text")]).fails(3, &["no-text"]);
    lagar(["export", &tiny.arg("nowhere"), "-o", &tiny.arg("out")]).fails(3, &["nowhere"]);
    lagar(["press", &tiny.arg("nowhere"), "-o", &tiny.arg("out")]).fails(3, &["nowhere"]);
    tiny.absent("out");
}

#[test]
fn names_with_control_characters_do_not_reach_the_terminal() {
    let run = lagar(["inspect", "no\x1b[2Jsuch\nfile"]);
    assert!(run.stderr.contains("no\\u{1b}[2Jsuch\\nfile"), "{run:?}");
    run.fails(3, &[]);
}

#[test]
fn a_truncated_file_is_refused() {
    let tiny = Tiny::new();
    tiny.press("whole.lagar").ok();
    let whole = std::fs::read(tiny.path("whole.lagar")).unwrap();
    // Every length is tried where the reader is tested; here the program as a whole, at a few.
    for length in [0, 1, 8, 40, 64, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(tiny.path("cut.lagar"), &whole[..length]).unwrap();
        for args in [vec!["inspect"], vec!["run", "--tokens", "1"]] {
            lagar([&args[..], &[&tiny.arg("cut.lagar")]].concat()).fails(3, &["cut.lagar"]);
        }
    }
}

#[test]
fn a_flipped_bit_is_found_before_anything_runs() {
    let tiny = Tiny::new();
    tiny.press("whole.lagar").ok();
    let whole = std::fs::read(tiny.path("whole.lagar")).unwrap();
    for place in [
        0,
        9,
        30,
        70,
        200,
        whole.len() / 3,
        whole.len() / 2,
        whole.len() - 70,
    ] {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x10;
        std::fs::write(tiny.path("flipped.lagar"), &bytes).unwrap();
        println!("byte {place} of {}", whole.len());
        lagar(["run", &tiny.arg("flipped.lagar"), "The", "--tokens", "1"])
            .fails(3, &["flipped.lagar"]);
    }
}

#[test]
fn a_tier_that_the_file_lacks_is_wrong_usage() {
    let tiny = Tiny::new();
    tiny.press("a.lagar").ok();
    lagar(["run", &tiny.arg("a.lagar"), "The", "--tier", "RGB"]).fails(2, &["RGB", "R"]);
    lagar([
        "export",
        &tiny.arg("a.lagar"),
        "-o",
        &tiny.arg("out"),
        "--tier",
        "full",
    ])
    .fails(2, &["full", "R"]);
    tiny.absent("out");
}

#[test]
fn a_wrong_instruction_set_is_wrong_usage() {
    let tiny = Tiny::new();
    let run = crate::support::command(["run", &tiny.model(), "The"])
        .env("LAGAR_ISA", "mmx")
        .output()
        .unwrap();
    crate::support::Finished::from(run).fails(2, &["LAGAR_ISA", "mmx", "portable"]);
}

#[test]
fn a_place_that_cannot_be_written_is_said_before_the_work() {
    let tiny = Tiny::new();
    tiny.press("no/such/folder/out.lagar")
        .fails(1, &["no/such/folder"]);
    std::fs::create_dir(tiny.path("taken.lagar")).unwrap();
    tiny.press("taken.lagar")
        .fails(1, &["taken.lagar", "folder"]);
    std::fs::write(tiny.path("taken.lagar/file"), "").unwrap();
    tiny.press("a.lagar").ok();
    lagar([
        "export",
        &tiny.arg("a.lagar"),
        "-o",
        &tiny.arg("taken.lagar"),
    ])
    .fails(1, &["taken.lagar"]);
}
