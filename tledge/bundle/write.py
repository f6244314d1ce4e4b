"""Write a bundle: graphs, the ecosystem's files, golden vectors, and the manifest that vouches for them."""

from __future__ import annotations

import contextlib
import dataclasses
import filecmp
import functools
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath

from tledge import graph_file, inputs
from tledge.artifacts import Variant, read_json, write_json
from tledge.bundle import checksum, golden, golden_language, manifest
from tledge.bundle.decoding import Decoding, read_decoding
from tledge.bundle.golden import Run
from tledge.bundle.manifest import FORMAT_VERSION, Golden, InputSpec, Manifest, Provenance
from tledge.digest import sha256
from tledge.errors import BundleError
from tledge.inputs.sentence import SentenceInput
from tledge.inputs.text import TextInput

_OPTIONAL = ("special_tokens_map.json", "generation_config.json", *SentenceInput.files[len(TextInput.files) :])
_OF_EVERY_KIND = ("config.json", "generation_config.json")

LANGUAGE_MODEL = "causal_lm"
"""The `problem_type` of bundles that generate text."""

_PRIVATE = (
    "_name_or_path",
    "name_or_path",
)  # transformers' note of where the model was loaded from: a local path


def write(
    folder: Path,
    *,
    name: str,
    checkpoint: Path,
    variants: Sequence[tuple[Variant, Path]],
    task: str,
    problem_type: str,
    labels: Sequence[str],
    open_run: Callable[[Path], Run],
    provenance: Provenance,
    readme: str,
    input_kind: str = "text",
    reference: Run | None = None,
    only_chosen: bool = False,
) -> Manifest:
    """Assemble a bundle in a folder and give its manifest.

    Everything is written aside first. A folder that is there already keeps what is not a bundle's; an older bundle
    in it is replaced. The manifest comes last, so that a killed write leaves no bundle rather than half of one.

    Args:
        folder: The bundle.
        name: What the bundle is called, such as the recipe's name.
        checkpoint: The folder that has `config.json` and the tokenizer's or image processor's files.
        variants: Each variant with its graph's file; the files that its weights are in come along. Exactly one
            is `chosen`. In the bundle a graph is `onnx/` and the name in `Variant.graph.path`.
        task: The task's name.
        problem_type: The ecosystem's name of the kind of problem.
        labels: Label names in the order of the outputs; none for a language model.
        open_run: Opens a graph's file for running, to compute the golden vectors.
        provenance: Where it comes from.
        readme: The model card, Markdown.
        input_kind: The module of `tledge.inputs`.
        reference: One pass of the torch model, for the golden vectors; of a language model over whole texts, without
            a past.
        only_chosen: Leave the other variants out.

    Raises:
        BundleError: the checkpoint or a graph lacks a file, or a variant fails its golden vectors.
    """
    chosen = [variant for variant, _ in variants if variant.chosen]
    assert len(chosen) == 1, f"one variant must be chosen, got {[v.name for v in chosen]}"
    included = [(variant, file) for variant, file in variants if variant.chosen or not only_chosen]
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        _copy_ecosystem_files(checkpoint, aside, input_kind, chosen[0])
        (aside / "README.md").write_text(readme, encoding="utf-8")
        placed = tuple(_place(variant, file, aside) for variant, file in included)
        generation = read_decoding(aside) if problem_type == LANGUAGE_MODEL else None
        vectors = _golden(aside, placed, input_kind, open_run, reference, generation)
        result = _manifest(
            aside,
            name=name,
            task=task,
            problem_type=problem_type,
            labels=tuple(labels),
            input_kind=input_kind,
            variants=placed,
            vectors=vectors,
            provenance=provenance,
            generation=generation,
        )
        manifest.save(aside, result)
        _move(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return result


def replace_readme(folder: Path, text: str) -> Manifest:
    """Put another model card into a bundle, and its hash into the manifest, which is returned.

    A signature made before is removed, since it no longer holds.

    Raises:
        BundleError: the folder is not a bundle.
    """
    before = manifest.load(folder)
    (folder / checksum.SIGNATURE).unlink(missing_ok=True)
    path = folder / "README.md"
    aside = path.with_name(".README.md.partial")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)
    after = dataclasses.replace(before, files={**before.files, path.name: sha256(path)})
    manifest.save(folder, after)
    return after


def ecosystem_files() -> tuple[str, ...]:
    """What bundles take over from their checkpoints, each those of its kind of input."""
    return (*_OF_EVERY_KIND, *inputs.files())


