"""What options say, as values: lists of numbers, percentiles, sizes; and `InputError` for what they cannot say."""

from __future__ import annotations

from collections.abc import Sequence

from tledge.errors import InputError


def percentile(text: str) -> float:
    """The number in `p99`, or in `99`."""
    try:
        value = float(text.lower().removeprefix("p"))
    except ValueError:
        value = 0
    if not 50 <= value <= 99.9:
        raise InputError(f"--for: expected a percentile from p50 to p99.9, such as p99, got {text!r}")
    return value


def dims(texts: Sequence[str]) -> dict[str, int]:
    """The sizes in texts like `height=224`, by name."""
    found = {}
    for text in texts:
        name, _, size = text.partition("=")
        if not name or not size.isdecimal() or int(size) < 1:
            raise InputError(f"--dim: expected NAME=N with a whole number from 1 on, such as height=224, got {text!r}")
        found[name] = int(size)
    return found


def one(option: str, numbers: list[int] | None) -> int | None:
    """The only number of a list, if there is a list."""
    if numbers is not None and len(numbers) > 1:
        raise InputError(f"{option}: the scenario server takes one number, got {', '.join(map(str, numbers))}")
    return numbers[0] if numbers else None


def numbers(option: str, text: str) -> list[int]:
    """The whole numbers in a text like `1,8`."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise InputError(f"{option}: expected whole numbers from 1 on, such as 1,8; got {text!r}")
    return found
