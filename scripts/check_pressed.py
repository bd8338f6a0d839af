"""Compares a pressed model with `transformers` on its dequantized weights.

    python scripts/check_pressed.py FILE.lagar [--prompt TEXT] [--count 64]

Exports FILE.lagar in fp32, continues the prompt greedily with lagar's own kernels (on the codes, f32
activations) and with `transformers` (on the exported weights), and compares every token and every logit.
Needs torch, transformers and a Rust toolchain; exits with 1 if a token differs or a logit by more than 1e-3.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

LARGEST_DIFFERENCE = 1e-3
ROOT = Path(__file__).resolve().parent.parent


def cargo(*arguments: str) -> str:
    command = ["cargo", "run", "--release", "--quiet", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--prompt", default="It was a fine morning, and")
    parser.add_argument("--count", type=int, default=64)
    options = parser.parse_args()
    file = str(options.file.resolve())

    with tempfile.TemporaryDirectory() as folder:
        exported, logits_file = f"{folder}/exported", f"{folder}/logits.f32"
        cargo("--", "export", file, "-o", exported, "--dtype", "f32", "--quiet")
        tokenizer = AutoTokenizer.from_pretrained(exported)
        model = AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32, attn_implementation="eager")
        prompt = tokenizer(options.prompt)["input_ids"]

        ids = ",".join(map(str, prompt))
        example = ["-p", "lagar-engine", "--example", "logits"]
        greedy = json.loads(cargo(*example, "--", file, ids, str(options.count), logits_file))
        ours = numpy.fromfile(logits_file, "<f4").reshape(len(prompt) + options.count - 1, -1)

        tokens = list(prompt)
        with torch.no_grad():
            for _ in range(options.count):
                tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
            theirs = model(torch.tensor([tokens[:-1]])).logits[0].numpy()

    same = sum(a == b for a, b in zip(greedy, tokens[len(prompt):]))
    worst = float(numpy.abs(ours - theirs).max()) if same == options.count else float("nan")
    print(f"{options.file.name}: {same} of {options.count} greedy tokens equal, worst logit difference {worst:.2e}")
    return 0 if same == options.count and worst <= LARGEST_DIFFERENCE else 1


if __name__ == "__main__":
    sys.exit(main())
