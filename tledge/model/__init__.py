"""Backbones, heads, what is frozen, and features of frozen backbones."""

from tledge.model import detectors, student
from tledge.model.backbones import Backbone, ImageBackbone, kind_of
from tledge.model.backbones import load as load_backbone
from tledge.model.backbones.image_text import text_vectors
from tledge.model.backbones.transformers import weights_digest
from tledge.model.backbones.vocabulary import vocabulary_size
from tledge.model.batch_norms import count_batch_norms, update_batch_norms
from tledge.model.blocks import Block, block_list, levels
from tledge.model.boxed_rows import boxed, boxed_sheet, with_boxes
from tledge.model.checkpoint import build, load, save_beside, whole
from tledge.model.classifier import TextClassifier
from tledge.model.distillation_sets import DistillationSets, distillation_sets, with_teacher_logits
from tledge.model.embedder import TextEmbedder, build_embedder
from tledge.model.few_shot import KnownFeatures, Twins, draw_pairs, features_of, logits_of, paired
from tledge.model.freeze import Freeze, Part, describe, freeze
from tledge.model.head import new_head, put_before_head, set_linear
from tledge.model.image_classifier import ImageClassifier
from tledge.model.language import Language, check_length, context_length, load_language, save_language
from tledge.model.language_phase import LanguagePhase, language_phase
from tledge.model.language_tokenizer import load_tokenizer
from tledge.model.learner import DETECTIONS, Learner
from tledge.model.lora import merged, with_lora
from tledge.model.masked import (
    MaskedLanguage,
    load_masked,
    masked_tokenizer,
    save_masked,
    save_masked_tokenizer,
)
from tledge.model.parameter_groups import groups_by_block, groups_of
from tledge.model.pictures import contact_sheet
from tledge.model.rows import KeptRows, Rows, Source, read
from tledge.model.saved import check_saved, check_saved_detector, check_saved_language, check_saved_masked
from tledge.model.several_texts import EachText
from tledge.model.strategies import Phase, phases
from tledge.model.student import choose_layers, from_layers, layer_map, of_shape
from tledge.model.windows import Windows

__all__ = [
    "DETECTIONS",
    "Backbone",
    "Block",
    "DistillationSets",
    "EachText",
    "Freeze",
    "ImageBackbone",
    "ImageClassifier",
    "KeptRows",
    "KnownFeatures",
    "Language",
    "LanguagePhase",
    "Learner",
    "MaskedLanguage",
    "Part",
    "Phase",
    "Rows",
    "Source",
    "TextClassifier",
    "TextEmbedder",
    "Twins",
    "Windows",
    "block_list",
    "boxed",
    "boxed_sheet",
    "build",
    "build_embedder",
    "check_length",
    "check_saved",
    "check_saved_detector",
    "check_saved_language",
    "check_saved_masked",
    "choose_layers",
    "contact_sheet",
    "context_length",
    "count_batch_norms",
    "describe",
    "detectors",
    "distillation_sets",
    "draw_pairs",
    "features_of",
    "freeze",
    "from_layers",
    "groups_by_block",
    "groups_of",
    "kind_of",
    "language_phase",
    "layer_map",
    "levels",
    "load",
    "load_backbone",
    "load_language",
    "load_masked",
    "load_tokenizer",
    "logits_of",
    "masked_tokenizer",
    "merged",
    "new_head",
    "of_shape",
    "paired",
    "phases",
    "put_before_head",
    "read",
    "save_beside",
    "save_language",
    "save_masked",
    "save_masked_tokenizer",
    "set_linear",
    "student",
    "text_vectors",
    "update_batch_norms",
    "vocabulary_size",
    "weights_digest",
    "whole",
    "with_boxes",
    "with_lora",
    "with_teacher_logits",
]
