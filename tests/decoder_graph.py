"""Tiny language models with their graphs, each exported once in a session."""

import functools
import tempfile
from pathlib import Path
from types import SimpleNamespace

import tiny_language
import torch

from tledge.export import export_decoder
from tledge.runtime import open_session, session_run

_KEPT = []  # temporary folders live as long as the process


@functools.cache
def decoder(kind, **changes):
    """A tiny decoder, `gpt2` or `llama`, with its graph; shared, so change nothing.

    `module` is the torch model (`uneven`), `path` the graph's file with the `Graph` in `graph`, `run` runs it in
    onnxruntime, and `checkpoint` is the folder with its weights and tokenizer. `changes` are of its config.
    """
    _KEPT.append(tempfile.TemporaryDirectory(prefix="tledge-decoder-"))
    folder = Path(_KEPT[-1].name)
    checkpoint = tiny_language.checkpoint(folder / "checkpoint", kind, **changes)
    module = uneven(tiny_language.MODELS[kind](**changes))
    module.save_pretrained(checkpoint)
    path = folder / "model.onnx"
    graph = export_decoder(module, path, opset=20, external_data=False)
    run = session_run(open_session(path, threads=1))
    return SimpleNamespace(module=module, path=path, graph=graph, run=run, checkpoint=checkpoint)


def uneven(module):
    """A model whose biases and norms are not the constants that they begin as, which an exporter leaves out."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return module
