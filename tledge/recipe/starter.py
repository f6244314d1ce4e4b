"""A first recipe for one's own data: what one changes first, or every key with its description and default."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tledge import tasks, yaml12
from tledge.recipe import keys
from tledge.recipe.meaningless import MEANINGLESS
from tledge.recipe.save import SCHEMA_COMMENT
from tledge.yaml12 import KeyPath

BACKBONES = {
    "text": "sentence-transformers/all-MiniLM-L6-v2",
    "masked": "distilbert/distilbert-base-uncased",
    "words": "sentence-transformers/all-MiniLM-L6-v2",
    "embedding": "sentence-transformers/all-MiniLM-L6-v2",
    "question": "sentence-transformers/all-MiniLM-L6-v2",
    "image": "torchvision:mobilenet_v3_small",
    "boxed_image": "torchvision:mobilenet_v3_small",
    "language": "distilbert/distilgpt2",
}
"""The starter's backbones, by a task's `STARTER`: a good first try for short English texts, 22 million parameters, for
photos, 1.5, and to write English, 82."""

USUAL: Mapping[str, Mapping[KeyPath, Any]] = {
    "question": {("model", "max_length"): 384, ("model", "stride"): 128, ("finetune", "strategy"): "full"},
    "boxed_image": {("finetune", "strategy"): "full"},
}
"""Settings that a starter writes out for a kind of task, since the defaults are those of others."""

FEW = 20
"""Rows of the rarest label below which a starter proposes the strategy `few_shot`."""
WIDTH = 100
LABELS_SHOWN = 20

_HEADER = """\
# A starter recipe: run it with `tledge run`. `tledge init --full` lists every other key too.
"""
_FULL_HEADER = """\
# A starter recipe. Lines like `#key: value` show a key's default: remove the # to change it.
# Run it with `tledge run`.
"""

# Beside the keys that must be there, these are written out: they are what one changes first.
_WRITTEN_OUT: tuple[KeyPath, ...] = (
    ("data", "validation"),
    ("data", "test"),
    ("model", "max_length"),
    ("finetune", "strategy"),
    ("quantize", "schemes"),
    ("budget", "max_metric_drop"),
    ("bench", "length"),
)

# What a short recipe has beside the keys that must be there, with what it says of them.
_SHORT: Mapping[KeyPath, str] = {
    ("data", "validation"): "picks the epoch and the variant",
    ("data", "test"): "nothing is chosen on these rows",
    ("model", "backbone"): "or a hub id, a folder, package:..., torchvision:..., timm:...",
    ("model", "max_length"): "tokens; longer texts are cut, or read in windows where the task can",
    ("finetune", "strategy"): "how much of the network trains",
    ("quantize", "schemes"): "each gives a variant; the fastest one within the budget ships",
    ("budget", "max_metric_drop"): "what a variant may lose of the metric against fp32",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a look at the labelled rows told.

    `columns` maps the task's columns to the file's (`text` to `review`), and `labels` each label to its
    number of rows.
    """

    columns: Mapping[str, str]
    labels: Mapping[str, int] = field(default_factory=dict)
    n_rows: int = 0


def few_rows(task: str, facts: Facts) -> str:
    """Why a first recipe is to learn from few rows, as a sentence; empty where it is not."""
    if not facts.labels or "few_shot" not in tasks.load(task).STRATEGIES:
        return ""
    name, count = min(facts.labels.items(), key=lambda item: item[1])
    if count >= FEW:
        return ""
    return (
        f"The rarest label, {name[:60]}, has {count} rows: below {FEW}, few_shot learns more from pairs of rows than "
        "a head does that is trained on them."
    )


