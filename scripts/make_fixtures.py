#!/usr/bin/env python3
"""Writes the tiny checkpoints that the engine's tests compare with Hugging Face transformers.

    python3 -m venv venv
    venv/bin/pip install torch==2.15.0 transformers==5.23.0 tokenizers==0.23.3
    venv/bin/python scripts/make_fixtures.py                 # all fixtures
    venv/bin/python scripts/make_fixtures.py qwen2 qwen3     # some of them

Each folder under crates/lagar-engine/tests/fixtures is a complete checkpoint with random weights and
the features its architecture really uses, and beside it:

    expected.json   tokens (the prompt's ids), logits_file, greedy (the 64 ids that follow by argmax, no stop at EOS),
                    and smallest_margin, the least lead of a chosen logit over the second, so that a test that
                    compares the greedy ids does not hang on rounding
    logits.f32      little-endian f32, tokens x vocabulary: logits after each token of the prompt

The arithmetic is float32 on the CPU with eager attention, whatever dtype the weights are stored in; greedy ids come
from whole forward passes, no cache. Weights, prompts and files depend on the seeds here and on the versions of the
packages only; each fixture's expected.json names the versions that wrote it.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import tokenizers
import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

FIXTURES = Path(__file__).resolve().parent.parent / "crates/lagar-engine/tests/fixtures"
GREEDY_TOKENS = 64
MINIMUM_MARGIN = 0.005
DISTINCT_TOKENS = 16

TRAINING_TEXT = """The mill stands where two roads meet, and the olives come in before dawn.
Nobody hurries: the stones turn, the baskets fill, and the first oil runs green and sharp.
When the presses are full they wait; when they are empty they are washed, and the day is over."""


def byte_level_tokenizer(size):
    """Byte-level BPE as Llama 3 and Qwen have it; three special tokens, then bytes, then merges."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|begin|>", "<|end|>", "<|turn|>"],
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TRAINING_TEXT.splitlines(), trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", 0)]
    )
    assert tokenizer.get_vocab_size() == size
    return tokenizer, ("<|begin|>", "<|end|>")


def sentencepiece_tokenizer(size):
    """BPE with byte fallback and U+2581 for spaces, as Llama 2 and Mistral have it."""
    trained = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    trained.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("\u2581"), tokenizers.normalizers.Replace(" ", "\u2581")]
    )
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<unk>", "<s>", "</s>", *bytes_], show_progress=False
    )
    trained.train_from_iterator(TRAINING_TEXT.splitlines(), trainer)
    description = json.loads(trained.to_str())
    description["model"].update(byte_fallback=True, fuse_unk=True)
    # Only <unk>, <s> and </s> are added tokens: the byte tokens belong to the model's own vocabulary.
    description["added_tokens"] = description["added_tokens"][:3]
    description["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }
    description["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    }
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(description))
    assert tokenizer.get_vocab_size() == size
    return tokenizer, ("<s>", "</s>")


def shape(**changes):
    """The shape all fixtures start from: odd on purpose, nothing a multiple of 128."""
    common = dict(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=88,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
    )
    return common | changes


# name -> what makes the checkpoint. `without`: changes to the configuration that must change the logits, which
# proves that the fixture exercises the feature. `classic`: write rope_theta and rope_scaling at the top level, as
# every checkpoint published before transformers 5 has them.
RECIPES = {
    "llama2": dict(
        config=lambda: LlamaConfig(
            **shape(
                hidden_size=48,
                intermediate_size=100,
                num_key_value_heads=4,
                tie_word_embeddings=False,
                rms_norm_eps=1e-5,
                vocab_size=290,
            )
        ),
        tokenizer=sentencepiece_tokenizer,
        dtype=torch.float16,
    ),
    "llama3": dict(
        config=lambda: LlamaConfig(
            **shape(
                rope_parameters=dict(
                    rope_type="llama3",
                    rope_theta=500000.0,
                    factor=8.0,
                    low_freq_factor=1.0,
                    high_freq_factor=4.0,
                    original_max_position_embeddings=64,
                ),
                rms_norm_eps=1e-5,
            )
        ),
        tokenizer=byte_level_tokenizer,
        dtype=torch.bfloat16,
        without=dict(rope_parameters=dict(rope_type="default", rope_theta=500000.0)),
    ),
    "llama-linear-rope": dict(
        # Biases everywhere a Llama may have them, and a vocabulary padded past the tokenizer's.
        config=lambda: LlamaConfig(
            **shape(
                hidden_size=48,
                intermediate_size=64,
                rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0),
                attention_bias=True,
                mlp_bias=True,
                vocab_size=304,
            )
        ),
        tokenizer=byte_level_tokenizer,
        tokenizer_size=300,
        dtype=torch.bfloat16,
        without=dict(rope_parameters=dict(rope_type="default", rope_theta=10000.0)),
        classic=False,
    ),
    "mistral": dict(
        config=lambda: MistralConfig(
            **shape(
                sliding_window=8,
                tie_word_embeddings=False,
                rms_norm_eps=1e-5,
                vocab_size=290,
                hidden_size=48,
                head_dim=16,
            )
        ),
        tokenizer=sentencepiece_tokenizer,
        dtype=torch.bfloat16,
        without=dict(sliding_window=None),
    ),
    "qwen2": dict(
        config=lambda: Qwen2Config(
            **shape(rope_parameters=dict(rope_type="default", rope_theta=1000000.0))
        ),
        tokenizer=byte_level_tokenizer,
        dtype=torch.bfloat16,
    ),
    "qwen3": dict(
        config=lambda: Qwen3Config(
            **shape(
                head_dim=24, rope_parameters=dict(rope_type="default", rope_theta=1000000.0)
            )
        ),
        tokenizer=byte_level_tokenizer,
        dtype=torch.bfloat16,
    ),
    "llama-sharded": dict(
        config=lambda: LlamaConfig(
            **shape(hidden_size=32, intermediate_size=44, num_hidden_layers=3)
        ),
        tokenizer=byte_level_tokenizer,
        dtype=torch.float32,
        max_shard_size="60KB",
    ),
}


