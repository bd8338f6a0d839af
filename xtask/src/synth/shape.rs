//! The shape of a made-up Llama.

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use lagar_engine::ModelSpec;
use serde_json::json;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Preset {
    /// 0.1 M parameters, vocabulary 512
    Tiny,
    /// TinyLlama's: 1.1 G parameters, 22 layers of width 2048, grouped-query attention
    #[value(name = "1b")]
    OneB,
    /// Llama 2's: 6.7 G parameters, 32 layers of width 4096
    #[value(name = "7b")]
    SevenB,
}

/// A preset, and what differs from it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Shape")]
pub(super) struct Shape {
    #[arg(long, value_enum, default_value = "1b")]
    preset: Preset,
    /// Width of the residual stream
    #[arg(long, value_name = "N")]
    hidden: Option<usize>,
    #[arg(long, value_name = "N")]
    layers: Option<usize>,
    /// Width of the MLP
    #[arg(long, value_name = "N")]
    mlp: Option<usize>,
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
    #[arg(long, value_name = "N")]
    kv_heads: Option<usize>,
    #[arg(long, value_name = "N")]
    vocabulary: Option<usize>,
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    /// Let the embedding be the output head
    #[arg(long)]
    tied: bool,
}

impl Shape {
    /// hidden, layers, mlp, heads, kv_heads, vocabulary, context
    fn preset(&self) -> [usize; 7] {
        match self.preset {
            Preset::Tiny => [64, 2, 172, 4, 2, 512, 512],
            Preset::OneB => [2048, 22, 5632, 32, 4, 32_000, 2048],
            Preset::SevenB => [4096, 32, 11_008, 32, 32, 32_000, 4096],
        }
    }

    pub(super) fn vocabulary(&self) -> usize {
        self.vocabulary.unwrap_or(self.preset()[5])
    }

    /// `config.json`.
    pub(super) fn config(&self) -> Result<Vec<u8>> {
        let [hidden, layers, mlp, heads, kv_heads, _, context] = self.preset();
        let config = json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "hidden_size": self.hidden.unwrap_or(hidden),
            "num_hidden_layers": self.layers.unwrap_or(layers),
            "intermediate_size": self.mlp.unwrap_or(mlp),
            "num_attention_heads": self.heads.unwrap_or(heads),
            "num_key_value_heads": self.kv_heads.unwrap_or(kv_heads),
            "vocab_size": self.vocabulary(),
            "max_position_embeddings": self.context.unwrap_or(context),
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "tie_word_embeddings": self.tied,
            "attention_bias": false,
            "mlp_bias": false,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "torch_dtype": "bfloat16",
        });
        Ok(serde_json::to_vec_pretty(&config)?)
    }

    /// What the engine makes of it.
    pub(super) fn spec(&self) -> Result<ModelSpec> {
        ModelSpec::from_config("config.json", &self.config()?).context("no model has this shape")
    }
}
