"""The manifest `bundle.json`: what a bundle is, takes and gives. `docs/bundle-format.md` is its specification."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tledge import artifacts, graph_file, past, plugins, run_folder
from tledge.artifacts import TensorSpec, Variant
from tledge.bundle import seal
from tledge.bundle.decoding import Decoding
from tledge.errors import BundleError, InputError, did_you_mean

FORMAT_VERSION = 2
FILE = "bundle.json"
_LARGEST = 16 * 1024 * 1024
"""Bytes of a manifest at most; those of a thousand labels and variants are far below."""
_LONGEST = 255
"""Characters of a name at most, as of a file's."""
_MOST_IMAGES = 1000
_LARGEST_PAST = 1 << 22
"""Numbers that a decoder keeps of a token at most; Llama 70B keeps 160,000."""
_READ = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "preprocessor_config.json")
"""Files that are read whether or not the manifest names them."""


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
    """The self-test: the file of golden vectors, the texts or the number of images in it, and the tolerances.

    A tolerance is a share of the largest absolute value among a variant's golden outputs. Images are in the file.
    Each of `values` has a text for each input column. `continued` is the number of values, from the first on, that a
    language model went on with.
    """

    file: str
    tolerance: Mapping[str, float]
    values: tuple[tuple[str, ...], ...] = ()
    images: int = 0
    continued: int = 0

    @property
    def examples(self) -> tuple[Any, ...]:
        """The values as the preprocessing takes them: a text, or a tuple of the texts of several columns."""
        return tuple(cells[0] if len(cells) == 1 else cells for cells in self.values)


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
    labels: tuple[str, ...] = ()
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


def graph_path(folder: Path, variant: Variant) -> Path:
    """The file of a variant's graph, of the size that the manifest says: one of another variant or time has another.

    Raises:
        BundleError: it is missing or, with the weights in files beside it, of another size.
    """
    path, expected = folder / variant.graph.path, variant.graph.size_bytes
    size = _size_bytes(path, expected) if path.is_file() else None
    if size != expected:
        got = "is missing" if size is None else f"has {size:,} bytes, expected {expected:,}"
        raise BundleError(f"{path} {got}; copy the bundle again, and check it with: tledge verify")
    return path


def _size_bytes(path: Path, expected: int) -> int:
    """The size of a graph's file, and of its weights elsewhere where that alone is smaller than expected."""
    own = path.stat().st_size
    if own >= expected:
        return own
    try:
        return graph_file.size_bytes(path)
    except BundleError:  # cut short, so that it names no weights
        return own


def load(path: str | Path) -> Manifest:
    """The manifest of the bundle in a folder.

    Raises:
        BundleError: the folder is not a bundle, its manifest is damaged, or its format is newer than this reader.
    """
    folder = Path(path)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise BundleError(f"{folder} is not a bundle: it {what}; expected a folder with {FILE}")
    try:
        data, content = artifacts.read_object(folder / FILE, _LARGEST)
    except FileNotFoundError as error:
        raise BundleError(f"{folder} is not a bundle: it has no {FILE}") from error
    except (OSError, ValueError) as error:
        raise BundleError(f"{folder / FILE} cannot be read as JSON: {error}") from error
    manifest = parse(data, str(folder / FILE))
    if seal.is_sealed(content) and not seal.holds(content):
        raise BundleError(
            f"{folder / FILE} was changed after it was written: the hash at its end is another one; copy the bundle "
            "again, or make it again"
        )
    _require_own_files(folder, manifest)
    return manifest


def is_sealed(folder: Path) -> bool:
    """Whether the manifest of a bundle has a hash of itself, which `load` then holds it to; older ones have none.

    Raises:
        BundleError: it cannot be read.
    """
    return seal.is_sealed(artifacts.read_file(folder / FILE, _LARGEST))


def save(folder: Path, manifest: Manifest) -> None:
    """Write a manifest with its hash aside, and rename it."""
    aside = folder / f".{FILE}.partial"
    aside.write_text(seal.sealed(artifacts.to_json(manifest)), encoding="utf-8", newline="\n")
    os.replace(aside, folder / FILE)


def _require_own_files(folder: Path, manifest: Manifest) -> None:
    """Refuse pipes and folders in the place of files, which a reader could wait for, and links that lead out."""
    own = [os.path.realpath(folder)]
    if folder.resolve().parent.name == "snapshots":  # the hub's cache: its files are links to those in `blobs`
        own.append(os.path.realpath(folder.resolve().parent.parent / "blobs"))
    for name in dict.fromkeys((FILE, *_READ, *_paths(manifest))):
        if os.path.exists(folder / name) and not os.path.isfile(folder / name):  # noqa: PTH110, PTH113 - links in a circle
            raise BundleError(f"{folder / name} is no regular file; put the file itself there")
        real = os.path.realpath(folder / name)
        if not any(real.startswith(root + os.sep) for root in own):
            raise BundleError(f"{folder / name} is a link that leads out of the bundle; put the file itself there")


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
            f"{folder} is of an older state of its run: the stage {again} was made again after it, or its record is "
            f"damaged; make the bundle anew with: tledge run {run}"
        )


