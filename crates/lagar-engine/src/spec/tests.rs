//! Reading configurations. That the descriptions are right is tested against `transformers`, by
//! `tests/fidelity.rs`.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Mask, ModelSpec, SiteId};

/// A small Llama, with changes: a key set to `null` is removed.
fn config(changes: Value) -> Value {
    let mut config = json!({
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "head_dim": 16,
        "vocab_size": 300,
        "max_position_embeddings": 256,
    });
    for (key, value) in changes.as_object().unwrap() {
        if value.is_null() {
            config.as_object_mut().unwrap().remove(key);
        } else {
            config[key] = value.clone();
        }
    }
    config
}

fn read(changes: Value) -> Result<ModelSpec, String> {
    let json = config(changes).to_string();
    ModelSpec::from_config("config.json", json.as_bytes()).map_err(|error| error.to_string())
}

/// The message has every one of these pieces.
#[track_caller]
fn refused(changes: Value, pieces: &[&str]) {
    let message = read(changes).expect_err("a configuration that cannot be run");
    for piece in pieces.iter().chain(&["config.json"]) {
        assert!(message.contains(piece), "{piece:?} is not in: {message}");
    }
}

proptest! {
    /// Whatever the values, reading ends, within memory, in a description or an error that names
    /// the file.
    #[test]
    fn no_value_of_any_key_panics(
        key in prop::sample::select(vec![
            "architectures", "hidden_size", "intermediate_size", "num_hidden_layers",
            "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size",
            "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling",
            "rope_parameters", "hidden_act", "tie_word_embeddings", "attention_bias",
            "sliding_window", "use_sliding_window", "max_window_layers", "layer_types",
            "quantization_config", "partial_rotary_factor",
        ]),
        value in prop::sample::select(vec![
            json!(0), json!(1), json!(-1), json!(3), json!(u64::MAX), json!(1 << 24), json!(1e300),
            json!(1e-300), json!(0.5), json!(""), json!("silu"), json!(true), json!([]), json!({}),
            json!(["x"]), json!([1]), json!({"rope_type": "yarn", "factor": 1e-300}),
            json!({"rope_type": "linear", "factor": 1e300}), json!({"type": 3}),
            json!({"rope_type": "llama3", "factor": 2, "low_freq_factor": 1e-300,
                "high_freq_factor": 1e300, "original_max_position_embeddings": 1e300}),
        ]),
        architecture in prop::sample::select(vec![
            "LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM",
        ]),
    ) {
        let mut config = config(json!({ "architectures": [architecture] }));
        config[key] = value;
        match ModelSpec::from_config("config.json", config.to_string().as_bytes()) {
            Ok(spec) => prop_assert!(spec.parameters() > 0),
            Err(error) => prop_assert!(error.to_string().contains("config.json")),
        }
    }

    /// Arbitrary bytes are an error.
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        prop_assert!(ModelSpec::from_config("config.json", &bytes).is_err());
    }
}

#[test]
fn what_cannot_be_run_is_refused_by_name() {
    refused(
        json!({ "architectures": ["GPT2LMHeadModel"] }),
        &[
            "GPT2LMHeadModel",
            "LlamaForCausalLM",
            "MistralForCausalLM",
            "Qwen2ForCausalLM",
            "Qwen3ForCausalLM",
        ],
    );
    refused(
        json!({ "architectures": null }),
        &["architectures", "missing"],
    );
    refused(json!({ "hidden_size": null }), &["hidden_size", "missing"]);
    refused(json!({ "hidden_size": "64" }), &["hidden_size", "\"64\""]);
    refused(
        json!({ "hidden_act": "gelu" }),
        &["hidden_act gelu", "silu"],
    );
    refused(
        json!({ "num_key_value_heads": 3 }),
        &["num_key_value_heads", "3"],
    );
    refused(json!({ "head_dim": 15 }), &["head_dim", "even", "15"]);
    refused(
        json!({ "head_dim": null, "hidden_size": 66 }),
        &["hidden_size", "66"],
    );
    refused(
        json!({ "partial_rotary_factor": 0.5 }),
        &["partial_rotary_factor 0.5"],
    );
    refused(
        json!({ "quantization_config": { "quant_method": "gptq" } }),
        &["gptq", "original checkpoint"],
    );
    refused(
        json!({ "rope_scaling": { "rope_type": "longrope", "factor": 2 } }),
        &["rope type longrope", "yarn"],
    );
    refused(
        json!({ "rope_scaling": { "type": "linear" } }),
        &["rope_scaling.factor", "missing"],
    );
    refused(
        json!({
            "architectures": ["Qwen2ForCausalLM"],
            "num_key_value_heads": 4,
            "layer_types": ["full_attention"],
        }),
        &["layer_types", "2", "1"],
    );
}

#[test]
fn malformed_json_is_an_error_that_says_where() {
    let error = ModelSpec::from_config("config.json", b"{\n \"hidden_size\": }").unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("config.json") && message.contains("line 2"),
        "{message}"
    );
}