def _copy_ecosystem_files(checkpoint: Path, target: Path, input_kind: str, chosen: Variant) -> None:
    target.mkdir(parents=True)
    names = (*_OF_EVERY_KIND, *inputs.files(input_kind))
    for name in names:
        if (checkpoint / name).is_file():
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(checkpoint / name, target / name)
        elif name not in _OPTIONAL:
            raise BundleError(f"{checkpoint} has no {name}; expected a checkpoint")
    for name in names:
        if not name.endswith("config.json") or not (target / name).exists():
            continue
        facts = {key: value for key, value in read_json(target / name).items() if key not in _PRIVATE}
        if name == "config.json":
            facts["transformers.js_config"] = {"dtype": _dtype(chosen)}
        write_json(target / name, facts)


def _dtype(variant: Variant) -> str:
    """What transformers.js calls a graph, by its file's name: `model_int8.onnx` is `int8`, `model.onnx` `fp32`."""
    suffix = PurePath(variant.graph.path).stem.removeprefix("model").removeprefix("_")
    return {"": "fp32", "quantized": "q8"}.get(suffix, suffix)


def _place(variant: Variant, file: Path, target: Path) -> Variant:
    """Copy a graph, and its weights where they are apart, and give the variant with the path inside the bundle."""
    path = Path("onnx") / PurePath(variant.graph.path).name
    (target / "onnx").mkdir(exist_ok=True)
    shutil.copyfile(file, target / path)
    for name in graph_file.files_beside(file):  # the graph names them, so that they keep their names
        weights, there = file.parent / name, target / "onnx" / name
        assert not there.exists() or filecmp.cmp(weights, there, shallow=False), f"two graphs with another {name} each"
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(weights, there)
    return dataclasses.replace(variant, graph=dataclasses.replace(variant.graph, path=path.as_posix()))


def _golden(
    folder: Path,
    variants: Sequence[Variant],
    input_kind: str,
    open_run: Callable[[Path], Run],
    reference: Run | None,
    generation: Decoding | None,
) -> Golden:
    runs = {variant.name: open_run(folder / variant.graph.path) for variant in variants}
    schemes = {variant.name: variant.scheme for variant in variants}
    go_on = None
    encoder = inputs.load(input_kind, folder)
    runs = {each: encoder.golden(run) for each, run in runs.items()}
    reference = None if reference is None else encoder.golden(reference)
    if generation is not None:
        runs = {each.name: golden_language.graph_run(runs[each.name], each.graph.inputs) for each in variants}
        reference = None if reference is None else golden_language.whole_run(reference)
        go_on = functools.partial(golden_language.continuation, context_length=generation.context_length)
    return golden.make(folder / golden.FILE, encoder, runs, reference, schemes, go_on)


def _manifest(
    folder: Path,
    *,
    name: str,
    task: str,
    problem_type: str,
    labels: tuple[str, ...],
    input_kind: str,
    variants: tuple[Variant, ...],
    vectors: Golden,
    provenance: Provenance,
    generation: Decoding | None,
) -> Manifest:
    chosen = next(variant for variant in variants if variant.chosen)
    max_length = inputs.load(input_kind, folder).max_length
    return Manifest(
        format_version=FORMAT_VERSION,
        name=name,
        task=task,
        problem_type=problem_type,
        labels=labels,
        input=InputSpec(input_kind, max_length, chosen.graph.inputs),
        outputs=chosen.graph.outputs,
        variants=variants,
        chosen=chosen.name,
        metrics=chosen.test_metrics,
        opset=max(variant.graph.opset for variant in variants),
        ir_version=max(variant.graph.ir_version for variant in variants),
        golden=vectors,
        provenance=provenance,
        files=checksum.hashes(folder),
        generation=generation,
    )


def _move(aside: Path, folder: Path) -> None:
    """Make the folder written aside the bundle, in one step where nothing is there yet."""
    if not folder.exists():
        os.replace(aside, folder)
        return
    old: Iterable[str] = ()
    with contextlib.suppress(BundleError):
        old = manifest.load(folder).files
    for name in (manifest.FILE, checksum.SIGNATURE, *old):
        (folder / name).unlink(missing_ok=True)
    for name in [*checksum.names(aside), manifest.FILE]:
        (folder / name).parent.mkdir(exist_ok=True)
        os.replace(aside / name, folder / name)