def starter(
    task: str,
    facts: Facts,
    *,
    name: str,
    data_path_text: str,
    backbone: str | None = None,
    settings: Mapping[KeyPath, Any] | None = None,
    full: bool = False,
) -> str:
    """The text of a commented recipe that loads as it is.

    Args:
        task: The task's name.
        facts: What was found in the data.
        name: The run's name; characters that a name may not have become `-`.
        data_path_text: What `data.train` says: a path relative to the recipe's folder, or with a prefix.
        backbone: What `model.backbone` says; by default a small one for the task's kind of input.
        settings: Further values to write out, by key.
        full: Every key with its whole description instead of those that one changes first.
    """
    module = tasks.load(task)
    kind = module.STARTER
    usual = keys.find(("finetune", "strategy"))[1]["default"]
    values: dict[KeyPath, Any] = {
        ("name",): re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("._-") or "my-run",
        ("task",): task,
        ("data", "train"): data_path_text,
        ("model", "backbone"): backbone or BACKBONES[kind],
        **({("data", "columns"): dict(facts.columns)} if facts.columns else {}),
        **({} if usual in module.STRATEGIES else {("finetune", "strategy"): module.STRATEGIES[0]}),
        **USUAL.get(kind, {}),
        **({("finetune", "strategy"): "few_shot"} if few_rows(task, facts) else {}),
        **(settings or {}),
    }
    notes: dict[KeyPath, str] = {("data",): _found(facts), ("finetune",): few_rows(task, facts)}
    left_out = MEANINGLESS[kind]
    entry = _entry if full else _short_entry
    shown = None if full else {*values, *_SHORT}
    entries = [
        entry(path, node, values, note=notes.get(path, ""))
        for path, node in keys.every()
        if not any(path[: len(other)] == other for other in left_out)
        and (shown is None or any(each[: len(path)] == path for each in shown))
    ]
    return "\n".join([SCHEMA_COMMENT + (_FULL_HEADER if full else _HEADER), *entries, ""])


def _short_entry(path: KeyPath, node: keys.Node, values: Mapping[KeyPath, Any], *, note: str) -> str:
    """The line of one key: its value, and beside it what one may want to know."""
    indent = "  " * (len(path) - 1)
    if keys.is_section(node):
        comment = _comment(note, indent) if note else ""
        return f"{chr(10) * (len(path) == 1)}{comment}{indent}{path[-1]}:"
    aside = f" # {_SHORT[path]}" if path in _SHORT else ""
    return f"{indent}{path[-1]}: {yaml12.inline(values.get(path, _default(path, node, values)))}{aside}"


def _entry(path: KeyPath, node: keys.Node, values: Mapping[KeyPath, Any], *, note: str) -> str:
    """The lines of one key: what it is, then the key with its value, or with `#` and its default."""
    indent = "  " * (len(path) - 1)
    comment = "".join(_comment(text, indent) for text in (node["description"], note) if text)
    if keys.is_section(node):
        gap = "\n" if len(path) == 1 else ""
        return f"{gap}{comment}{indent}{'#' * _is_optional(path)}{path[-1]}:"
    mark = "" if path in values or path in _WRITTEN_OUT else "#"
    value = values.get(path, _default(path, node, values))
    return f"{comment}{indent}{mark}{path[-1]}: {yaml12.inline(value)}"


def _is_optional(path: KeyPath) -> bool:
    """Whether a section may be left out, or lies in one that may."""
    return any(keys.is_optional(keys.find(path[:depth])[1]) for depth in range(1, len(path) + 1))


def _default(path: KeyPath, node: keys.Node, values: Mapping[KeyPath, Any]) -> Any:
    """A key's default; schemes are written out as the task's own."""
    if path == ("quantize", "schemes"):
        return list(tasks.load(values["task",]).SCHEMES)
    return node.get("default")


def _comment(text: str, indent: str) -> str:
    start = f"{indent}# "
    return textwrap.fill(text, WIDTH, initial_indent=start, subsequent_indent=start, break_long_words=False) + "\n"


def _found(facts: Facts) -> str:
    if not facts.n_rows:
        return ""
    shown = [f"{label} ({count})" for label, count in list(facts.labels.items())[:LABELS_SHOWN]]
    more = len(facts.labels) - len(shown)
    listed = ", ".join(shown) + (f" and {more} more" if more > 0 else "")
    return f"Found: {facts.n_rows} rows" + (f" with the labels {listed}." if listed else ".")
