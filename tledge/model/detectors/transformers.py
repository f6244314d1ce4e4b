"""Detectors of transformers, such as the DETR family: a hub id or a folder that `AutoModelForObjectDetection` opens.

They answer with a set of boxes, each for one object, so that none has to be suppressed. The layers that depend on the
labels are new.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForObjectDetection
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from tledge.artifacts import from_dict, write_json
from tledge.errors import ModelError
from tledge.inputs._suppression import Suppression
from tledge.inputs.image import FILE, INTERPOLATIONS, Facts, write_config
from tledge.model.backbones.image import WEIGHTS
from tledge.model.backbones.source import IMAGENET_MEAN, IMAGENET_STD
from tledge.model.backbones.transformers import explain, loading_options, place_of
from tledge.model.blocks import Block
from tledge.model.detectors._detector import Detector
from tledge.model.detectors._targets import Truth

BODIES = ("model.backbone", "backbone", "vit")
"""What the body of a detector is called."""
SIZE = (640, 640)
"""Height and width of an input, where neither the recipe nor the detector's own files say."""
HOW = Suppression(score_threshold=0.01, iou_threshold=None)


@dataclasses.dataclass(frozen=True, slots=True)
class Pretrained:
    """What such a detector is saved with: its preprocessing, and lines to tell the user."""

    preprocessing: Facts
    notes: tuple[str, ...] = ()