@torch.no_grad()
def randomize(model, seed):
    """Weights at a scale where attention, MLP and rotation all show in the logits, and no logit vector is flat."""
    generator = torch.Generator().manual_seed(seed)

    def normal(parameter, scale, around=0.0):
        parameter.copy_(around + scale * torch.randn(parameter.shape, generator=generator))

    for name, parameter in sorted(model.named_parameters()):
        if name.endswith("bias"):
            # Biases on the residual stream stay small: they draw every position to the same token.
            normal(parameter, 0.3 if ".q_" in name or ".k_" in name else 0.1)
        elif "norm" in name:
            normal(parameter, 0.25, around=1.0)
        elif "embed_tokens" in name or "lm_head" in name:
            # A large tied embedding would make every token foretell itself.
            tied = model.config.tie_word_embeddings
            normal(parameter, (1.4 if tied else 2.5) / parameter.shape[1] ** 0.5)
        elif "q_proj" in name or "k_proj" in name:
            normal(parameter, 1.4 / parameter.shape[1] ** 0.5)
        else:
            normal(parameter, 1.0 / parameter.shape[1] ** 0.5)


def load(folder):
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


@torch.no_grad()
def logits_of(model, tokens):
    return model(torch.tensor([tokens]), use_cache=False).logits[0]


def greedy(model, tokens):
    """The ids that follow by argmax, and the least lead of the best logit over the second."""
    sequence, margin = list(tokens), float("inf")
    for _ in range(GREEDY_TOKENS):
        top = logits_of(model, sequence)[-1].topk(2)
        margin = min(margin, float(top.values[0] - top.values[1]))
        sequence.append(int(top.indices[0]))
    return sequence[len(tokens) :], margin


def classic_rope(folder):
    """Rewrites config.json the way it looked before transformers 5."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    config["torch_dtype"] = config.pop("dtype")
    if config.get("head_dim") == config["hidden_size"] // config["num_attention_heads"]:
        del config["head_dim"]
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def write_tokenizer(folder, recipe, vocabulary):
    tokenizer, (bos, eos) = recipe["tokenizer"](recipe.get("tokenizer_size", vocabulary))
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = dict(
        tokenizer_class="PreTrainedTokenizerFast",
        bos_token=bos,
        eos_token=eos,
        clean_up_tokenization_spaces=False,
    )
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return tokenizer.token_to_id(bos), tokenizer.token_to_id(eos)


def make(name, recipe):
    folder = FIXTURES / name
    best = (0, 0.0)
    for attempt in range(200):
        seed = 1000 * list(RECIPES).index(name) + attempt
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        config = recipe["config"]()
        bos, eos = write_tokenizer(folder, recipe, config.vocab_size)
        config.bos_token_id, config.eos_token_id = bos, eos
        model = AutoModelForCausalLM.from_config(config)
        randomize(model, seed)
        model.to(recipe["dtype"]).save_pretrained(
            folder, max_shard_size=recipe.get("max_shard_size", "1GB")
        )
        if recipe.get("classic", True):
            classic_rope(folder)
        picker = np.random.default_rng(seed)
        limit = recipe.get("tokenizer_size", config.vocab_size)
        tokens = [bos] + [int(t) for t in picker.integers(3, limit, size=31)]

        model = load(folder)
        logits = logits_of(model, tokens)
        following, margin = greedy(model, tokens)
        if margin >= MINIMUM_MARGIN and len(set(following)) >= DISTINCT_TOKENS:
            break
        best = max(best, (len(set(following)), margin))
    else:
        raise SystemExit(f"{name}: no seed gives varied greedy ids clear of rounding; best {best}")

    if "without" in recipe:
        plain = recipe["config"]()
        for key, value in recipe["without"].items():
            setattr(plain, key, value)
        other = AutoModelForCausalLM.from_config(plain, attn_implementation="eager").eval()
        other.load_state_dict(model.state_dict())
        difference = float((logits_of(other, tokens) - logits).abs().max())
        assert difference > 0.1, f"{name}: {recipe['without']} does not show ({difference})"

    (folder / "logits.f32").write_bytes(logits.numpy().astype("<f4").tobytes())
    expected = dict(
        tokens=tokens,
        logits_file="logits.f32",
        greedy=following,
        smallest_margin=round(margin, 4),
        written_by=f"transformers {transformers.__version__}, torch {torch.__version__}",
        seed=seed,
    )
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")
    size = sum(f.stat().st_size for f in folder.iterdir())
    spread = float(logits.std(dim=1).mean())
    print(
        f"{name}: seed {seed}, {size / 1000:.0f} kB, logits' deviation {spread:.2f}, "
        f"margin {margin:.4f}, {len(set(following))} distinct greedy ids"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"which fixtures: {', '.join(RECIPES)} (default: all)")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    for name in arguments.names or RECIPES:
        make(name, RECIPES[name])


if __name__ == "__main__":
    main()