#[test]
fn sites_are_numbered_in_order_and_cover_every_linear() {
    for tied in [false, true] {
        let spec = read(json!({ "tie_word_embeddings": tied })).unwrap();
        let sites = spec.sites();
        assert_eq!(sites.len(), 2 * 4 + 1);
        for (i, site) in sites.iter().enumerate() {
            assert_eq!(site.id, SiteId(i));
        }
        assert_eq!(sites.last().unwrap().id, spec.head_site());
        let mut read: Vec<_> = sites.iter().flat_map(|site| &site.linears).collect();
        read.sort();
        let tensors = spec.tensors();
        let mut needed: Vec<_> = tensors
            .iter()
            .filter(|tensor| tensor.shape.len() == 2)
            .map(|tensor| &tensor.name)
            .filter(|name| tied || *name != spec.embedding())
            .collect();
        needed.sort();
        assert_eq!(read, needed);
    }
}

#[test]
fn parameters_count_a_tied_embedding_once() {
    let block = 4 * 64 * 64 + 3 * 64 * 96 + 2 * 64;
    for (tied, embeddings) in [(true, 1), (false, 2)] {
        let spec = read(json!({ "tie_word_embeddings": tied })).unwrap();
        assert_eq!(spec.parameters(), 2 * block + 64 + embeddings * 300 * 64);
    }
}

#[test]
fn windows_are_where_the_configuration_puts_them() {
    let masks = |changes: Value| -> Vec<Mask> {
        let spec = read(changes).unwrap();
        spec.blocks
            .iter()
            .map(|block| block.attention.mask)
            .collect()
    };
    let (causal, window) = (Mask::Causal, Mask::SlidingWindow(8));
    let mistral = |window: Value| {
        let mut changes = json!({
            "architectures": ["MistralForCausalLM"], "num_key_value_heads": 4,
        });
        changes["sliding_window"] = window;
        changes
    };
    assert_eq!(masks(mistral(json!(8))), [window, window]);
    // Absent means the value of the first model, and null, none.
    assert_eq!(masks(mistral(json!(null))), [Mask::SlidingWindow(4096); 2]);
    let mut null = config(mistral(json!(8)));
    null["sliding_window"] = Value::Null;
    let spec = ModelSpec::from_config("config.json", null.to_string().as_bytes()).unwrap();
    assert_eq!(spec.blocks[0].attention.mask, causal);

    let qwen = |key: &str, value: Value| {
        let mut changes = json!({
            "architectures": ["Qwen2ForCausalLM"], "num_key_value_heads": 4,
            "use_sliding_window": true, "sliding_window": 8, "max_window_layers": 1,
        });
        changes[key] = value;
        changes
    };
    assert_eq!(masks(qwen("vocab_size", json!(300))), [causal, window]);
    assert_eq!(masks(qwen("max_window_layers", json!(0))), [window, window]);
    assert_eq!(
        masks(qwen("use_sliding_window", json!(false))),
        [causal, causal]
    );
    let types = json!(["sliding_attention", "full_attention"]);
    assert_eq!(masks(qwen("layer_types", types)), [window, causal]);
}

/// The values are those of `ROPE_INIT_FUNCTIONS` of transformers 5.23.
#[test]
fn stretched_rotary_frequencies_are_those_of_transformers() {
    let cases: [(Value, [f32; 8], f32); 4] = [
        (
            json!({ "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0,
                "original_max_position_embeddings": 64 }),
            [
                1.0,
                0.23717082,
                0.049999997,
                0.007905695,
                0.0025,
                0.00079056947,
                0.00025,
                7.905_695e-5,
            ],
            1.1386294,
        ),
        (
            json!({ "rope_type": "yarn", "rope_theta": 1e6, "factor": 40.0,
                "original_max_position_embeddings": 4096, "mscale": 0.7, "mscale_all_dim": 1.0,
                "truncate": false }),
            [
                1.0,
                0.17782794,
                0.02771086,
                0.0021957313,
                2.5e-5,
                4.4456983e-6,
                7.905694e-7,
                1.4058533e-7,
            ],
            0.919156,
        ),
        (
            json!({ "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64 }),
            [
                1.0,
                0.07940301,
                0.004700754,
                0.0009115831,
                0.00017677668,
                3.4281024e-5,
                6.6478697e-6,
                1.2891732e-6,
            ],
            1.0,
        ),
        (
            json!({ "rope_type": "dynamic", "rope_theta": 1e4, "factor": 8.0 }),
            [
                1.0,
                0.31622776,
                0.1,
                0.03162278,
                0.01,
                0.0031622779,
                0.001,
                0.00031622776,
            ],
            1.0,
        ),
    ];
    for (parameters, frequencies, magnitude) in cases {
        let mut old = parameters.clone();
        let theta = old.as_object_mut().unwrap().remove("rope_theta").unwrap();
        let kind = old.as_object_mut().unwrap().remove("rope_type").unwrap();
        old["type"] = kind;
        // The layouts of transformers 5 and 4.
        for layout in [
            json!({ "rope_parameters": parameters }),
            json!({ "rope_scaling": old, "rope_theta": theta }),
        ] {
            let spec = read(layout).unwrap();
            let rope = spec.blocks[0].attention.rope.clone().unwrap();
            assert!((rope.magnitude - magnitude).abs() < 1e-6, "{parameters}");
            for (found, expected) in rope.frequencies.iter().zip(frequencies) {
                let error = (found - expected).abs() / expected;
                assert!(error < 1e-6, "{parameters}: {found} instead of {expected}");
            }
        }
    }
}
