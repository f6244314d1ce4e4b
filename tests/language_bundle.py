"""A bundle of a tiny language model, with a second graph of slightly rounded weights; see `language_bundle`."""

import dataclasses
import functools
import shutil
import tempfile
from pathlib import Path

import decoder_graph
import numpy as np
import onnx
from onnx import numpy_helper

from tledge import bundle, export
from tledge.artifacts import Variant
from tledge.runtime import open_session, session_run

_KEPT = []  # temporary folders live as long as the process


def open_run(path):
    return session_run(open_session(path, threads=1))


def torch_reference(kind):
    """One pass of the torch model over whole texts."""
    module = decoder_graph.decoder(kind).module
    run = export.torch_run(module)

    def whole(feeds):
        kept, module.config.use_cache = module.config.use_cache, False
        try:
            return run(feeds)
        finally:
            module.config.use_cache = kept

    return whole


def change_weights(path, change, target=None):
    """Change the matrices of a graph's file, or write it with changed ones to another."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and array.ndim == 2:
            tensor.CopyFrom(numpy_helper.from_array(np.float32(change(array)), tensor.name))
    onnx.save(model, target or path)


def arguments(kind="gpt2", folder=None):
    """What `bundle.write` takes beside the folder."""
    decoder = decoder_graph.decoder(kind)
    rounded = (folder or decoder.path.parent) / "model_int8.onnx"
    change_weights(decoder.path, lambda array: np.round(array / 0.02) * 0.02, rounded)
    graph = dataclasses.replace(decoder.graph, path="model_int8.onnx")
    int8 = Variant("int8", "int8_dynamic", graph, metrics={"loss": 5.0}, test_metrics={"loss": 5.1}, chosen=True)
    return {
        "name": "tiny-language",
        "checkpoint": decoder.checkpoint,
        "variants": [
            (Variant("fp32", "fp32", decoder.graph), decoder.path),
            (int8, rounded),
        ],
        "task": "causal_lm",
        "problem_type": "causal_lm",
        "labels": (),
        "open_run": open_run,
        "provenance": bundle.Provenance(tledge="0.1.0", created="2026-11-21T12:00:00+00:00"),
        "readme": "# A tiny language model\n",
        "reference": torch_reference(kind),
    }


@functools.cache
def shared(kind="gpt2"):
    """The folder of a bundle with the variants fp32 and int8, of which int8 is chosen; change nothing in it."""
    _KEPT.append(tempfile.TemporaryDirectory(prefix="tledge-language-"))
    folder = Path(_KEPT[-1].name)
    bundle.write(folder / "bundle", **arguments(kind, folder))
    return folder / "bundle"


def copy(target, kind="gpt2"):
    """A copy of the shared bundle, to be changed."""
    return Path(shutil.copytree(shared(kind), target))
