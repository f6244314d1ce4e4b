"""Which block of the teacher each block of the student learns from."""

from __future__ import annotations

from collections.abc import Sequence

from tledge.errors import ModelError


def layer_map(
    asked: Sequence[int] | None, n_student: int, n_teacher: int, layers: Sequence[int] | None = None
) -> tuple[int, ...]:
    """A recipe's map where it has one, else the default one; arguments and errors as below."""
    if asked is None:
        return default_layer_map(n_student, n_teacher, layers)
    return check_layer_map(asked, n_student, n_teacher)


def default_layer_map(n_student: int, n_teacher: int, layers: Sequence[int] | None = None) -> tuple[int, ...]:
    """For each block of the student a block of the teacher, counted from 0.

    It is the one that it was copied from, else they are evenly spaced and the last one learns from the last one: three
    blocks learn from 1, 3 and 5 of six, as in MiniLM's and TinyBERT's uniform maps (Jiao et al. 2020).

    Args:
        n_student: blocks of the student.
        n_teacher: blocks of the teacher.
        layers: the teacher's blocks that the student is made of, where it is.
    """
    if layers is not None:
        return tuple(layers)
    return tuple(-(-(i + 1) * n_teacher // n_student) - 1 for i in range(n_student))


def check_layer_map(asked: Sequence[int], n_student: int, n_teacher: int) -> tuple[int, ...]:
    """A recipe's map as it is, where it fits.

    Raises:
        ModelError: it has not one number for each block of the student, or names a block that the teacher has not.
    """
    if len(asked) != n_student:
        raise ModelError(
            f"distill.layer_map: got {_many(len(asked), 'number')}, but the student has "
            f"{_many(n_student, 'block')}; give one of the teacher's blocks, 0 to {n_teacher - 1}, for each"
        )
    wrong = [number for number in asked if not 0 <= number < n_teacher]
    if wrong:
        raise ModelError(
            f"distill.layer_map: got {wrong[0]}, but the teacher has {_many(n_teacher, 'block')}: 0 to {n_teacher - 1}"
        )
    return tuple(asked)


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
