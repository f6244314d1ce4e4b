"""Keys that mean nothing to some tasks: a first recipe leaves them out, and a recipe that sets one is refused."""

from __future__ import annotations

from collections.abc import Mapping

from tledge.yaml12 import KeyPath

_IMAGES = "is for images"
_LANGUAGE = "is for causal_lm"
_IN_IMAGES: Mapping[KeyPath, str] = {
    ("data", "download"): "",
    ("model", "weights"): _IMAGES,
    ("model", "match"): "",
    ("model", "preprocessing"): _IMAGES,
    ("finetune", "augmentation"): _IMAGES,
    ("finetune", "workers"): "",
    ("distill", "augmentation"): _IMAGES,
    ("distill", "workers"): "",
    ("distill", "student", "weights"): _IMAGES,
    ("distill", "student", "match"): "",
    ("export", "preprocessing"): _IMAGES,
    ("quantize", "int8_static"): "",
}
_EMBEDDING = "is for text_embedding"
_IN_EMBEDDING: Mapping[KeyPath, str] = {
    ("data", "documents"): _EMBEDDING,
    ("model", "dimensions"): _EMBEDDING,
    ("model", "normalize"): _EMBEDDING,
    ("model", "prompts"): _EMBEDDING,
    ("finetune", "score_range"): _EMBEDDING,
}
_IN_LANGUAGE_MODELS: Mapping[KeyPath, str] = {
    ("model", "shape"): _LANGUAGE,
    ("model", "tokenizer"): _LANGUAGE,
    ("bench", "new_tokens"): "",
}

_QUESTIONS = "is for question_answering"
_VECTORS = "is for labels, and vectors have none"
_BOXES = "is for images with a label each"
_ANSWERS = "answers have no labels"
_IN_WORDS: Mapping[KeyPath, str] = {
    ("model", "stride"): "is for tasks that read texts in windows",
    ("model", "max_answer_length"): _QUESTIONS,
    ("model", "aggregation"): "is for tasks that answer words",
    ("finetune", "tagged_tokens"): "is for tasks that answer words",
}

_IN_BLOCKS: Mapping[KeyPath, str] = {
    ("data", "group"): "is for rows that belong together",
    ("data", "shots"): "",
    ("data", "where"): "is for rows of columns",
    ("data", "labels"): "",
    ("data", "label_names"): "",
    ("data", "label_separator"): "",
    ("data", "unlabelled"): "",
    ("baseline",): "is for tasks with a new head",
    ("model", "head"): "",
    ("finetune", "cache"): "",
    ("finetune", "probe_epochs"): "",
    ("finetune", "few_shot"): "",
    ("finetune", "zero_shot"): "",
    ("finetune", "loss"): "",
    ("finetune", "head_learning_rate"): "",
    ("finetune", "layer_decay"): "",
    ("finetune", "class_weights"): "",
}
"""Where a model has the head it comes with, and texts have no labels."""

_DETECTION = "is for object_detection"
_IN_DETECTION: Mapping[KeyPath, str] = {
    ("model", "detector"): _DETECTION,
    ("model", "input_size"): _DETECTION,
    ("model", "fit"): _DETECTION,
    ("export", "nms"): _DETECTION,
    ("finetune", "augmentation", "mosaic"): _DETECTION,
    ("finetune", "augmentation", "epochs_without_mosaic"): "",
}

_ONE_ANSWER: Mapping[KeyPath, str] = {("adapt",): "is for tasks with one answer a text or image"}

