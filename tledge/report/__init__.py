"""Reports: the only place that knows Markdown or HTML."""

from tledge.report.card import model_card
from tledge.report.facts import DataFacts, Epoch, Facts, LabelScore, TrainingFacts, WrongPrediction
from tledge.report.summary import verdict
from tledge.report.text import bench_markdown, markdown
from tledge.report.web import html

__all__ = [
    "DataFacts",
    "Epoch",
    "Facts",
    "LabelScore",
    "TrainingFacts",
    "WrongPrediction",
    "bench_markdown",
    "html",
    "markdown",
    "model_card",
    "verdict",
]
