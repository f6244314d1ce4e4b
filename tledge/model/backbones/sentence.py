"""What sentence-transformers keeps beside a model: the pooling, and what it does before and after it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
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


@dataclass(frozen=True, slots=True)
class Dense:
    """A linear layer on the pooled features: its `weight`, `(out, in)`, and `bias`, `(out,)`, as files hold them.

    `activation` is the name of a class of torch, such as `Identity` or `Tanh`.
    """

    weight: Any
    bias: Any | None
    activation: str


@dataclass(frozen=True, slots=True)
class Parts:
    """What stands behind the pooling, and before the texts: `others` are parts that are not known here."""

    dense: Dense | None = None
    others: tuple[str, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None


def parts(place: str, *, revision: str | None) -> Parts:
    """What a model's files say of it beside its pooling.

    Raises:
        ModelError: a file is damaged, or asks for something that is not known here.
    """
    folder, read = _place(place, revision)
    modules = read("modules.json")
    listed = modules if isinstance(modules, list) else []
    by_kind = {_kind(each): str(each.get("path", "")) for each in listed}
    others = tuple(kind for kind in by_kind if kind not in (*_USUAL, "Dense", "Normalize"))
    if sum(_kind(each) == "Dense" for each in listed) > 1:
        others = (*others, "a second Dense")
    facts = read("config_sentence_transformers.json")
    facts = facts if isinstance(facts, Mapping) else {}
    found = facts.get("prompts")
    prompts = found if isinstance(found, Mapping) else {}
    if any(prompts.values()) and _includes_prompt(read, by_kind) is False:
        others = (*others, "a pooling without the prompt's tokens")
    dense = _dense(folder, by_kind["Dense"], read, revision) if "Dense" in by_kind else None
    default = facts.get("default_prompt_name")
    return Parts(dense, others, {str(name): str(text) for name, text in prompts.items()}, default)


def _kind(module: Mapping[str, Any]) -> str:
    return str(module.get("type", "")).rpartition(".")[2]


def _includes_prompt(read: Read, by_kind: Mapping[str, str]) -> bool:
    config = read(f"{by_kind.get('Pooling', '1_Pooling')}/config.json")
    return not isinstance(config, Mapping) or config.get("include_prompt") is not False


def _dense(folder: str, path: str, read: Read, revision: str | None) -> Dense:
    config, file = read(f"{path}/config.json"), f"{path}/model.safetensors"
    local = Path(folder) / file
    if not Path(folder).is_dir():
        fetched = cached_file(folder, file, _raise_exceptions_for_missing_entries=False, revision=revision)
        local = Path(fetched) if fetched else local
    try:
        weights = load_file(local)
        activation = str((config or {}).get("activation_function", "Tanh")).rpartition(".")[2]
        return Dense(weights["linear.weight"], weights.get("linear.bias"), activation)
    except (OSError, KeyError, SafetensorError) as error:
        raise ModelError(
            f"model.backbone: {local} cannot be read: {error}; expected the layer that modules.json names, as "
            "safetensors"
        ) from error


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
        kinds = [_kind(each) for each in modules]
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
