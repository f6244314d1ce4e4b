"""A model of a teacher's class with another config."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from tledge.errors import ModelError


def check_teacher(teacher: nn.Module) -> None:
    """Nothing for a transformer of texts.

    Raises:
        ModelError: it is another network.
    """
    if not isinstance(teacher, PreTrainedModel):
        raise ModelError(
            "distill.student: students by layers or by shape are for transformers of texts, but the teacher is a model "
            "of images; name a network in distill.student.backbone, such as torchvision:mobilenet_v3_small"
        )


def like(
    teacher: PreTrainedModel,
    config: Any,
    *,
    seed: int = 0,
    target_scale: tuple[float, float] | None = None,
) -> PreTrainedModel:
    """A model of the teacher's class with this config and random weights, in eval mode, of its precision.

    A classifier has a fresh head of the same form. The generator of torch is left as it was.

    Args:
        teacher: left as it is.
        config: of the same class as the teacher's.
        seed: of the random weights.
        target_scale: mean and standard deviation of a regression's targets.

    Raises:
        ModelError: no such model can be built.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            made = _made(teacher, config, target_scale)
        except (ValueError, RuntimeError, AssertionError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"distill.student: no {config.model_type} can be built so: {reason}") from error
    first = next(teacher.parameters())
    if next(made.parameters()).device.type != "meta":
        made = made.to(first.device)
    return made.to(first.dtype).eval()


def skeleton(teacher: PreTrainedModel, config: Any) -> PreTrainedModel:
    """As `like`, without weights: its tensors have names, shapes and no memory."""
    with torch.device("meta"):
        return like(teacher, config)


def _made(teacher: PreTrainedModel, config: Any, target_scale: tuple[float, float] | None) -> PreTrainedModel:
    remade = getattr(teacher, "remade", None)  # of a model with a fresh head
    made: PreTrainedModel = type(teacher)(config) if remade is None else remade(config, target_scale)
    if getattr(teacher, "generation_config", None) is not None:
        made.generation_config = copy.deepcopy(teacher.generation_config)
    return made
