"""Students: smaller models made of a teacher, from some of its blocks or in its architecture with other sizes.

A teacher is a `TextClassifier`, or a language model of transformers with its own head. No architecture is listed here:
a network's blocks are found as for freezing, and its config's words come from optimum.
"""

from tledge.model.student.candidates import Plan, candidates
from tledge.model.student.layer_map import check_layer_map, default_layer_map, layer_map
from tledge.model.student.layers import choose_layers, from_layers, n_blocks
from tledge.model.student.shape import of_shape
from tledge.model.student.size import Size, describe
from tledge.model.student.teacher import Teacher, has_language_head, load_teacher

__all__ = [
    "Plan",
    "Size",
    "Teacher",
    "candidates",
    "check_layer_map",
    "choose_layers",
    "default_layer_map",
    "describe",
    "from_layers",
    "has_language_head",
    "layer_map",
    "load_teacher",
    "n_blocks",
    "of_shape",
]