class SetDetector(Detector):
    """A detector around a network of transformers, whose parts are its own."""

    learning_rate = 1e-4

    def __init__(self, network: Any, *, size: tuple[int, int], suppression: Suppression) -> None:
        super().__init__(size, suppression, train_norms=False)
        self.network = network

    @property
    def backbone(self) -> nn.Module:  # type: ignore[override]
        """The body."""
        parts = dict(self.network.named_modules())
        return next((parts[name] for name in BODIES if name in parts), self.network)

    @property
    def classifier(self) -> nn.Module:  # type: ignore[override]
        """What does not belong to the body."""
        body = {id(each) for each in self.backbone.parameters()}
        return nn.ParameterList([each for each in self.network.parameters() if id(each) not in body])

    @property
    def checkpoint_config(self) -> dict[str, Any]:
        """What config.json says."""
        found: dict[str, Any] = json.loads(self.network.config.to_json_string(use_diff=False))
        return found

    def raw(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """See `Detector.raw`; a place is a query."""
        output = self.network(pixel_values=pixel_values)
        logits, n_labels = output.logits, self.network.config.num_labels
        scores = logits.softmax(-1)[..., :n_labels] if logits.shape[-1] > n_labels else logits.sigmoid()
        middle, sides = output.pred_boxes[..., :2], output.pred_boxes[..., 2:]
        most = logits.new_tensor([*self.size[::-1]] * 2)
        boxes = torch.cat([middle - sides / 2, middle + sides / 2], -1).clamp(0, 1) * most
        return {"boxes": boxes, "scores": scores.transpose(1, 2)}

    def losses(self, pixel_values: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """See `Detector.losses`: the network's own sum. Boxes that are ignored count as nothing."""
        most = pixel_values.new_tensor([*self.size[::-1]])
        labels = []
        for truth in map(Truth.of, targets):
            low, high = truth.boxes[:, :2] / most, truth.boxes[:, 2:] / most
            labels.append({"class_labels": truth.labels, "boxes": torch.cat([(low + high) / 2, high - low], 1)})
        return {"detection": self.network(pixel_values=pixel_values, labels=labels).loss}

    def blocks(self, sample: Mapping[str, Any] | None = None) -> list[Block]:
        """See `Detector.blocks`.

        Raises:
            ModelError: the body's blocks are not known.
        """
        try:
            return super().blocks(sample)
        except TypeError as error:
            raise ModelError(
                f"finetune.strategy: the blocks of {type(self.network).__name__} are not known; use strategy full"
            ) from error

    def save(self, folder: Path, backbone: Pretrained) -> None:
        """Write a checkpoint: config.json, model.safetensors and preprocessor_config.json.

        Weights that share their memory are written under each of their names, for transformers' own loader ties them
        in another order than its writer for some (DEIMv2's small ones lose their box head so).
        """
        folder.mkdir(parents=True, exist_ok=True)
        state = self.network.state_dict()
        kept = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
        save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})
        self.save_inputs(folder, backbone)

    def save_inputs(self, folder: Path, backbone: Pretrained) -> None:
        """Write config.json and preprocessor_config.json."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "config.json", self.checkpoint_config)
        write_config(folder, backbone.preprocessing)


def of_reference(
    reference: str,
    *,
    labels: Sequence[str],
    task: str,
    revision: str | None,
    size: Sequence[int] | None,
    fit: Callable[[Facts, Sequence[int]], Facts],
    pretrained: bool = True,
) -> tuple[SetDetector, Pretrained]:
    """A detector of transformers with new layers for its labels, in eval mode, and what it is saved with.

    Args:
        reference: a hub id, a folder, or `package:NAME/PATH`.
        labels: of the objects.
        task: the name of the task.
        revision: the branch, tag or commit of a hub id.
        size: height and width of the input; by default the detector's own.
        fit: gives the preprocessing for a size.
        pretrained: `False` for random weights.

    Raises:
        ModelError: nothing loadable is there, or it is no detector.
    """
    place, options = place_of(reference, revision), loading_options(revision)
    transformers_logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(place, **options)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(explain(reference, error)) from error
    if type(config) not in AutoModelForObjectDetection._model_mapping:
        raise ModelError(
            f"model.backbone: {reference!r} is a {config.model_type!r}, which is no detector of transformers; for a "
            "detector on the body of an image classifier set model.detector, such as fcos"
        )
    named = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
        "tledge": {
            "task": task,
            "detector": {"kind": "transformers", "suppression": dataclasses.asdict(HOW)},
        },
    }
    for name, value in named.items():
        setattr(config, name, value)
    config.num_labels = len(labels)
    try:
        if pretrained:
            network, notes = _pretrained(place, reference, config, options)
        else:
            network, notes = AutoModelForObjectDetection.from_config(config).float(), ("random weights",)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelError(explain(reference, error)) from error
    own = _facts(place, revision)
    facts = fit(own, size or own.size)
    return SetDetector(network, size=facts.size, suppression=HOW).eval(), Pretrained(facts, notes)


def _pretrained(place: str, reference: str, config: Any, options: Mapping[str, Any]) -> tuple[Any, tuple[str, ...]]:
    """The network with its own weights but for those that depend on the labels, and a line about these.

    Raises:
        ModelError: others are missing.
    """
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # its table of new layers is our line
    try:
        network, found = AutoModelForObjectDetection.from_pretrained(
            place, config=config, ignore_mismatched_sizes=True, output_loading_info=True, **options
        )
    finally:
        transformers_logging.set_verbosity(before)
    new = sorted({each[0] for each in found["mismatched_keys"]})
    missing = sorted(set(found["missing_keys"]) - set(new))
    if missing:
        raise ModelError(
            f"model.backbone: the weights of {reference!r} lack {len(missing)} tensors, such as {missing[0]!r}; "
            "expected those of a whole detector, as save_pretrained writes them"
        )
    notes = (f"new layers for the labels: {', '.join(new[:4])}",) if new else ()
    return network.float(), notes


def load(folder: Path, config: Mapping[str, Any], size: tuple[int, int]) -> SetDetector:
    """The detector of a checkpoint folder, in eval mode; `config` is its config.json, and `size` that of its input.

    Raises:
        ModelError: its weights do not fit.
    """
    network = AutoModelForObjectDetection.from_config(AutoConfig.from_pretrained(folder)).float()
    try:
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{folder / WEIGHTS} does not fit config.json: {reason}; run the train stage again") from error
    suppression = from_dict(Suppression, config["tledge"]["detector"]["suppression"])
    return SetDetector(network, size=size, suppression=suppression).eval()


def _facts(place: str, revision: str | None) -> Facts:
    """The preprocessing that a detector's own files tell, as far as it is that of an input of one size."""
    found: dict[str, Any] = {}
    try:
        file = cached_file(place, FILE, revision=revision)
        found = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        found = {}
    told: Any = found.get("size")
    known = isinstance(told, dict) and {"height", "width"} <= set(told)
    size = (int(told["height"]), int(told["width"])) if known else SIZE
    plain = found.get("do_normalize") is False
    mean, std = ((0.0,) * 3, (1.0,) * 3) if plain else (IMAGENET_MEAN, IMAGENET_STD)
    if not plain:
        mean = tuple(found.get("image_mean") or mean)
        std = tuple(found.get("image_std") or std)
    return Facts(
        size=size,
        resize=size,
        interpolation=INTERPOLATIONS[found.get("resample", 2)],
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        rescale_factor=float(found.get("rescale_factor", 1 / 255)) if found.get("do_rescale", True) else 1.0,
    )
