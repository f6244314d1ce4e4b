"""What training, export and distillation ask of a model with a fresh head, whatever it reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

if TYPE_CHECKING:
    from tledge.model.blocks import Block
    from tledge.model.boundary import StandIn
    from tledge.model.rows import Source


class Classifier(Protocol):
    """A backbone with a fresh head: a torch module with these members beside torch's own.

    =====================  =========================================================================================
    `backbone`             the pretrained body, and `classifier` and `dropout` the head
    `forward`              tensors by name to `{"logits": (batch, labels)}`
    `features`             tensors by name to `(batch, n_features)`; `head` makes logits of them
    `blocks`               the backbone's blocks, from the bottom to the top
    `example`              made-up inputs of some rows, the same each time
    `block_sample`         what the backbone is run on once to find its blocks; `None` where that needs no run
    `pools`                whether `features` of a frozen backbone can be kept instead of it
    `in_a_row`             whether nothing passes by a block, so that what is above it can always run alone
    `stand_ins`            what takes the place of the frozen blocks below a boundary, by module name
    `above`                the inputs that what is above a boundary needs beside activations
    `learning_rate`        the usual one of the backbone
    `source`               where its training takes its batches from
    `another`              the same model on another backbone, with random weights
    `facts`                what config.json says for tledge
    `save`                 writes a checkpoint; `save_inputs` what `tledge.inputs` reads of it alone
    =====================  =========================================================================================
    """

    in_a_row: bool
    pools: bool
    learning_rate: float
    n_features: int
    training: bool

    @property
    def backbone(self) -> Any: ...
    @property
    def classifier(self) -> Any: ...
    @property
    def dropout(self) -> Any: ...
    @property
    def facts(self) -> dict[str, Any]: ...
    @property
    def features(self) -> Callable[..., Tensor]: ...
    @property
    def source(self) -> Callable[..., Source]: ...
    def head(self, features: Tensor) -> Tensor: ...
    def blocks(self, sample: Mapping[str, Any] | None = None) -> list[Block]: ...
    def example(self, batch: int) -> dict[str, Tensor]: ...
    def block_sample(self) -> dict[str, Tensor] | None: ...
    def stand_ins(self, boundary: int) -> list[tuple[str, StandIn]]: ...
    def above(self, activations: Tensor) -> dict[str, Tensor]: ...
    def another(self, name: str, preprocessing: Any = None) -> nn.Module: ...
    def save(self, folder: Path, backbone: Any) -> None: ...
    def save_inputs(self, folder: Path, backbone: Any) -> None: ...
    def train(self, mode: bool = True) -> Any: ...
    def eval(self) -> Any: ...
