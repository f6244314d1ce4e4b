"""Tiny bundles with random weights whose variants real schemes made: of texts, of images, and language models."""

import families
import tiny_images
import tiny_language
import torch

from tledge import artifacts, bundle, export, plugins
from tledge.artifacts import Variant
from tledge.inputs import image
from tledge.quantize.run import describe
from tledge.runtime import open_session, session_run


def text(folder, *, family="bert", schemes=("int8_dynamic",), seed=0):
    """Of a classifier of texts."""
    backbone = families.save(family, folder / "backbone", seed=seed)
    classifier, loaded = families.classifier(backbone, seed=seed)
    checkpoint = folder / "checkpoint"
    encoder = families.encoder(classifier, loaded, checkpoint)
    artifacts.write_json(
        checkpoint / "config.json", {"model_type": family, "id2label": dict(enumerate(families.LABELS))}
    )
    source = folder / "model.onnx"
    graph = export.export(classifier, encoder.dummy(2, 8), source, opset=20, external_data=False)
    return _write(folder, graph, source, schemes, checkpoint, labels=families.LABELS)


def pictures(folder, *, schemes=("int8_static",), seed=0):
    """Of a classifier of images."""
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir(parents=True)
    image.write_config(checkpoint, tiny_images.FACTS)
    labels = ("red", "green", "blue")
    artifacts.write_json(checkpoint / "config.json", {"model_type": "resnet", "id2label": dict(enumerate(labels))})
    source, encoder = folder / "model.onnx", tiny_images.ENCODER
    network = tiny_images.network(seed=seed)
    graph = export.export(network, encoder.dummy(2), source, opset=20, external_data=False)
    rows = lambda: (encoder.encode([each]) for each in tiny_images.pictures(12, seed=3))  # noqa: E731
    return _write(
        folder, graph, source, schemes, checkpoint,
        labels=labels, kind="image", task="image_classification", calibration=rows,
    )  # fmt: skip


def language(folder, *, kind="gpt2", schemes=("int8_dynamic", "int8_weight_only"), seed=0):
    """Of a decoder."""
    checkpoint = tiny_language.checkpoint(folder / "checkpoint", kind, seed=seed)
    torch.manual_seed(seed)
    source = folder / "model.onnx"
    graph = export.export_decoder(tiny_language.MODELS[kind](seed=seed), source, opset=20, external_data=False)
    return _write(folder, graph, source, schemes, checkpoint, labels=(), task="causal_lm", problem="causal_lm")


def _write(
    folder, graph, source, schemes, checkpoint, *, labels, kind="text", task="text_classification",
    problem="single_label_classification", calibration=None,
):  # fmt: skip
    """Make the variants, of which the first scheme's is chosen, and give the folder of their bundle."""
    variants = [(Variant("fp32", "fp32", graph), source)]
    for scheme in schemes:
        module = plugins.load("tledge.quantize.schemes", scheme)
        target = folder / f"model_{module.SUFFIX}.onnx"
        module.apply(source, target, **({"calibration": calibration} if module.CALIBRATES else {}))
        variants.append((Variant(scheme, scheme, describe(target), chosen=scheme == schemes[0]), target))
    bundle.write(
        folder / "bundle",
        name=folder.name,
        checkpoint=checkpoint,
        variants=variants,
        task=task,
        problem_type=problem,
        labels=labels,
        open_run=lambda path: session_run(open_session(path, threads=1)),
        provenance=bundle.Provenance(tledge="0.1.0", created="2026-11-26T12:00:00+00:00"),
        readme=f"# {folder.name}\n",
        input_kind=kind,
    )
    return folder / "bundle"
