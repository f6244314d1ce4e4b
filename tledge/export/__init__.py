"""A checkpoint to an ONNX graph, and the proof that both compute the same."""

from tledge.export.graph import export
from tledge.export.parity import cases, check, require
from tledge.export.reference import torch_run

__all__ = ["cases", "check", "export", "require", "torch_run"]
