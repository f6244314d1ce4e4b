"""A checkpoint to an ONNX graph, and the proof that both compute the same."""

from tledge.export.candidates import compare_detector, export_candidates, require_one_stage
from tledge.export.decoder import export_decoder
from tledge.export.decoder_parity import check_decoder, last_logits
from tledge.export.detection_parity import check_detections, in_order_of
from tledge.export.detector import Answers, Candidates
from tledge.export.library_pixels import LibraryPixels, compare_pixels
from tledge.export.parity import cases, check, require
from tledge.export.preprocessing import add_preprocessing, check_preprocessing
from tledge.export.reference import torch_generate, torch_logits, torch_run
from tledge.export.suppression import suppress_in_graph
from tledge.export.write import export

__all__ = [
    "Answers",
    "Candidates",
    "LibraryPixels",
    "add_preprocessing",
    "cases",
    "check",
    "check_decoder",
    "check_detections",
    "check_preprocessing",
    "compare_detector",
    "compare_pixels",
    "export",
    "export_candidates",
    "export_decoder",
    "in_order_of",
    "last_logits",
    "require",
    "require_one_stage",
    "suppress_in_graph",
    "torch_generate",
    "torch_logits",
    "torch_run",
]
