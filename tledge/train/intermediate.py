"""What lies inside of two models and is compared: taken by hooks while they run, projected where widths differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tledge import plugins
from tledge.errors import TrainError

LOSSES = "tledge.losses.distillation"
_VALUES = ("value", "v_lin", "v_proj")
_VALUES_LAST = ("c_attn", "Wqkv")  # queries, keys and values beside each other

Run = Callable[[], Any]
Heard = dict[str, list[Tensor]]
"""For each loss what its places gave, in their order."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """Which blocks of two models are compared.

    `layer_map` has for each block of the student the number of the teacher's that it learns from. A block's output is
    the first tensor that it gives.
    """

    student_blocks: tuple[nn.Module, ...]
    teacher_blocks: tuple[nn.Module, ...]
    layer_map: tuple[int, ...]

    def __post_init__(self) -> None:
        assert len(self.layer_map) == len(self.student_blocks)
        assert all(0 <= number < len(self.teacher_blocks) for number in self.layer_map)

    def sides(self, layers: str) -> tuple[Sequence[nn.Module], Sequence[nn.Module]]:
        """The student's blocks and beside each the teacher's: `all` of them, or the `last` pair."""
        ours, theirs = self.student_blocks, [self.teacher_blocks[number] for number in self.layer_map]
        return (ours, theirs) if layers == "all" else (ours[-1:], theirs[-1:])


@dataclass(frozen=True, slots=True)
class Place:
    """A module that is listened to, and how its output is read."""

    module: nn.Module
    read: Callable[[Any], Tensor]


@contextmanager
def listening(places: Mapping[str, Sequence[Place]]) -> Iterator[Heard]:
    """Inside the block, what each place gives in the latest run of its module."""
    heard: Heard = {name: [torch.empty(0)] * len(each) for name, each in places.items()}
    handles = []
    for name, each in places.items():
        for i, place in enumerate(each):

            def keep(_module: nn.Module, _args: Any, output: Any, *, at: Any = (heard[name], i, place.read)) -> None:
                into, number, read = at
                into[number] = read(output)

            handles.append(place.module.register_forward_hook(keep))
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def places(needs: str, blocks: Sequence[nn.Module], run: Run) -> list[Place]:
    """Where in each block that is found which a loss needs.

    Args:
        needs: a loss's `NEEDS`.
        blocks: parts of one model.
        run: runs the model on a batch, for what cannot be told from names.

    Raises:
        TrainError: a block has no such thing.
    """
    if needs == "values":
        return [_values_of(block) for block in blocks]
    if needs == "attentions":
        return _attentions_of(blocks, run)
    return [Place(block, first_tensor) for block in blocks]


def first_tensor(output: Any) -> Tensor:
    """A block's output: what it gives, or the first of what it gives."""
    return output if isinstance(output, Tensor) else next(each for each in output if isinstance(each, Tensor))


class Inside(nn.Module):
    """The losses on what lies inside of two models, and the projections that train along with the student."""

    def __init__(
        self, names: Sequence[str], pairing: Pairing, run_student: Run, run_teacher: Run, *, random_seed: int
    ) -> None:
        """Find the places and make the projections.

        Args:
            names: losses whose `NEEDS` are not logits.
            pairing: the blocks that are compared.
            run_student: runs the student on a batch.
            run_teacher: runs the teacher on the same batch.
            random_seed: of the projections' first weights.

        Raises:
            TrainError: the blocks do not give what a loss compares.
        """
        super().__init__()
        self._losses = {name: plugins.load(LOSSES, name) for name in names}
        self.student_places: dict[str, list[Place]] = {}
        self.teacher_places: dict[str, list[Place]] = {}
        for name, each in self._losses.items():
            ours, theirs = pairing.sides(each.LAYERS)
            self.student_places[name] = places(each.NEEDS, ours, run_student)
            self.teacher_places[name] = places(each.NEEDS, theirs, run_teacher)
        with torch.no_grad(), listening(self.student_places) as student, listening(self.teacher_places) as teacher:
            run_student()
            run_teacher()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(random_seed)
            self.projections = nn.ModuleDict(
                {
                    name: nn.ModuleList(
                        _projection(name, each.NEEDS, s, t) for s, t in zip(student[name], teacher[name], strict=True)
                    )
                    for name, each in self._losses.items()
                }
            )

    def forward(self, student: Heard, teacher: Heard, mask: Tensor | None) -> dict[str, Tensor]:
        """For each loss its mean over the pairs of blocks, `(batch,) float32`.

        Args:
            student: what the student's places gave.
            teacher: what the teacher's places gave.
            mask: `(batch, sequence)`, 1 for tokens and 0 for padding; `None` for images.
        """
        result: dict[str, Tensor] = {}
        for name, each in self._losses.items():
            projections: Any = self.projections[name]
            values = [
                each.loss(project(ours), theirs, mask)
                for project, ours, theirs in zip(projections, student[name], teacher[name], strict=True)
            ]
            result[name] = torch.stack(values).mean(dim=0)
        return result


