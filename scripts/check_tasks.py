"""Compares the scores of tasks with those of EleutherAI's `lm-eval` through `transformers` on the same weights.

    python scripts/check_tasks.py MODEL DIR [--limit N] [--task NAME ...]

MODEL is a checkpoint folder or a .lagar file; a file is exported in fp32 for `transformers`. DIR holds lambada_openai.jsonl,
arc_easy.jsonl, piqa.jsonl and winogrande.jsonl as llm-foundry has them. `lm-eval` runs its own requests, encoding, scoring and
statistics on those files, with the prompts of its tasks lambada_openai, arc_easy, piqa and winogrande. Every log-likelihood has to
agree within 1e-3 nats; accuracies and their standard errors have to be equal, perplexities within 0.1 %.

Questions with an answer longer than the model's context, which `lm-eval` refuses, are left out on both sides.
Needs torch, transformers, lm-eval 0.4, datasets and a Rust toolchain; exits with 1 if anything differs.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer

LARGEST_DIFFERENCE = 1e-3
ROOT = Path(__file__).resolve().parent.parent

MULTIPLE_CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{query.removesuffix('\n')}}\nAnswer:",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "gold",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}
TASKS = {
    "lambada_openai": {
        "output_type": "loglikelihood",
        "doc_to_text": "context",
        "doc_to_target": "{{' ' + continuation}}",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "arc_easy": MULTIPLE_CHOICE,
    "piqa": MULTIPLE_CHOICE,
    "winogrande": {
        "output_type": "multiple_choice",
        "doc_to_text": "gold",
        "doc_to_choice": "{{context_options}}",
        "doc_to_target": "continuation",
        "metric_list": [{"metric": "acc"}],
    },
}


def cargo(*arguments: str) -> str:
    command = ["cargo", "run", "--release", "--quiet", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def usable(lines: list[str], harness: HFLM) -> list[str]:
    """The questions that `lm-eval` takes: those whose answers fit the context."""
    def fits(line: str) -> bool:
        question = json.loads(line)
        answers = question.get("choices", [question.get("continuation")])
        return all(len(harness.tok_encode(" " + answer)) <= harness.max_length for answer in answers)
    return [line for line in lines if fits(line)]


def reference(name: str, file: Path, harness: HFLM) -> tuple[dict, list[list[float]]]:
    """What `lm-eval` makes of a file: its metrics, and the log-likelihoods of each question."""
    task = ConfigurableTask(config={
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}},
        "test_split": "test",
        "num_fewshot": 0,
        **TASKS[name],
    })
    result = simple_evaluate(model=harness, tasks=[task], log_samples=True, bootstrap_iters=2, verbosity="ERROR")
    samples = sorted(result["samples"][name], key=lambda sample: sample["doc_id"])
    # Of each request, the first (and only) response: log-likelihood, and whether decoding would give it.
    logs = [[float(responses[0][0]) for responses in sample["resps"]] for sample in samples]
    return result["results"][name], logs


def compare(name: str, model: str, file: Path, harness: HFLM) -> bool:
    started = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr):
        metrics, theirs = reference(name, file, harness)
    middle = time.monotonic()
    example = ["-p", "lagar-press", "--example", "task_scores"]
    ours = json.loads(cargo(*example, "--", model, str(file)))
    seconds = (time.monotonic() - middle, middle - started)

    answers = [answer["log_likelihoods"] for answer in ours["answers"]]
    same_shape = [len(a) for a in answers] == [len(t) for t in theirs]
    pairs = [(a, t) for own, their in zip(answers, theirs) for a, t in zip(own, their)]
    worst = max(abs(a - t) for a, t in pairs)
    agrees = same_shape and worst <= LARGEST_DIFFERENCE
    words = [f"{len(theirs)} questions, {len(pairs)} log-likelihoods, largest difference {worst:.1e}"]
    for own, their in [("accuracy", "acc"), ("accuracy_norm", "acc_norm"), ("perplexity", "perplexity")]:
        if f"{their},none" not in metrics:
            continue
        value, expected = ours[own], metrics[f"{their},none"]
        words.append(f"{own} {value:.6f} (lm-eval {expected:.6f})")
        tolerance = 1e-3 * expected if own == "perplexity" else 1e-12
        agrees &= abs(value - expected) <= tolerance
        if own != "perplexity":
            error, expected = ours[f"{own}_stderr"], metrics[f"{their}_stderr,none"]
            words.append(f"± {error:.6f} ({expected:.6f})")
            agrees &= abs(error - expected) <= 1e-12
    verdict = "agrees" if agrees else "DIFFERS"
    print(f"{name}: {', '.join(words)}; {seconds[0]:.1f} s, lm-eval {seconds[1]:.1f} s: {verdict}", flush=True)
    return agrees


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("tasks", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--task", action="append", choices=sorted(TASKS))
    options = parser.parse_args()
    model = str(options.model.resolve())

    agrees = True
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = model
        if options.model.is_file():
            checkpoint = f"{folder}/exported"
            cargo("--", "export", model, "-o", checkpoint, "--dtype", "f32", "--quiet")
        tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        network = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
        harness = HFLM(pretrained=network, tokenizer=tokenizer, batch_size=16)
        for name in options.task or TASKS:
            lines = (options.tasks / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()[: options.limit]
            kept = usable(lines, harness)
            if len(kept) < len(lines):
                print(f"{name}: {len(lines) - len(kept)} questions with an answer longer than the context are left out")
            file = Path(folder) / f"{name}.jsonl"
            file.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
            agrees &= compare(name, model, file, harness)
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
