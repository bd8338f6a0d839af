//! The block that Llama and its many relatives share: RMSNorm, attention with rotary positions,
//! SwiGLU, no dropout, tensors named as `transformers` names them.

use std::sync::Arc;

use super::config::Config;
use super::{Attention, Block, LinearSpec, Mask, Mlp, ModelSpec, Norm, Rope};
use crate::EngineError;

/// Sizes above these are refused: they are far beyond any model, and small enough that products
/// of two of them cannot overflow.
const LARGEST_WIDTH: usize = 1 << 24;
const MOST_LAYERS: usize = 1 << 12;
const MOST_POSITIONS: usize = 1 << 28;

/// In what the relatives differ.
pub(super) struct Traits {
    pub(super) qkv_bias: bool,
    pub(super) output_bias: bool,
    pub(super) mlp_bias: bool,
    /// Norms of each query and key head.
    pub(super) head_norms: bool,
    /// `head_dim` where the configuration gives none; `None` means hidden / heads.
    pub(super) default_head_dim: Option<usize>,
    /// `num_key_value_heads` where the configuration gives none; `None` means all heads.
    pub(super) default_kv_heads: Option<usize>,
    /// `max_position_embeddings` where the configuration gives none.
    pub(super) default_context: usize,
    /// The mask of each layer; the last one holds for the layers beyond.
    pub(super) masks: Vec<Mask>,
}

pub(super) fn layers(config: &Config<'_>) -> Result<usize, EngineError> {
    config.required_count("num_hidden_layers", MOST_LAYERS)
}

pub(super) fn window(config: &Config<'_>) -> Result<Option<usize>, EngineError> {
    config.count("sliding_window", MOST_POSITIONS)
}

/// Describes a decoder of this family.
pub(super) fn describe(
    config: &Config<'_>,
    architecture: &str,
    traits: &Traits,
) -> Result<ModelSpec, EngineError> {
    let hidden = config.required_count("hidden_size", LARGEST_WIDTH)?;
    let inner = config.required_count("intermediate_size", LARGEST_WIDTH)?;
    let vocabulary = config.required_count("vocab_size", LARGEST_WIDTH)?;
    let layers = layers(config)?;
    let heads = config.required_count("num_attention_heads", LARGEST_WIDTH)?;
    let kv_heads = config
        .count("num_key_value_heads", LARGEST_WIDTH)?
        .or(traits.default_kv_heads)
        .unwrap_or(heads);
    if heads % kv_heads != 0 {
        return Err(config.error(
            "num_key_value_heads",
            format!("must divide num_attention_heads {heads}, not be {kv_heads}"),
        ));
    }
    let head_dim = match config
        .count("head_dim", LARGEST_WIDTH)?
        .or(traits.default_head_dim)
    {
        Some(head_dim) => head_dim,
        None if hidden % heads == 0 => hidden / heads,
        None => {
            return Err(config.error(
                "hidden_size",
                format!("must be a multiple of num_attention_heads {heads}, not {hidden}"),
            ));
        }
    };
    if head_dim % 2 != 0 {
        return Err(config.error(
            "head_dim",
            format!("must be even for rotary positions, not {head_dim}"),
        ));
    }
    if heads.saturating_mul(head_dim) > LARGEST_WIDTH {
        return Err(config.error(
            "num_attention_heads",
            format!("times head_dim {head_dim} must be at most {LARGEST_WIDTH}, not with {heads}"),
        ));
    }
    let context = config
        .count("max_position_embeddings", MOST_POSITIONS)?
        .unwrap_or(traits.default_context);
    match config.text("hidden_act")?.unwrap_or("silu") {
        "silu" | "swish" => {}
        other => {
            return Err(config.unsupported(format!("hidden_act {other}"), "supported is silu"));
        }
    }
    let epsilon = config.positive("rms_norm_eps")?.unwrap_or(1e-6) as f32;
    let rope = Arc::new(Rope::from_config(config, head_dim, context)?);

    let norm = |weight: String, width: usize| Norm {
        weight,
        width,
        epsilon,
    };
    let linear = |name: String, outputs: usize, inputs: usize, bias: bool| LinearSpec {
        bias: bias.then(|| format!("{name}.bias")),
        weight: format!("{name}.weight"),
        outputs,
        inputs,
    };
    let block = |layer: usize| {
        let at = format!("model.layers.{layer}");
        let head_norm = |name: &str| {
            traits
                .head_norms
                .then(|| norm(format!("{at}.self_attn.{name}.weight"), head_dim))
        };
        Block {
            attention_norm: norm(format!("{at}.input_layernorm.weight"), hidden),
            attention: Attention {
                query: linear(
                    format!("{at}.self_attn.q_proj"),
                    heads * head_dim,
                    hidden,
                    traits.qkv_bias,
                ),
                key: linear(
                    format!("{at}.self_attn.k_proj"),
                    kv_heads * head_dim,
                    hidden,
                    traits.qkv_bias,
                ),
                value: linear(
                    format!("{at}.self_attn.v_proj"),
                    kv_heads * head_dim,
                    hidden,
                    traits.qkv_bias,
                ),
                output: linear(
                    format!("{at}.self_attn.o_proj"),
                    hidden,
                    heads * head_dim,
                    traits.output_bias,
                ),
                heads,
                kv_heads,
                head_dim,
                query_norm: head_norm("q_norm"),
                key_norm: head_norm("k_norm"),
                rope: Some(Arc::clone(&rope)),
                scale: (1.0 / (head_dim as f64).sqrt()) as f32,
                mask: traits
                    .masks
                    .get(layer)
                    .or(traits.masks.last())
                    .copied()
                    .unwrap_or(Mask::Causal),
            },
            mlp_norm: norm(format!("{at}.post_attention_layernorm.weight"), hidden),
            mlp: Mlp::SwiGlu {
                gate: linear(
                    format!("{at}.mlp.gate_proj"),
                    inner,
                    hidden,
                    traits.mlp_bias,
                ),
                up: linear(format!("{at}.mlp.up_proj"), inner, hidden, traits.mlp_bias),
                down: linear(
                    format!("{at}.mlp.down_proj"),
                    hidden,
                    inner,
                    traits.mlp_bias,
                ),
            },
        }
    };

    let embedding = "model.embed_tokens.weight".to_owned();
    let head_weight = if config.flag("tie_word_embeddings", false)? {
        embedding.clone()
    } else {
        "lm_head.weight".to_owned()
    };
    Ok(ModelSpec {
        architecture: architecture.to_owned(),
        vocabulary,
        hidden,
        context,
        embedding,
        blocks: (0..layers).map(block).collect(),
        final_norm: norm("model.norm.weight".into(), hidden),
        head: LinearSpec {
            weight: head_weight,
            bias: None,
            outputs: vocabulary,
            inputs: hidden,
        },
    })
}
