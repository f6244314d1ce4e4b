"""A classifier's body as a detector sees it: the feature maps that some of its blocks give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tledge.errors import ModelError
from tledge.model.blocks import Block, blocks

STRIDES = (8, 16, 32)
"""Pixels of an image for one of a map, along a side: those of the feature pyramids of Lin et al. (2017)."""


@dataclass(frozen=True, slots=True)
class Map:
    """One feature map of a body: the module that gives it, its channels, its height and width, and its stride."""

    name: str
    channels: int
    height: int
    width: int
    stride: int


def maps_of(body: nn.Module, size: tuple[int, int]) -> list[Map]:
    """The last map of each stride of `STRIDES` that a body gives of an image, the finest first.

    A convolution of one pixel at the end, which only widens the features for a classifier, is passed by.

    Args:
        body: a convolutional network in eval mode.
        size: height and width of the image.

    Raises:
        ModelError: it gives no maps that shrink step by step, as vision transformers do not.
    """
    sample = torch.randn((1, 3, *size), generator=torch.Generator().manual_seed(0))
    device = next(body.parameters()).device
    try:
        found = blocks(body, {"pixel_values": sample})
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = " ".join(str(error).split())[:150]
        raise ModelError(
            f"model.input_size: {type(body).__name__} does not take images of {size[0]} x {size[1]} pixels ({reason}); "
            "take its own size, or a convolutional network"
        ) from error
    names = {module: name for name, module in body.named_modules()}
    parts = {names[module]: block for block in found for module in block.modules}
    with torch.no_grad():
        given = run(body, list(parts), sample.to(device))
    chosen: dict[int, Map] = {}
    for (name, block), each in zip(parts.items(), given, strict=True):
        stride = _stride(each, size)
        if stride in STRIDES and (stride not in chosen or not _widens_only(block)):
            chosen[stride] = Map(name, each.shape[1], each.shape[2], each.shape[3], stride)
    if not chosen or min(chosen) > 16:
        raise ModelError(
            f"model.backbone: {type(body).__name__} gives no feature maps of an eighth or a sixteenth of the image's "
            "sides, which a detector's head is put on; expected a convolutional network, such as "
            "torchvision:mobilenet_v2 or timm:resnet18"
        )
    return [chosen[stride] for stride in sorted(chosen)]


def run(body: nn.Module, names: Sequence[str], pixel_values: Tensor) -> list[Tensor]:
    """What the modules of these names give, in their order, where a body runs once.

    Args:
        body: any network of images.
        names: of its modules.
        pixel_values: `(batch, 3, height, width) float32`.
    """
    found: dict[str, Tensor] = {}

    def keep(name: str) -> object:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            found[name] = output

        return body.get_submodule(name).register_forward_hook(hook)

    # Only while it runs: hooks that stay would be copied with the module, and keep the original's maps.
    handles = [keep(name) for name in names]
    try:
        body(pixel_values)
    finally:
        for handle in handles:
            handle.remove()  # type: ignore[attr-defined]
    return [found[name] for name in names]


def _stride(output: object, size: tuple[int, int]) -> int:
    """The stride of a map `(1, channels, height, width)` to the next power of two; 0 for what is none."""
    if not isinstance(output, Tensor) or output.ndim != 4 or max(output.shape[2:]) < 2:
        return 0
    strides = {2 ** round(math.log2(side / of)) for side, of in zip(size, output.shape[2:], strict=True)}
    return strides.pop() if len(strides) == 1 else 0


def _widens_only(block: Block) -> bool:
    kernels = {m.kernel_size for module in block.modules for m in module.modules() if isinstance(m, nn.Conv2d)}
    return kernels == {(1, 1)}
