"""Writes small tasks, and what EleutherAI's `lm-eval` makes of them, into crates/lagar-press/tests/fixtures/tasks.

    python scripts/make_task_fixtures.py

Beside each question stand the texts that `lm-eval` would score, written out by hand, so that the
reading of questions is tested too. Needs torch, transformers and lm-eval 0.4.
"""

import json
from pathlib import Path

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "crates/lagar-press/tests/fixtures/tasks"
MODELS = {
    "novels4m": ROOT / "assets/novels4m",
    "llama2": ROOT / "crates/lagar-engine/tests/fixtures/llama2",
    "qwen2": ROOT / "crates/lagar-engine/tests/fixtures/qwen2",
}
# Longer than the context of the first model.
LONG = "The old house stood at the end of the lane, and nobody had lived in it for many years. " * 20

TASKS = {
    "completions": [
        ({"prompt": "It was a fine morning, and", "answer": "the captain"}, [("It was a fine morning, and", " the captain")]),
        ({"prompt": "“Well,” said Zoë,  ", "answer": "“ça suffit — naïve ☂ 雨!”"}, [("“Well,” said Zoë,  ", "“ça suffit — naïve ☂ 雨!”")]),
        ({"context": "He looked at the", "continuation": "door"}, [("He looked at the", " door")]),
        ({"prompt": LONG, "answer": "It was said to be haunted."}, [(LONG, "It was said to be haunted.")]),
        ({"prompt": "", "answer": "Once more"}, [("", "Once more")]),
        ({"text": "She gave her hand to the young man"}, [("She gave her hand to the young", " man")]),
        ({"prompt": "Question?\n\n", "answer": "no\u00a0one"}, [("Question?\n\n", "no\u00a0one")]),
        ({"prompt": "He said", "answer": "nothing at all"}, [("He said", " nothing at all")]),
    ],
    "choices": [
        (
            {"query": "Question: Where do fish live?", "choices": ["in the water", "in a tree", "underground"], "gold": 0},
            [("Question: Where do fish live?\nAnswer:", f" {c}") for c in ["in the water", "in a tree", "underground"]],
        ),
        (
            {"query": "Question: How to open a door?\n", "choices": ["Turn the handle.", "Écrire à la poste."], "gold": 1},
            [("Question: How to open a door?\nAnswer:", f" {c}") for c in ["Turn the handle.", "Écrire à la poste."]],
        ),
        (
            {"prompt": "The sky is", "choices": ["blue", "a very large green elephant", "grün"], "answer": 0},
            [("The sky is", f" {c}") for c in ["blue", "a very large green elephant", "grün"]],
        ),
        (
            {"id": "x", "question": "What melts?", "choices": {"text": ["ice", "stone"], "label": ["A", "B"]}, "answerKey": "A"},
            [("Question: What melts?\nAnswer:", f" {c}") for c in ["ice", "stone"]],
        ),
        (
            {"goal": "To write a letter,", "sol1": "take a pen.", "sol2": "take a hat.", "label": 0},
            [("Question: To write a letter,\nAnswer:", f" {c}") for c in ["take a pen.", "take a hat."]],
        ),
        (
            {"prompt": LONG, "choices": ["Nobody came.", "Everybody knew the reason why."], "answer": 1},
            [(LONG, c) for c in ["Nobody came.", "Everybody knew the reason why."]],
        ),
    ],
    "contexts": [
        (
            {"context_options": ["The cup did not fit the box as the cup", "The cup did not fit the box as the box"], "continuation": "was too large.", "gold": 0},
            [(f"The cup did not fit the box as the {c}", " was too large.") for c in ["cup", "box"]],
        ),
        (
            {"sentence": "Mary thanked Anne, because _ had helped her.", "option1": "Mary", "option2": "Anne", "answer": "2"},
            [(f"Mary thanked Anne, because {c}", " had helped her.") for c in ["Mary", "Anne"]],
        ),
    ],
}


def main() -> None:
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for name, questions in TASKS.items():
        lines = [json.dumps(question, ensure_ascii=False) for question, _ in questions]
        (OUTPUT / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    expected = {}
    for model, folder in MODELS.items():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        harness = HFLM(pretrained=network, tokenizer=tokenizer, batch_size=1)
        for name, questions in TASKS.items():
            values = []
            for _, pairs in questions:
                requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
                results = harness.loglikelihood(requests, disable_tqdm=True)
                values.append([[round(log, 6), greedy] for log, greedy in results])
            expected.setdefault(model, {})[name] = values
    text = json.dumps(expected, indent=1)
    (OUTPUT / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
