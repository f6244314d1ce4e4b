"""A recipe from its file: read, changed by `--set`, its paths made absolute, and checked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tledge import yaml12
from tledge.errors import RecipeError
from tledge.recipe.explain import explain, unknown_kinds
from tledge.recipe.keys import dotted
from tledge.recipe.schema import Recipe
from tledge.yaml12 import KeyPath

SOURCES: tuple[KeyPath, ...] = (
    ("data", "train"),
    ("data", "validation"),
    ("data", "test"),
    ("data", "unlabelled"),
    ("data", "documents"),
    ("adapt", "target"),
    ("adapt", "judge"),
)
BACKBONES: tuple[KeyPath, ...] = (
    ("model", "backbone"),
    ("model", "tokenizer"),
    ("distill", "student", "backbone"),
)
WEIGHTS: tuple[KeyPath, ...] = (("model", "weights"), ("distill", "student", "weights"))
WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
PREFIXES = ("hub:", "package:", "torchvision:", "timm:", "arrays:", "fresh:")
"""What a source, backbone or file of weights starts with that is no path."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was written: the words for a message, and the folder that relative paths start from."""

    place: str
    folder: Path


Origins = dict[KeyPath, Origin]


def load_recipe(path: str | Path, overrides: Sequence[str] = (), *, cwd: Path | None = None) -> Recipe:
    """The checked recipe in a YAML file, with absolute paths, so that `save_recipe` can write it anywhere.

    Relative paths of data files and of a backbone's folder start from the recipe's folder, and those in an
    override from `cwd`. Text with a prefix such as `hub:` or `package:` stays as it is. A backbone is a folder
    when it starts with `.`, `/` or `~` or when there is such a folder; else it is a hub id. Weights are a file when
    they end in `.safetensors`, `.pth`, `.pt`, `.bin` or `.ckpt`.

    Args:
        path: The recipe's file.
        overrides: Values that replace those of the file, each a dotted key and YAML: `finetune.epochs=5` or
            `data.labels=[a, b]`.
        cwd: The folder that an override's relative paths start from; by default the current one.

    Raises:
        RecipeError: the file cannot be read, an override is malformed, or keys or values are wrong: one
            line for each mistake, with its place.
    """
    path = Path(path)
    values, origins = _read(path)
    for override in overrides:
        _set(values, origins, override, Path.cwd() if cwd is None else cwd)
    _make_absolute(values, origins)

    def place(key: KeyPath) -> str:
        return _origin(origins, key).place

    problems, recipe = [], None
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        problems = explain(error.errors(), values, place)
    problems += unknown_kinds(values, place)
    if problems or recipe is None:
        raise RecipeError("\n".join(problems))
    return recipe


def _read(path: Path) -> tuple[dict[str, Any], Origins]:
    values, lines = yaml12.read(yaml12.text_of(path, "recipe"), lambda line, column: f"{path}:{line}:{column}")
    if values is None:
        raise RecipeError(f"{path}: the file is empty; expected a recipe (`tledge init` writes a starter)")
    if not isinstance(values, dict):
        got = "a list" if isinstance(values, list) else yaml12.inline(values)[:60]
        advice = "; put a space after the colon" if isinstance(values, str) and ":" in values else ""
        line, column = lines[()]
        raise RecipeError(
            f"{path}:{line}:{column}: expected keys with values, such as `name: my-run`, got {got}{advice}"
        )
    folder = _absolute(path).parent
    origins = {key: Origin(f"{path}:{line}", folder) for key, (line, _) in lines.items()}
    return values, {**origins, (): Origin(str(path), folder)}


def _set(values: dict[str, Any], origins: Origins, override: str, folder: Path) -> None:
    """Put one override's value where its dotted key points, and remember that it came from there."""
    origin = Origin(f"--set {override}", _absolute(folder))
    key, equals, text = override.partition("=")
    path: tuple[str, ...] = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise RecipeError(f"{origin.place}: expected KEY=VALUE with a dotted key, such as --set finetune.epochs=5")
    section = values
    for depth, step in enumerate(path[:-1], start=1):
        if section.get(step) is None:
            section[step] = {}
            origins.setdefault(path[:depth], origin)
        section = section[step]
        if not isinstance(section, dict):
            whole = dotted(path[:depth])
            raise RecipeError(f"{origin.place}: {whole} has no keys inside; set it whole, as in --set {whole}=VALUE")
    section[path[-1]], _ = yaml12.read(text, lambda *_: origin.place)
    for known in [known for known in origins if known[: len(path)] == path]:
        del origins[known]
    origins[path] = origin


def _origin(origins: Origins, path: KeyPath) -> Origin:
    """Where a key was written, or else the section that it is in."""
    while path not in origins:
        path = path[:-1]
    return origins[path]


def _make_absolute(values: dict[str, Any], origins: Origins) -> None:
    for path in (*SOURCES, *BACKBONES, *WEIGHTS):
        section: Any = values
        for step in path[:-1]:
            section = section.get(step) if isinstance(section, dict) else None
        value = section.get(path[-1]) if isinstance(section, dict) else None
        if not isinstance(value, str) or not value:
            continue
        if value.startswith(PREFIXES) or (path in WEIGHTS and not value.endswith(WEIGHTS_SUFFIXES)):
            continue
        folder = _origin(origins, path).folder
        target = _absolute(folder / os.path.expanduser(value))  # noqa: PTH111, a ~name that is no user stays
        if path not in BACKBONES or _looks_local(value) or target.is_dir() or value.endswith(".gguf"):
            section[path[-1]] = str(target)


def _absolute(path: Path) -> Path:
    """Without `..`, but symbolic links stay: a link to a data file is the name that the user knows."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _looks_local(backbone: str) -> bool:
    return backbone.startswith((".", "/", "~")) or Path(backbone).is_absolute()
