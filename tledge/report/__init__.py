"""Reports: the only place that knows Markdown or HTML."""

from tledge.report.benchmark import machine_facts
from tledge.report.card import model_card, relabelled_card
from tledge.report.facts import (
    BoxedPicture,
    BoxScore,
    Candidate,
    DataFacts,
    Detections,
    Distillation,
    Epoch,
    Facts,
    ImageFacts,
    LabelScore,
    MarkedPart,
    MarkedText,
    Neighbours,
    PreprocessingFacts,
    RateFinder,
    Regression,
    Sample,
    TrainingFacts,
    Transfer,
    Vectors,
    WrongPrediction,
)
from tledge.report.summary import verdict
from tledge.report.text import bench_markdown, markdown
from tledge.report.web import html

__all__ = [
    "BoxScore",
    "BoxedPicture",
    "Candidate",
    "DataFacts",
    "Detections",
    "Distillation",
    "Epoch",
    "Facts",
    "ImageFacts",
    "LabelScore",
    "MarkedPart",
    "MarkedText",
    "Neighbours",
    "PreprocessingFacts",
    "RateFinder",
    "Regression",
    "Sample",
    "TrainingFacts",
    "Transfer",
    "Vectors",
    "WrongPrediction",
    "bench_markdown",
    "html",
    "machine_facts",
    "markdown",
    "model_card",
    "relabelled_card",
    "verdict",
]
