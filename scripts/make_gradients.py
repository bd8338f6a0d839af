#!/usr/bin/env python3
"""Writes what torch's autograd computes from the tiny checkpoints of make_fixtures.py.

    venv/bin/python scripts/make_gradients.py                # after make_fixtures.py, with its packages
    venv/bin/python scripts/make_gradients.py qwen2 qwen3    # some of them

Each folder under crates/lagar-engine/tests/fixtures gets a gradients.json: for each of two losses of the tokens in
its expected.json, summed over the positions,

    cross_entropy   minus the log-probability of the next token; the last position has none
    kl              sum of p log(p/q), where q is the model's distribution and p that of reference logits: those in
                    logits.f32, times 0.8, rolled one place along the vocabulary (token t has the logit of t - 1)

the loss in nats, and of the gradient of every tensor its 2-norm, its sum, and some entries as pairs of flat index and
value: the largest, and four at equal distances. The arithmetic is float64.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM

FIXTURES = Path(__file__).resolve().parent.parent / "crates/lagar-engine/tests/fixtures"


def losses(logits, tokens, stored):
    cross_entropy = torch.nn.functional.cross_entropy(logits[:-1], tokens[1:], reduction="sum")
    reference = torch.log_softmax(torch.roll(0.8 * stored, 1, dims=1), dim=1)
    own = torch.log_softmax(logits, dim=1)
    kl = (reference.exp() * (reference - own)).sum()
    return {"cross_entropy": cross_entropy, "kl": kl}


def summary(gradient):
    flat = gradient.reshape(-1)
    places = {int(flat.abs().argmax())} | {i * (len(flat) - 1) // 3 for i in range(4)}
    return dict(
        norm=float(flat.norm()),
        sum=float(flat.sum()),
        entries=[[i, float(flat[i])] for i in sorted(places)],
    )


def make(name):
    folder = FIXTURES / name
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float64, attn_implementation="eager"
    ).eval()
    expected = json.loads((folder / "expected.json").read_text())
    tokens = torch.tensor(expected["tokens"])
    stored = np.frombuffer((folder / expected["logits_file"]).read_bytes(), "<f4")
    stored = torch.tensor(stored.reshape(len(tokens), -1).astype(np.float64))
    logits = model(tokens[None], use_cache=False).logits[0]
    written = dict(written_by=f"transformers {transformers.__version__}, torch {torch.__version__}")
    for kind, loss in losses(logits, tokens, stored).items():
        model.zero_grad()
        loss.backward(retain_graph=True)
        tensors = {n: summary(p.grad) for n, p in sorted(model.named_parameters())}
        written[kind] = dict(loss=loss.item(), tensors=tensors)
    path = folder / "gradients.json"
    path.write_text(json.dumps(written) + "\n")
    print(f"{name}: {path.stat().st_size / 1000:.0f} kB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="which fixtures (default: all)")
    names = parser.parse_args().names
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    for name in names or sorted(f.parent.name for f in FIXTURES.glob("*/expected.json")):
        make(name)


if __name__ == "__main__":
    main()
