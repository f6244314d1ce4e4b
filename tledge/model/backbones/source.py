"""What a family of image backbones tells of a reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from tledge.inputs.image import Facts

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Source:
    """An image classifier of a library.

    `build` takes the height and width of the input and gives the network with random weights, in eval mode; `state`
    takes them too and gives the pretrained tensors by name, and is `None` where random weights are meant. `facts` are
    its own preprocessing, `name` is what its library calls it, and `own_config` the library's own config.json where it
    has one.
    """

    library: str
    name: str
    facts: Facts
    build: Callable[[tuple[int, int]], nn.Module]
    state: Callable[[tuple[int, int]], Mapping[str, Tensor]] | None
    own_config: Mapping[str, Any] | None = None
