"""The manifest `bundle.json`: what a bundle is, takes and gives. `docs/bundle-format.md` is its specification."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tledge import artifacts, run_folder
from tledge.artifacts import TensorSpec, Variant
from tledge.bundle import seal
from tledge.bundle.decoding import Decoding
from tledge.errors import BundleError, InputError, did_you_mean

FORMAT_VERSION = 1
FILE = "bundle.json"
_LARGEST = 64 * 1024 * 1024
"""Bytes of a manifest at most; those of a thousand labels and variants are far below."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What the graphs take: the module of `tledge.inputs` that prepares it, its length limit, and the tensors.

    `max_length` is `None` for inputs without a length.
    """

    kind: str
    max_length: int | None
    tensors: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True)
class Golden:
    """The self-test: the file of golden vectors, the sentences or the number of images in it, and the tolerances.

    A tolerance is a share of the largest absolute value among a variant's golden outputs. Images are in the file.
    `continued` is the number of sentences, from the first on, that a language model went on with.
    """

    file: str
    sentences: tuple[str, ...]
    tolerance: Mapping[str, float]
    images: int = 0
    continued: int = 0


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a bundle comes from.

    `created` is a UTC time in ISO 8601; `rows` counts the rows of each split and `labels` the rows of each label in
    each split; `packages` are versions. `calibration` has 16 hexadecimal digits of the SHA-256 of each calibration
    row's input (a text's UTF-8, or an image file's bytes), so that nobody evaluates on one unawares.
    """

    tledge: str
    created: str
    backbone: str = ""
    backbone_sha256: str = ""
    recipe_sha256: str = ""
    rows: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    calibration: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle is, takes and gives.

    `labels` are in the order of the outputs. Paths of graphs are relative to the bundle. `chosen` names the variant
    that runs unless another is asked for, and `metrics` are its test metrics. `opset` and `ir_version` are the
    largest among the graphs: what an onnxruntime must be able to read. `files` has the SHA-256 of every file but
    the manifest. `generation` is what only language models have; they have no labels.
    """

    format_version: int
    name: str
    task: str
    problem_type: str
    labels: tuple[str, ...]
    input: InputSpec
    outputs: tuple[TensorSpec, ...]
    variants: tuple[Variant, ...]
    chosen: str
    metrics: Mapping[str, float]
    opset: int
    ir_version: int
    golden: Golden
    provenance: Provenance
    files: Mapping[str, str]
    generation: Decoding | None = None

    def variant(self, name: str) -> Variant:
        """The variant of that name, which must exist."""
        return next(variant for variant in self.variants if variant.name == name)


def find_variant(manifest: Manifest, name: str | None, folder: Path) -> Variant:
    """The variant of that name, by default the one that was chosen when it was bundled; `folder` is for the error.

    Raises:
        InputError: there is no such variant; the message lists those that there are.
    """
    known = [variant.name for variant in manifest.variants]
    if name is not None and name not in known:
        raise InputError(f"{folder} has no variant {name!r}; it has {', '.join(known)}{did_you_mean(name, known)}")
    return manifest.variant(manifest.chosen if name is None else name)


def load(path: str | Path) -> Manifest:
    """The manifest of the bundle in a folder.

    Raises:
        BundleError: the folder is not a bundle, its manifest is damaged, or its format is newer than this reader.
    """
    folder = Path(path)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise BundleError(f"{folder} is not a bundle: it {what}; expected a folder with {FILE}")
    content = _content(folder)
    try:
        data = json.loads(content)
    except json.JSONDecodeError as error:
        raise BundleError(f"{folder / FILE} is not JSON: {error}") from error
    except (ValueError, RecursionError) as error:
        reason = "its values are nested too deep" if isinstance(error, RecursionError) else error
        raise BundleError(f"{folder / FILE} cannot be read: {reason}") from error
    manifest = parse(data, str(folder / FILE))
    if seal.is_sealed(content) and not seal.holds(content):
        raise BundleError(
            f"{folder / FILE} was changed after it was written: the hash at its end is another one; copy the bundle "
            "again, or make it again"
        )
    return manifest


def is_sealed(folder: Path) -> bool:
    """Whether the manifest of a bundle has a hash of itself, which `load` then holds it to; older ones have none.

    Raises:
        BundleError: it cannot be read.
    """
    return seal.is_sealed(_content(folder))


def save(folder: Path, manifest: Manifest) -> None:
    """Write a manifest with its hash aside, and rename it."""
    aside = folder / f".{FILE}.partial"
    aside.write_text(seal.sealed(artifacts.to_json(manifest)), encoding="utf-8", newline="\n")
    os.replace(aside, folder / FILE)


def _content(folder: Path) -> bytes:
    path = folder / FILE
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > _LARGEST:
            what = f"{facts.st_size:,} bytes" if stat.S_ISREG(facts.st_mode) else "no regular file"
            raise BundleError(f"{path} cannot be read: it is {what}; expected a file of at most {_LARGEST:,} bytes")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise BundleError(f"{folder} is not a bundle: it has no {FILE}") from error
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error}") from error


def find(path: str | Path) -> Path:
    """The bundle folder at a path: the path itself, or the bundle of a run folder.

    Raises:
        BundleError: neither is there, or the bundle is of an older state of its run.
    """
    path = Path(path)
    for folder in (path, path / "bundle"):
        if (folder / FILE).exists():
            _require_current(folder)
            return folder
    if not path.exists():
        raise BundleError(f"there is no {path}; expected a bundle or run folder")
    raise BundleError(f"{path} is no bundle: it has no {FILE}; make one with: tledge run RECIPE")


def _require_current(folder: Path) -> None:
    """Refuse the bundle of a run whose earlier stages ran again after it was made."""
    run = folder.resolve().parent
    again = run_folder.stale(run, "bundle") if folder.resolve().name == "bundle" else ""
    if again:
        raise BundleError(
            f"{folder} is of an older state of its run: the stage {again} was made again after it; make the bundle "
            f"anew with: tledge run {run}"
        )


def parse(data: Any, where: str) -> Manifest:
    """A manifest from plain JSON types; `where` names it in errors.

    Raises:
        BundleError: as for `load`.
    """
    version = data.get("format_version") if isinstance(data, Mapping) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise BundleError(
            f"{where} is not a bundle's manifest: expected a format_version of 1 or more, got {version!r}"
        )
    if version > FORMAT_VERSION:
        raise BundleError(
            f"{where}: this bundle has format {version}, this tledge reads up to {FORMAT_VERSION}; upgrade tledge"
        )
    try:
        manifest = artifacts.from_dict(Manifest, data)
        _require_sound(manifest)
    except (TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{where} is damaged: {str(error).replace('.__init__()', ' is')}") from error
    return manifest


def _require_sound(manifest: Manifest) -> None:
    if manifest.generation is None:
        _require_labels(manifest)
    elif manifest.generation.context_length < 2:
        raise ValueError(f"generation.context_length must be 2 or more, got {manifest.generation.context_length}")
    names = [variant.name for variant in manifest.variants]
    if manifest.chosen not in names:
        raise ValueError(f"the chosen variant {manifest.chosen!r} is not among {', '.join(names)}")
    paths = [variant.graph.path for variant in manifest.variants] + [manifest.golden.file, *manifest.files]
    for path in paths:
        if not _is_inside(path):
            raise ValueError(f"the path {path!r} leads out of the bundle")


def _require_labels(manifest: Manifest) -> None:
    if not manifest.labels or not all(isinstance(label, str) for label in manifest.labels):
        raise ValueError("labels must be a list of names")
    for spec in manifest.outputs:
        width = spec.shape[-1] if spec.shape else 0
        if spec.name == "logits" and isinstance(width, int) and width != len(manifest.labels):
            raise ValueError(f"there are {len(manifest.labels)} labels for {width} outputs")


def _is_inside(path: str) -> bool:
    pure = PurePosixPath(path)
    return not (pure.is_absolute() or ".." in pure.parts or "\\" in path or ":" in path or not pure.parts)
