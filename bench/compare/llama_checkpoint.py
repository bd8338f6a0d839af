"""A Llama checkpoint of Hugging Face's form, the same as a GGUF, and a text's tokens: what the comparisons here share."""

import hashlib
import json
import math
import pathlib
import re
import sys

import gguf
import numpy as np

DTYPES = {"BF16": "<u2", "F16": "<f2", "F32": "<f4"}
LINEARS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
TOP = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


class Checkpoint:
    """A Hugging Face folder of a Llama model."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        if not (self.folder / "config.json").is_file():
            sys.exit(f"{folder}: a checkpoint folder with a config.json is needed")
        self.config = json.loads((self.folder / "config.json").read_text())
        self.refuse_others()
        self.heads = self.config["num_attention_heads"]
        self.kv_heads = self.config.get("num_key_value_heads") or self.heads
        self.head_dim = self.config.get("head_dim") or self.config["hidden_size"] // self.heads
        self.tensors = {}
        self.files = sorted(self.folder.glob("*.safetensors"))
        for path in self.files:
            self.read_header(path)
        if self.config.get("tie_word_embeddings"):
            self.tensors.pop("lm_head.weight", None)
        self.parameters = sum(math.prod(entry["shape"]) for _, entry, _ in self.tensors.values())

    def refuse_others(self):
        config = self.config
        rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
        if config.get("architectures") != ["LlamaForCausalLM"]:
            sys.exit(f"{self.folder}: only LlamaForCausalLM can be compared, not {config.get('architectures')}")
        if config.get("attention_bias") or config.get("mlp_bias"):
            sys.exit(f"{self.folder}: linears with biases are not handled")
        if rope.get("rope_type", "default") != "default" or "type" in rope:
            sys.exit(f"{self.folder}: scaled rotary positions are not handled: {rope}")

    def read_header(self, path):
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            if name.endswith("rotary_emb.inv_freq"):
                continue
            if entry["dtype"] not in DTYPES:
                sys.exit(f"{path}: {name} is {entry['dtype']}; only {', '.join(DTYPES)} are handled")
            self.tensors[name] = path, entry, 8 + length + entry["data_offsets"][0]

    def values(self, name):
        """A tensor in f32."""
        path, entry, offset = self.tensors[name]
        values = np.memmap(path, DTYPES[entry["dtype"]], "r", offset, tuple(entry["shape"]))
        if entry["dtype"] == "BF16":
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32)

    def context(self):
        return min(self.config["max_position_embeddings"], 2048)

    def digest(self, version):
        """Names what is made of these files by some version of another program."""
        state = [version, self.config]
        state += [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in self.files]
        return digest(json.dumps(state).encode())


def digest(data):
    return hashlib.sha256(data).hexdigest()[:10]


def gguf_name(name):
    if name in TOP:
        return TOP[name]
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", name)
    part = match and (LINEARS | NORMS).get(match[2])
    if not part:
        sys.exit(f"no place in llama.cpp's Llama for the tensor {name}")
    return f"blk.{match[1]}.{part}.weight"


def half_rotation(rows, heads):
    """Rows of q or k in the order for rotating halves, given that for rotating neighbours."""
    per_head = rows.reshape(heads, rows.shape[0] // heads // 2, 2, -1)
    return per_head.swapaxes(1, 2).reshape(rows.shape)


def neighbour_rotation(rows, heads):
    """Rows of q or k in the order for rotating neighbours, given that for rotating halves."""
    per_head = rows.reshape(heads, 2, rows.shape[0] // heads // 2, -1)
    return per_head.swapaxes(1, 2).reshape(rows.shape)


def write_gguf(checkpoint, path, kind):
    """The checkpoint as llama.cpp wants it, matrices in F32 or F16, without a vocabulary: tokens are given as ids."""
    config, head_dim = checkpoint.config, checkpoint.head_dim
    partial = path.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, "llama")
    writer.add_name(checkpoint.folder.name)
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(checkpoint.heads)
    writer.add_head_count_kv(checkpoint.kv_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    rope = config.get("rope_parameters") or config
    writer.add_rope_freq_base(rope.get("rope_theta", 10000.0))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_file_type({"F32": gguf.LlamaFileType.ALL_F32, "F16": gguf.LlamaFileType.MOSTLY_F16}[kind])

    def dtype(shape):
        return np.dtype(DTYPES[kind] if len(shape) == 2 else np.float32)

    for name, (_, entry, _) in checkpoint.tensors.items():
        shape = entry["shape"]
        writer.add_tensor_info(gguf_name(name), shape, dtype(shape), dtype(shape).itemsize * math.prod(shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name in checkpoint.tensors:
        values = checkpoint.values(name)
        for part, heads in (("q_proj", checkpoint.heads), ("k_proj", checkpoint.kv_heads)):
            if f".{part}." in name:
                values = neighbour_rotation(values, heads)
        writer.write_tensor_data(np.ascontiguousarray(values, dtype(values.shape)))
    writer.close()
    partial.rename(path)


class Windows:
    """A text's tokens, cut as `lagar eval` cuts them."""

    def __init__(self, checkpoint, text, tokens, context):
        # Only this needs the package.
        import tokenizers

        tokenizer = tokenizers.Tokenizer.from_file(str(checkpoint.folder / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        content = pathlib.Path(text).read_bytes().decode()
        self.ids = tokenizer.encode(content, add_special_tokens=False).ids[:tokens]
        bos = added_bos(checkpoint, tokenizer)
        self.bos = [] if bos is None else [bos]
        self.context = context

    def __iter__(self):
        stride = self.context - len(self.bos)
        for start in range(0, len(self.ids), stride):
            window = self.ids[start : start + stride]
            if len(window) >= 2:
                yield self.bos + window

    def digest(self):
        return digest(json.dumps([self.ids, self.bos, self.context]).encode())


def added_bos(checkpoint, tokenizer):
    """The token that the tokenizer puts before a text; `add_bos_token` in its settings decides."""
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    full = tokenizer.encode("a").ids
    template = full[0] if full[:1] != plain[:1] else None
    path = checkpoint.folder / "tokenizer_config.json"
    settings = json.loads(path.read_text()) if path.is_file() else {}
    if settings.get("add_bos_token") is None:
        return template
    if not settings["add_bos_token"]:
        return None
    bos = settings.get("bos_token")
    bos = bos["content"] if isinstance(bos, dict) else bos
    return template if bos is None else tokenizer.token_to_id(bos)
