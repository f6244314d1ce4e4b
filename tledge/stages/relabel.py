"""A bundle with other labels: a new head of what they are described by, made without training and without torch."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import tledge
from tledge import bundle, inputs, overflow, tasks, yaml12
from tledge.artifacts import Variant, read_json, write_json
from tledge.bundle import Manifest
from tledge.errors import BundleError, RecipeError
from tledge.evaluate import Array

FACTS = "zero_shot"
"""What config.json of such a bundle says of its head, among what it says for tledge."""
UNMEASURED = "relabelled: nothing was measured with these labels"


def descriptions_in(path: Path) -> dict[str, list[str]]:
    """The labels of a YAML file, each with its descriptions.

    Raises:
        RecipeError: the file is no mapping of labels to texts or lists of texts.
    """
    found, _ = yaml12.read(yaml12.text_of(path, "mapping of labels"), lambda line, column: f"{path}:{line}:{column}")
    wanted = "expected labels with their descriptions, such as `Sports: games and athletes`"
    if not isinstance(found, dict) or not found:
        raise RecipeError(f"{path}: {wanted}")
    for name, value in found.items():
        texts = value if isinstance(value, list) else [value]
        if not isinstance(name, str) or not texts or not all(isinstance(each, str) and each.strip() for each in texts):
            raise RecipeError(
                f"{path}: the label {name!r} has {yaml12.inline(value)[:60]}; {wanted}, or a list of texts"
            )
    return {name: value if isinstance(value, list) else [value] for name, value in found.items()}


def relabel(
    source: Path, described: Mapping[str, Sequence[str]], out: Path, *, backbone: str | None = None
) -> Manifest:
    """Write a bundle that tells other labels apart, and give its manifest.

    Every variant gets the new head in float32; what stood before it is as it was. Metrics are left out, since nobody
    has measured them with these labels.

    Args:
        source: a bundle of the strategy `zero_shot`.
        described: the labels in the order of the outputs, with their descriptions.
        out: the new bundle.
        backbone: for images: the model whose tower of texts reads the descriptions; by default the bundle's own.

    Raises:
        BundleError: the bundle is damaged, or has another head.
        RecipeError: there are too few labels.
    """
    from tledge.quantize.relabel import with_head
    from tledge.report import relabelled_card
    from tledge.runtime import open_session, session_run

    manifest = bundle.load(source)
    if wrong := bundle.check_files(source):
        raise BundleError(f"{source} is damaged, {wrong[0]}; expected a whole bundle")
    least = tasks.load(manifest.task).LEAST_LABELS
    if len(described) < least:
        raise RecipeError(f"{len(described)} label is too few to tell rows apart; give {least} or more")
    config = read_json(source / "config.json")
    facts = _facts(config, source)
    weight = facts["scale"] * label_vectors(source, manifest, facts, described, backbone=backbone)
    labels = tuple(described)
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        graphs = [(each, home / Path(each.graph.path).name) for each in manifest.variants]
        made = [(_unmeasured(each), with_head(source / each.graph.path, file, weight), file) for each, file in graphs]
        checkpoint = home / "checkpoint"
        shutil.copytree(source, checkpoint, ignore=shutil.ignore_patterns("onnx"))
        write_json(checkpoint / "config.json", _relabelled(config, facts, described))
        return bundle.write(
            out,
            name=manifest.name,
            checkpoint=checkpoint,
            variants=[
                (dataclasses.replace(each, graph=graph, overflow=overflow.check(file)), file)
                for each, graph, file in made
            ],
            task=manifest.task,
            problem_type=manifest.problem_type,
            labels=labels,
            open_run=lambda path: session_run(open_session(path)),
            provenance=dataclasses.replace(
                manifest.provenance,
                tledge=tledge.__version__,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                rows={},
                labels={},
            ),
            readme=relabelled_card(manifest, {name: list(each) for name, each in described.items()}),
            input_kind=manifest.input.kind,
        )


def label_vectors(
    source: Path,
    manifest: Manifest,
    facts: Mapping[str, Any],
    described: Mapping[str, Sequence[str]],
    *,
    backbone: str | None = None,
) -> Array:
    """The mean vector of each label's descriptions, `(labels, n_features) float32`, of length 1.

    The bundle's own fp32 graph reads them, or where it ships without one the graph that was chosen. Those of images are
    read by the tower of texts of their backbone, which needs torch.
    """
    from tledge.quantize.relabel import FEATURES, features_graph
    from tledge.runtime import open_session, session_run
    from tledge.stages.heads._zero_shot import said

    texts_of = {name: said(list(texts), facts["templates"]) for name, texts in described.items()}
    if facts["method"] == "clip":
        from tledge import model

        reference = backbone or manifest.provenance.backbone
        return _means([model.text_vectors(reference, texts) for texts in texts_of.values()])
    encoder = inputs.load(manifest.input.kind, source)
    plain = next((each for each in manifest.variants if each.scheme == "fp32"), manifest.variant(manifest.chosen))
    with tempfile.TemporaryDirectory() as scratch:
        graph = Path(scratch) / "features.onnx"
        features_graph(source / plain.graph.path, graph)
        run = session_run(open_session(graph))
        vectors = [np.stack([run(encoder.encode([text]))[FEATURES][0] for text in each]) for each in texts_of.values()]
    return _means(vectors)


def _means(vectors: Sequence[Array]) -> Array:
    """The mean of each label's vectors after each is made of length 1, also of length 1, `(labels, n_features)`."""
    units = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in vectors]
    means = np.stack([each.mean(axis=0) for each in units])
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), dtype=np.float32)


def _facts(config: Mapping[str, Any], source: Path) -> dict[str, Any]:
    found = (config.get("tledge") or {}).get(FACTS)
    if not isinstance(found, dict):
        raise BundleError(
            f"{source} has a head that was trained on its labels; expected a bundle of the strategy zero_shot, whose "
            "head is made of descriptions"
        )
    return found


def _relabelled(
    config: Mapping[str, Any], facts: Mapping[str, Any], described: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """config.json with other labels; the threshold was found with the old ones."""
    kept = {key: value for key, value in facts.items() if key != "unknown_below"}
    told = {**kept, "descriptions": {name: list(each) for name, each in described.items()}}
    return {
        **config,
        "id2label": {str(i): name for i, name in enumerate(described)},
        "label2id": {name: i for i, name in enumerate(described)},
        "tledge": {**config["tledge"], FACTS: told},
    }


def _unmeasured(variant: Variant) -> Variant:
    """A variant without what was measured with other labels; how fast it is hardly depends on them."""
    return dataclasses.replace(
        variant,
        metrics={},
        test_metrics={},
        agreement=None,
        metric_drop=None,
        test_metric_drop=None,
        exact=None,
        reason=UNMEASURED,
    )
