"""What sentence-transformers keeps beside a model: the pooling, and what it does before and after it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from tledge.errors import ModelError

_POOLINGS = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
"""What it calls its modes in `pooling_mode`, and what they are called here."""
_OLD_SPELLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_USUAL = ("Transformer", "Pooling")

Read = Callable[[str], Any]


def declared(place: str, *, revision: str | None, tokenizer: Any) -> tuple[str | None, list[str]]:
    """The pooling that a model's files ask for, `None` where they ask for none, and lines on what is not followed.

    A pooling that is not known here is given in its own words, for the recipe to name another one.

    Raises:
        ModelError: a file is no JSON object.
    """
    folder, read = _place(place, revision)
    modules = read("modules.json")
    notes: list[str] = []
    pooling_at = "1_Pooling"
    if isinstance(modules, list):
        kinds = [str(each.get("type", "")).rpartition(".")[2] for each in modules]
        poolings = [str(each.get("path", "")) for each, kind in zip(modules, kinds, strict=True) if kind == "Pooling"]
        if len(poolings) > 1:
            return " and then ".join(poolings), notes
        pooling_at = poolings[0] if poolings else pooling_at
        others = [kind for kind in kinds if kind not in _USUAL]
        if others:
            notes.append(
                f"of {folder}/modules.json the parts {', '.join(others)} are left out: the head is trained on the "
                "pooled features"
            )
    return _mode(read(f"{pooling_at}/config.json")), notes + _unfollowed(read, folder, tokenizer)


def _mode(config: Any) -> str | None:
    if not isinstance(config, Mapping):
        return None
    new = config.get("pooling_mode")
    if new is None:
        modes = [mode for key, mode in _OLD_SPELLING.items() if config.get(key)]
        modes += [
            key for key, on in config.items() if key.startswith("pooling_mode_") and key not in _OLD_SPELLING and on
        ]
    else:
        modes = [str(mode) for mode in (new if isinstance(new, list) else [new])]
    if not modes:
        return None
    return _POOLINGS.get(modes[0], modes[0]) if len(modes) == 1 else " + ".join(modes)


def _unfollowed(read: Read, folder: str, tokenizer: Any) -> list[str]:
    notes = []
    facts = read("config_sentence_transformers.json")
    prompts = facts.get("prompts") if isinstance(facts, Mapping) else None
    used = {name: text for name, text in prompts.items() if text} if isinstance(prompts, Mapping) else {}
    if used:
        told = ", ".join(f"{name}: {text!r}" for name, text in used.items())
        notes.append(
            f"{folder} has prompts ({told}) that are not put before texts here; write them into the rows where they "
            "are wanted, and before each text that is predicted"
        )
    facts = read("sentence_bert_config.json")
    lower = isinstance(facts, Mapping) and bool(facts.get("do_lower_case"))
    if lower and tokenizer("A Word").input_ids != tokenizer("a word").input_ids:
        notes.append(f"{folder}/sentence_bert_config.json asks for lower case, which its tokenizer does not make")
    return notes


def _place(place: str, revision: str | None) -> tuple[str, Read]:
    """Where the files are and what reads them: beside the model, or in the old layout one folder up."""
    local = Path(place)
    if local.is_dir():
        outside = local.parent / "modules.json"
        if not (local / "modules.json").exists() and outside.exists() and _lists(_json(outside), local.name):
            local = local.parent
        return str(local), lambda name: _json(local / name)

    def fetched(name: str) -> Any:
        try:
            file = cached_file(
                place,
                name,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
                revision=revision,
            )
        except OSError:
            return None
        return None if file is None else _json(Path(file))

    return place, fetched


def _lists(modules: Any, name: str) -> bool:
    return isinstance(modules, list) and any(isinstance(each, Mapping) and each.get("path") == name for each in modules)


def _json(path: Path) -> Any:
    """What a file holds, `None` where there is none."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"model.backbone: {path} cannot be read as JSON: {error}; mend or remove it") from error
