"""Backbones, heads, what is frozen, and features of frozen backbones."""

from tledge.model.backbones.transformers import Backbone, weights_digest
from tledge.model.backbones.transformers import load as load_backbone
from tledge.model.classifier import TextClassifier, build, load, save, save_tokenizer
from tledge.model.freeze import Block, Freeze, describe, freeze
from tledge.model.ladder import Phase, Rows, phases

__all__ = [
    "Backbone",
    "Block",
    "Freeze",
    "Phase",
    "Rows",
    "TextClassifier",
    "build",
    "describe",
    "freeze",
    "load",
    "load_backbone",
    "phases",
    "save",
    "save_tokenizer",
    "weights_digest",
]
