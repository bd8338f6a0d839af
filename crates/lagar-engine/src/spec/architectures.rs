//! The known architectures: for each a function from configuration to description.
//!
//! Where a configuration leaves a value out, the default is that of the architecture's
//! configuration class in `transformers`.

use super::config::Config;
use super::decoder::{self, Traits};
use super::{Mask, ModelSpec};
use crate::EngineError;

type Describe = fn(&Config<'_>, &str) -> Result<ModelSpec, EngineError>;

const KNOWN: [(&str, Describe); 4] = [
    ("LlamaForCausalLM", llama),
    ("MistralForCausalLM", mistral),
    ("Qwen2ForCausalLM", qwen2),
    ("Qwen3ForCausalLM", qwen3),
];

pub(super) fn describe(config: &Config<'_>) -> Result<ModelSpec, EngineError> {
    let names = config
        .strings("architectures")?
        .ok_or_else(|| config.error("architectures", "is missing"))?;
    if let Some(quantization) = config.object("quantization_config")? {
        let method = quantization.text("quant_method")?.unwrap_or("unnamed");
        return Err(config.unsupported(
            format!("a checkpoint that is already quantized ({method})"),
            "use the original checkpoint in F32, F16 or BF16",
        ));
    }
    let known = KNOWN.iter().find(|(name, _)| names.contains(name));
    let Some((name, describe)) = known else {
        return Err(EngineError::UnknownArchitecture {
            file: config.file().into(),
            found: names.join(", "),
            known: KNOWN.map(|(name, _)| name).join(", "),
        });
    };
    describe(config, name)
}

/// Llama 2 and 3, and the many models published in their form.
fn llama(config: &Config<'_>, name: &str) -> Result<ModelSpec, EngineError> {
    let attention_bias = config.flag("attention_bias", false)?;
    decoder::describe(
        config,
        name,
        &Traits {
            qkv_bias: attention_bias,
            output_bias: attention_bias,
            mlp_bias: config.flag("mlp_bias", false)?,
            head_norms: false,
            default_head_dim: None,
            default_kv_heads: None,
            default_context: 2048,
            masks: vec![Mask::Causal],
        },
    )
}

/// Mistral: a sliding window over every layer, which newer configurations switch off with `null`.
fn mistral(config: &Config<'_>, name: &str) -> Result<ModelSpec, EngineError> {
    const WINDOW_OF_THE_FIRST_MODEL: usize = 4096;
    let window = if config.mentions("sliding_window") {
        decoder::window(config)?
    } else {
        Some(WINDOW_OF_THE_FIRST_MODEL)
    };
    decoder::describe(
        config,
        name,
        &Traits {
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            head_norms: false,
            default_head_dim: None,
            default_kv_heads: Some(8),
            default_context: 131_072,
            masks: vec![window.map_or(Mask::Causal, Mask::SlidingWindow)],
        },
    )
}

/// Qwen 2 and 2.5: biases on queries, keys and values.
fn qwen2(config: &Config<'_>, name: &str) -> Result<ModelSpec, EngineError> {
    decoder::describe(
        config,
        name,
        &Traits {
            qkv_bias: true,
            output_bias: false,
            mlp_bias: false,
            head_norms: false,
            default_head_dim: None,
            default_kv_heads: Some(32),
            default_context: 32_768,
            masks: qwen_masks(config)?,
        },
    )
}

/// Qwen 3: norms on every query and key head instead of biases, heads of their own length.
fn qwen3(config: &Config<'_>, name: &str) -> Result<ModelSpec, EngineError> {
    let attention_bias = config.flag("attention_bias", false)?;
    decoder::describe(
        config,
        name,
        &Traits {
            qkv_bias: attention_bias,
            output_bias: attention_bias,
            mlp_bias: false,
            head_norms: true,
            default_head_dim: Some(128),
            default_kv_heads: Some(32),
            default_context: 32_768,
            masks: qwen_masks(config)?,
        },
    )
}

/// Where `use_sliding_window` is set, the layers from `max_window_layers` on have the window, or
/// those that `layer_types` names.
fn qwen_masks(config: &Config<'_>) -> Result<Vec<Mask>, EngineError> {
    let window = if config.flag("use_sliding_window", false)? {
        decoder::window(config)?.or(Some(4096).filter(|_| !config.mentions("sliding_window")))
    } else {
        None
    };
    let layers = decoder::layers(config)?;
    if let Some(types) = config.strings("layer_types")? {
        if types.len() != layers {
            return Err(config.error(
                "layer_types",
                format!("must name {layers} layers, not {}", types.len()),
            ));
        }
        return types
            .into_iter()
            .map(|kind| match (kind, window) {
                ("full_attention", _) => Ok(Mask::Causal),
                ("sliding_attention", Some(window)) => Ok(Mask::SlidingWindow(window)),
                ("sliding_attention", None) => Err(config.error(
                    "layer_types",
                    "names sliding_attention, but use_sliding_window and sliding_window give no \
                     window",
                )),
                (other, _) => Err(config.unsupported(
                    format!("layer type {other}"),
                    "supported are full_attention and sliding_attention",
                )),
            })
            .collect();
    }
    let first = config
        .count_or_zero("max_window_layers", usize::MAX)?
        .unwrap_or(28);
    Ok((0..layers)
        .map(|layer| match window {
            Some(window) if layer >= first => Mask::SlidingWindow(window),
            _ => Mask::Causal,
        })
        .collect())
}
