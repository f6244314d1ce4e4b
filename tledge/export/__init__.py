"""A checkpoint to an ONNX graph, and the proof that both compute the same."""

from tledge.export.image import export_image
from tledge.export.parity import cases, check, require
from tledge.export.reference import torch_run
from tledge.export.text import export

__all__ = ["cases", "check", "export", "export_image", "require", "torch_run"]