MEANINGLESS: Mapping[str, Mapping[KeyPath, str]] = {
    "text": {**_IN_DETECTION, **_IN_IMAGES, **_IN_LANGUAGE_MODELS, **_IN_WORDS, **_IN_EMBEDDING},
    "embedding": {
        **_ONE_ANSWER,
        **_IN_DETECTION,
        **_IN_IMAGES,
        **_IN_LANGUAGE_MODELS,
        **_IN_WORDS,
        ("data", "labels"): _VECTORS,
        ("finetune", "few_shot"): "",
        ("finetune", "zero_shot"): "",
        ("data", "shots"): "",
        ("data", "unlabelled"): "",
        ("finetune", "class_weights"): _VECTORS,
        ("finetune", "label_smoothing"): _VECTORS,
        ("distill",): "is for tasks with a head of their own",
    },
    "words": {
        **_ONE_ANSWER,
        **_IN_DETECTION,
        ("model", "pooling"): "is for tasks that answer a whole text",
        ("data", "shots"): "",
        ("data", "unlabelled"): "",
        ("finetune", "few_shot"): "",
        ("finetune", "zero_shot"): "",
        ("data", "label_separator"): "",
        ("model", "max_answer_length"): _QUESTIONS,
        **_IN_IMAGES,
        **_IN_LANGUAGE_MODELS,
        **_IN_EMBEDDING,
    },
    "question": {
        **_ONE_ANSWER,
        **_IN_DETECTION,
        ("model", "pooling"): "is for tasks that answer a whole text",
        ("model", "aggregation"): "is for tasks that answer words",
        ("data", "unlabelled"): "is for tasks with one answer a text",
        ("data", "labels"): _ANSWERS,
        ("finetune", "few_shot"): "",
        ("finetune", "zero_shot"): "",
        ("data", "shots"): "",
        ("data", "label_columns"): _ANSWERS,
        ("data", "label_names"): _ANSWERS,
        ("data", "label_separator"): "",
        ("data", "decimal"): "",
        ("finetune", "tagged_tokens"): "is for tasks that answer words",
        ("finetune", "class_weights"): _ANSWERS,
        ("distill", "class_weights"): _ANSWERS,
        **_IN_IMAGES,
        **_IN_LANGUAGE_MODELS,
        **_IN_EMBEDDING,
    },
    "masked": {
        **_ONE_ANSWER,
        **_IN_DETECTION,
        **_IN_IMAGES,
        **_IN_LANGUAGE_MODELS,
        **_IN_WORDS,
        **_IN_EMBEDDING,
        **_IN_BLOCKS,
        ("model", "pooling"): "is for tasks that answer a whole text",
        ("model", "head"): "is for tasks with a new head",
        ("distill",): "has no students; distil the model that its encoder is for",
    },
    "image": {
        **_IN_DETECTION,
        ("data", "unlabelled"): "",
        ("model", "pooling"): "",
        ("model", "max_length"): "",
        ("finetune", "lora"): "",
        ("distill", "student", "layers"): "",
        ("distill", "student", "shape"): "",
        ("bench", "length"): "is for texts",
        **_IN_LANGUAGE_MODELS,
        **_IN_WORDS,
        **_IN_EMBEDDING,
    },
    "boxed_image": {
        **_ONE_ANSWER,
        ("data", "unlabelled"): "is for tasks with a label for each image",
        ("finetune", "few_shot"): "",
        ("finetune", "zero_shot"): "",
        ("data", "shots"): "",
        ("data", "label_columns"): _BOXES,
        ("data", "label_separator"): "",
        ("data", "decimal"): "",
        ("model", "pooling"): "",
        ("model", "max_length"): "",
        ("finetune", "lora"): "",
        ("finetune", "class_weights"): _BOXES,
        ("finetune", "augmentation", "randaugment"): "moves images without their boxes",
        ("finetune", "augmentation", "randaugment_magnitude"): "",
        ("finetune", "augmentation", "views"): "",
        ("model", "preprocessing", "size"): "is model.input_size for detectors",
        ("model", "preprocessing", "resize"): "is model.input_size for detectors",
        ("finetune", "label_smoothing"): _BOXES,
        ("distill",): "is not there for detectors",
        ("bench", "length"): "is for texts",
        **_IN_LANGUAGE_MODELS,
        **_IN_WORDS,
        **_IN_EMBEDDING,
    },
    "language": {
        **_ONE_ANSWER,
        **_IN_DETECTION,
        **_IN_IMAGES,
        **_IN_WORDS,
        **_IN_EMBEDDING,
        **_IN_BLOCKS,
        ("data", "calibration"): "",
        ("model", "pooling"): "",
        ("finetune", "label_smoothing"): "",
        ("distill", "teacher_cache"): "keeps a logit for each label, not for each word of a vocabulary",
        ("distill", "class_weights"): "",
        ("distill", "label_smoothing"): "",
    },
}
"""By a task's `STARTER` the keys, each with why it is refused; empty for one that changes nothing."""
