"""What all detectors on the body of an image classifier share: their parts, how they train, and their files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tledge.artifacts import write_json
from tledge.inputs._suppression import Suppression
from tledge.inputs.image import write_config
from tledge.model.backbones.image import WEIGHTS, ImageBackbone
from tledge.model.blocks import Block, blocks
from tledge.model.detectors._body import Map, run
from tledge.model.detectors._suppress import suppressed
from tledge.model.freeze import keep_frozen_in_eval
from tledge.model.last_layer import replace
from tledge.progress import Progress
from tledge.recipe.schema import Finetune

if TYPE_CHECKING:
    from tledge.model.boundary import StandIn
    from tledge.model.rows import Source

HEAD = "detector."
"""How the names of a detector's own weights begin in its file, beside those of the body."""


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """What a detector is made for.

    `labels` are the classes in the order of its outputs, `task` the name of the task, and `suppression` which boxes
    are its detections. `width` are the channels between body and outputs. `kind` is the name of its file, and
    `train_norms` says whether batch norms of the body take new statistics where it trains; else they keep those of the
    pretraining, which a few images a batch cannot improve.
    """

    kind: str
    labels: Sequence[str]
    task: str
    suppression: Suppression
    width: int
    train_norms: bool = False


class Detector(nn.Module):
    """What all detectors have for training and export; a kind adds `raw`, or `proposals` and `regions`, and `losses`.

    `backbone` is the pretrained body, and `classifier` the detector's own layers. Images have one size, so that all
    places that boxes start from are known.
    """

    in_a_row = False
    pools = False
    learning_rate = 2e-4
    n_features = 0
    stages = 1

    backbone: nn.Module
    classifier: nn.Module

    def __init__(self, size: tuple[int, int], suppression: Suppression, *, train_norms: bool) -> None:
        """Note what the detector is for.

        Args:
            size: height and width of the input in pixels.
            suppression: which boxes are its detections.
            train_norms: as in `Made`.
        """
        super().__init__()
        self.dropout = nn.Identity()
        self.size, self.suppression, self.train_norms = size, suppression, train_norms
        self._blocks: list[Block] | None = None

    def train(self, mode: bool = True) -> Detector:
        """Set the mode of what trains; what is frozen stays in eval mode, and batch norms of a pretrained body."""
        super().train(mode)
        if mode:
            keep_frozen_in_eval(self.backbone)
            if not self.train_norms:
                for norm in self.backbone.modules():
                    if isinstance(norm, _BatchNorm):
                        norm.eval()
        return self

    def raw(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """`boxes` `(batch, places, 4)` in pixels of the input, and `scores` `(batch, labels, places)` from 0 to 1."""
        raise NotImplementedError

    def losses(self, pixel_values: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Losses by name, whose sum trains the detector; it may be in either mode.

        Args:
            pixel_values: `(batch, 3, height, width) float32`.
            targets: `(batch, most, 6) float32`: label, xmin, ymin, xmax, ymax in pixels of the input, and whether the
                box is ignored; -1 in padding.
        """
        raise NotImplementedError

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """The detections of each image, best first, in pixels of the input, as `_suppress.suppressed` gives them."""
        found = self.raw(pixel_values)
        return suppressed(found["boxes"], found["scores"], self.suppression)

    def answers(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """What it tells of all places, boxes in shares of the input's sides, which a reload must leave as it is."""
        found = self.raw(pixel_values)
        sides = found["boxes"].new_tensor([*self.size[::-1]] * 2)
        return found | {"boxes": found["boxes"] / sides}

    def blocks(self, sample: Mapping[str, Any] | None = None) -> list[Block]:  # noqa: ARG002
        """The body's blocks from the stem to the top; looked for once. A sample is not needed, and not used."""
        if self._blocks is None:
            self._blocks = blocks(self.backbone, self.example(1))
        return self._blocks

    def block_sample(self) -> dict[str, Tensor]:
        """One made-up image, which shows in which order the blocks run."""
        return self.example(1)

    def stand_ins(self, boundary: int) -> list[tuple[str, StandIn]]:
        """Nothing takes the place of frozen blocks, whose maps go on beside one another."""
        raise NotImplementedError

    def above(self, activations: Tensor) -> dict[str, Tensor]:
        """As for `stand_ins`."""
        raise NotImplementedError

    def source(
        self,
        train: Any,
        validation: Any,
        encoder: Any,
        *,
        cache: Path,
        progress: Progress,
        settings: Finetune,
        seed: int,
        **_of_others: Any,
    ) -> Source:
        """The rows of a training, in batches."""
        from tledge.model.boxed_rows import BoxedPhotos

        return BoxedPhotos(train, validation, encoder, settings, seed, cache, progress)

    def example(self, batch: int) -> dict[str, Tensor]:
        """Noise of the right shape, the same each time: `pixel_values`, `(batch, 3, height, width) float32`."""
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randn((batch, 3, *self.size), generator=generator)
        return {"pixel_values": pixels.to(next(self.parameters()).device)}


class OnBody(Detector):
    """A detector whose own layers take the feature maps of some blocks of an image classifier's body."""

    def __init__(self, backbone: ImageBackbone, made: Made, maps: Sequence[Map], layers: nn.Module) -> None:
        """Put a detector's layers on a body, whose module becomes a part of this one.

        Args:
            backbone: its module takes `(batch, 3, height, width) float32` of the size of its preprocessing.
            made: what it is made for.
            maps: which of the body's maps `layers` take, the finest first.
            layers: the detector's own.
        """
        super().__init__(backbone.preprocessing.size, made.suppression, train_norms=made.train_norms)
        if backbone.aux is not None:
            replace(backbone.module, backbone.aux, None)
        self.backbone = backbone.module
        self.classifier = layers
        self.maps = list(maps)
        self.checkpoint_config = _config(backbone, made)

    def features(self, pixel_values: Tensor) -> list[Tensor]:
        """The body's maps, the finest first, `(batch, channels, height, width)` each.

        Args:
            pixel_values: `(batch, 3, height, width) float32`.
        """
        return run(self.backbone, [each.name for each in self.maps], pixel_values)

    def save(self, folder: Path, backbone: ImageBackbone) -> None:
        """Write a checkpoint: config.json, model.safetensors and preprocessor_config.json.

        The body's weights have the names that its own library gives them.
        """
        folder.mkdir(parents=True, exist_ok=True)
        state = {**self.backbone.state_dict()}
        state |= {f"{HEAD}{name}": tensor for name, tensor in self.classifier.state_dict().items()}
        kept = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
        save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})
        self.save_inputs(folder, backbone)

    def save_inputs(self, folder: Path, backbone: ImageBackbone) -> None:
        """Write config.json and preprocessor_config.json."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "config.json", self.checkpoint_config)
        write_config(folder, backbone.preprocessing)


def _config(backbone: ImageBackbone, made: Made) -> dict[str, Any]:
    """What config.json says: the library's own config where it has one, the labels, and what tledge needs."""
    own = backbone.own_config or {"model_type": backbone.library}
    return {
        **own,
        "architectures": [type(backbone.module).__name__],
        "id2label": {str(i): label for i, label in enumerate(made.labels)},
        "label2id": {label: i for i, label in enumerate(made.labels)},
        "num_labels": len(made.labels),
        "problem_type": "object_detection",
        "tledge": {
            "task": made.task,
            "backbone": {"library": backbone.library, "name": backbone.name},
            "detector": {
                "kind": made.kind,
                "width": made.width,
                "suppression": dataclasses.asdict(made.suppression),
            },
        },
    }