@contextmanager
def eager_attention(*models: nn.Module) -> Iterator[None]:
    """Inside the block, transformers compute attention step by step, so that its weights can be seen."""
    # Parts come before the wholes that share their config.
    found = [part for model in models for part in model.modules() if isinstance(part, PreTrainedModel)][::-1]
    before = [part.config._attn_implementation for part in found]
    for part in found:
        part.set_attn_implementation("eager")
    try:
        yield
    finally:
        for part, name in zip(found, before, strict=True):
            part.set_attn_implementation(name)


def compares_tokens(student: Tensor, teacher: Tensor) -> bool:
    """Whether both are hidden states of the same tokens, `(batch, sequence, hidden)`."""
    return student.ndim == teacher.ndim == 3 and student.shape[:2] == teacher.shape[:2]


def _values_of(block: nn.Module) -> Place:
    for name, module in block.named_modules():
        last = name.rpartition(".")[2]
        if last in _VALUES:
            return Place(module, first_tensor)
        if last in _VALUES_LAST:
            return Place(module, lambda output: output[..., output.shape[-1] // 3 * 2 :])
    raise TrainError(
        f"distill.losses: value_relations needs attention with a layer of values, and {type(block).__name__} has none "
        f"named {', '.join(_VALUES + _VALUES_LAST)}; use hidden_cosine or losses on logits"
    )


def _attentions_of(blocks: Sequence[nn.Module], run: Run) -> list[Place]:
    """The innermost module of each block that gives attention weights beside its output."""
    found: dict[int, nn.Module] = {}
    handles = []
    for number, block in enumerate(blocks):

        def look(module: nn.Module, _args: Any, output: Any, *, at: int = number) -> None:
            if at not in found and _has_weights(output):
                found[at] = module

        handles += [module.register_forward_hook(look) for module in block.modules()]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    missing = next((block for number, block in enumerate(blocks) if number not in found), None)
    if missing is not None:
        raise TrainError(
            f"distill.losses: attention needs transformers that show their attention weights, and "
            f"{type(missing).__name__} does not; use hidden_cosine or losses on logits"
        )
    return [Place(found[number], lambda output: output[1]) for number in range(len(blocks))]


def _has_weights(output: Any) -> bool:
    """Whether this is a pair of an output and weights `(batch, heads, sequence, sequence)`."""
    if not isinstance(output, tuple) or len(output) < 2 or not isinstance(output[1], Tensor):
        return False
    return output[1].ndim == 4 and output[1].shape[-1] == output[1].shape[-2]


def _projection(name: str, needs: str, student: Tensor, teacher: Tensor) -> nn.Module:
    """From the student's width to the teacher's, where one is needed."""
    if needs == "feature_maps":
        if student.ndim != 4 or teacher.ndim != 4:
            raise _mismatch(name, "feature maps (batch, channels, height, width)", student, teacher)
        same = student.shape[1] == teacher.shape[1]
        return nn.Identity() if same else nn.Conv2d(student.shape[1], teacher.shape[1], 1).to(student.device)
    if needs == "attentions":
        if student.shape[2:] != teacher.shape[2:]:
            raise _mismatch(name, "attention between the same tokens", student, teacher)
        return nn.Identity()
    if not compares_tokens(student, teacher):
        raise _mismatch(name, "vectors of the same tokens (batch, sequence, width)", student, teacher)
    if needs == "values" or student.shape[2] == teacher.shape[2]:
        return nn.Identity()
    return nn.Linear(student.shape[2], teacher.shape[2]).to(student.device)


def _mismatch(name: str, expected: str, student: Tensor, teacher: Tensor) -> TrainError:
    return TrainError(
        f"distill.losses: {name} compares {expected}, but the student's block gives {tuple(student.shape)} and the "
        f"teacher's {tuple(teacher.shape)}; use losses on logits, or another student"
    )
