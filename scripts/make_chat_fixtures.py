#!/usr/bin/env python3
"""Writes what transformers makes of chat templates, for the engine's tests to compare with.

    venv/bin/pip install transformers==5.23.0 jinja2==3.1.6
    venv/bin/python scripts/make_chat_fixtures.py

The templates in crates/lagar-engine/tests/chat_templates/*.jinja are written for these tests in the forms that published
models use. For each, NAME.json gets one entry per conversation: the messages, whether the answer's beginning is
asked for, and the text, or the message of the template's own exception. Dates are those of 2024-07-26.
"""

import datetime
import json
from pathlib import Path
from unittest import mock

import jinja2
from transformers.utils import chat_template_utils

FOLDER = Path(__file__).resolve().parent.parent / "crates/lagar-engine/tests/chat_templates"
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


def say(*pairs):
    return [{"role": role, "content": content} for role, content in pairs]


CONVERSATIONS = [
    say(("user", "Hello")),
    say(("system", "Be brief."), ("user", " When were olives first pressed? ")),
    say(("user", "Hi"), ("assistant", " Good day.\n"), ("user", "<b>'Bread' & \"oil\"</b>\n\nß 橄榄")),
    say(
        ("system", "You press olives."),
        ("user", "One"),
        ("assistant", "<think>\nhm\n</think>\n\nTwo"),
        ("user", "Three"),
        ("assistant", "Four"),
    ),
    say(("assistant", "I begin."), ("user", "No.")),
    say(("user", "a"), ("user", "b")),
]


class FixedDate(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26, 9, 5, 0)


def render(template, messages, add_generation_prompt):
    with mock.patch.object(chat_template_utils, "datetime", FixedDate):
        rendered, _ = chat_template_utils.render_jinja_template(
            conversations=[messages],
            chat_template=template,
            add_generation_prompt=add_generation_prompt,
            **SPECIAL,
        )
    return rendered[0]


def main():
    for path in sorted(FOLDER.glob("*.jinja")):
        cases = []
        for messages in CONVERSATIONS:
            for add_generation_prompt in (True, False):
                case = dict(messages=messages, add_generation_prompt=add_generation_prompt)
                try:
                    case["text"] = render(path.read_text(), messages, add_generation_prompt)
                except jinja2.exceptions.TemplateError as error:
                    case["error"] = str(error)
                cases.append(case)
        lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
        path.with_suffix(".json").write_text(f"[\n{lines}\n]\n")
        refused = sum("error" in case for case in cases)
        print(f"{path.stem}: {len(cases)} cases, {refused} of them refused")


if __name__ == "__main__":
    main()