def parse(data: Any, where: str) -> Manifest:
    """A manifest from plain JSON types; `where` names it in errors.

    Raises:
        BundleError: as for `load`.
    """
    version = data.get("format_version") if isinstance(data, Mapping) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise BundleError(
            f"{where} is not a bundle's manifest: expected a format_version of 1 or more, got {version!r:.60}"
        )
    if version > FORMAT_VERSION:
        raise BundleError(
            f"{where}: this bundle has format {version}, this tledge reads up to {FORMAT_VERSION}; upgrade tledge"
        )
    try:
        json.dumps(data, allow_nan=False)  # 1e999 is read as infinity
        manifest = artifacts.from_dict(Manifest, _of_version_1(data) if version == 1 else data)
        _require_sound(manifest)
    except (TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{where} is damaged: {str(error).replace('.__init__()', ' is')}") from error
    known = plugins.names("tledge.tasks")
    if manifest.task not in known:
        raise BundleError(
            f"{where}: the bundle's task is unknown here: {manifest.task!r} is not among the tasks: known are "
            f"{', '.join(known)}"
            f"{did_you_mean(manifest.task, known)}; upgrade tledge"
        )
    return manifest


def _of_version_1(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """A manifest of version 1 as one of today: its golden values were single texts, called sentences."""
    golden = dict(data["golden"]) if isinstance(data.get("golden"), Mapping) else {}
    sentences = golden.pop("sentences", None)
    golden["values"] = [[each] for each in sentences] if isinstance(sentences, list) else sentences
    return {**data, "golden": golden}


def _require_sound(manifest: Manifest) -> None:
    names = [variant.name for variant in manifest.variants]
    _require_words(
        [
            manifest.name,
            manifest.task,
            manifest.problem_type,
            manifest.input.kind,
            manifest.golden.file,
            *manifest.files,
        ]
        + [word for each in manifest.variants for word in (each.name, each.scheme, each.graph.path)]
        + [word for tensor in _tensors(manifest) for word in (tensor.name, tensor.dtype, *map(str, tensor.shape))]
    )
    if manifest.chosen not in names:
        raise ValueError(f"the chosen variant {manifest.chosen!r:.60} is not among {', '.join(names)}")
    if len(set(names)) < len(names) or [each.name for each in manifest.variants if each.chosen] != [manifest.chosen]:
        raise ValueError(f"of the variants {', '.join(names)} not one alone is called and marked as the chosen one")
    for path in _paths(manifest):
        if not _is_inside(path):
            raise ValueError(f"the path {path!r} leads out of the bundle")
    if manifest.generation is not None:
        if manifest.generation.context_length < 2:
            raise ValueError(f"generation.context_length must be 2 or more, got {manifest.generation.context_length}")
        for variant in manifest.variants:
            _require_decoder(variant)
    if not all(0 <= share <= 1 for share in manifest.golden.tolerance.values()):
        raise ValueError("a golden.tolerance is no share of the largest output, 0 to 1")
    golden, most = manifest.golden, len(manifest.golden.values)
    if not all(golden.values):
        raise ValueError("a golden value has no text")
    if not 0 <= golden.continued <= most or not (0 <= golden.images <= _MOST_IMAGES) or not (most or golden.images):
        raise ValueError(
            f"the golden vectors cannot be of {most} values, {golden.continued} of them continued, and "
            f"{golden.images} images"
        )


def _require_words(words: Iterable[str]) -> None:
    """Refuse names that would not stay in their line of a message."""
    for word in words:
        if len(word) > _LONGEST or not word.isprintable():
            raise ValueError(f"{word[:40]!r} is no name: expected at most {_LONGEST} characters that can be printed")


def _tensors(manifest: Manifest) -> Iterator[TensorSpec]:
    yield from (*manifest.input.tensors, *manifest.outputs)
    for variant in manifest.variants:
        yield from (*variant.graph.inputs, *variant.graph.outputs)


def _paths(manifest: Manifest) -> list[str]:
    return [variant.graph.path for variant in manifest.variants] + [manifest.golden.file, *manifest.files]


def _require_decoder(variant: Variant) -> None:
    """Refuse a language model's graph from whose sizes no past can be made."""
    kept = past.past_specs(variant.graph.inputs)
    sizes = [spec.shape[1::2] for spec in kept if len(spec.shape) == 4 and spec.dtype in ("float32", "float16")]
    known = [[each for each in size if isinstance(each, int) and each > 0] for size in sizes]
    numbers = [math.prod(each) for each in known if len(each) == 2]
    logits = [spec.shape[-1] for spec in variant.graph.outputs if spec.name == "logits" and spec.shape]
    if not kept or len(numbers) < len(kept) or not 0 < sum(numbers) <= _LARGEST_PAST:
        raise ValueError(f"{variant.name} has a past of unknown or absurd sizes among its inputs")
    if len(logits) != 1 or not isinstance(logits[0], int) or logits[0] < 1:
        raise ValueError(f"{variant.name} does not give logits of a known size")


def _is_inside(path: str) -> bool:
    pure = PurePosixPath(path)
    return not (pure.is_absolute() or ".." in pure.parts or "\\" in path or ":" in path or not pure.parts)
