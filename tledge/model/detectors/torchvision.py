"""Detectors of torchvision by name, with weights for COCO: `torchvision:fasterrcnn_resnet50_fpn` and its like.

They get new last layers for other labels. What torchvision does around its network, resizing and choosing detections,
is left out: an input has one size, and detections are chosen as for all detectors here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision import models
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD

from tledge.artifacts import from_dict, write_json
from tledge.errors import ModelError, did_you_mean
from tledge.inputs._suppression import Suppression
from tledge.inputs.image import Facts, write_config
from tledge.model import weights as weight_files
from tledge.model.backbones.image import WEIGHTS
from tledge.model.backbones.loading import check_finite
from tledge.model.detectors._anchors import decoded
from tledge.model.detectors._detector import Detector
from tledge.model.detectors._targets import Truth
from tledge.model.detectors._two_stage import TwoStage, sureness

PREFIX = "torchvision:"
LASTS = ("box_predictor.", "cls_logits.", "classification_head.")
"""Parts of the names of layers that depend on the labels."""
LARGEST = 32
"""A default input is a multiple of so many pixels."""
LEAST_SCORE = 0.01
"""Detections of less are too many to sort, whatever a network of torchvision asks for."""
KINDS = (FasterRCNN, RetinaNet, FCOS, SSD)


@dataclasses.dataclass(frozen=True, slots=True)
class Named:
    """What a detector by name is saved with: its preprocessing, and lines to tell the user."""

    preprocessing: Facts
    notes: tuple[str, ...] = ()


class _Plain(nn.Module):
    """In the place of torchvision's own resizing: images of one size, as they are."""

    def forward(self, images: Tensor, targets: Any = None) -> tuple[ImageList, Any]:
        size = (images.shape[2], images.shape[3])
        return ImageList(images, [size] * len(images)), targets

    def postprocess(self, result: Any, _shapes: Any, _original: Any) -> Any:
        return result


class _OfName(Detector):
    """A detector around a network of torchvision, whose parts are its own."""

    learning_rate = 1e-4

    def __init__(self, name: str, network: Any, *, labels: Sequence[str], task: str, size: tuple[int, int]) -> None:
        super().__init__(size, _suppression(network), train_norms=False)
        self.network = network
        self.checkpoint_config = {
            "model_type": "torchvision",
            "architectures": [type(network).__name__],
            "id2label": {str(i): label for i, label in enumerate(labels)},
            "label2id": {label: i for i, label in enumerate(labels)},
            "num_labels": len(labels),
            "problem_type": "object_detection",
            "tledge": {
                "task": task,
                "detector": {
                    "kind": "torchvision",
                    "name": name,
                    "suppression": dataclasses.asdict(self.suppression),
                },
            },
        }

    @property
    def backbone(self) -> nn.Module:  # type: ignore[override]
        """The body, without a pyramid."""
        found: nn.Module = getattr(self.network.backbone, "body", self.network.backbone)
        return found

    @property
    def classifier(self) -> nn.Module:  # type: ignore[override]
        """All parts but the body."""
        above = list(self.network.backbone.children()) if self.backbone is not self.network.backbone else []
        rest = [m for name, m in self.network.named_children() if name not in ("backbone", "transform")]
        return nn.ModuleList([m for m in [*above, *rest] if m is not self.backbone])

    def maps_of_image(self, pixel_values: Tensor) -> list[Tensor]:
        """What the body and its pyramid give, the finest first."""
        return list(self.network.backbone(pixel_values).values())

    def save(self, folder: Path, backbone: Named) -> None:
        """Write a checkpoint: config.json, model.safetensors with torchvision's names, and preprocessor_config.json."""
        folder.mkdir(parents=True, exist_ok=True)
        state = self.network.state_dict()
        kept = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
        save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})
        self.save_inputs(folder, backbone)

    def save_inputs(self, folder: Path, backbone: Named) -> None:
        """Write config.json and preprocessor_config.json."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "config.json", self.checkpoint_config)
        write_config(folder, backbone.preprocessing)


class TwoStageOfName(_OfName, TwoStage):
    """Faster R-CNN, with its own choice of proposals."""

    def __init__(self, name: str, network: Any, **of: Any) -> None:
        super().__init__(name, network, **of)
        rpn = network.rpn.eval()  # its numbers of proposals are those of its mode
        self.proposal_suppression = Suppression(
            score_threshold=float(sureness(torch.logit(torch.tensor(float(rpn.score_thresh))))),
            iou_threshold=float(rpn.nms_thresh),
            max_detections=int(rpn.post_nms_top_n()),
            per_image=int(rpn.pre_nms_top_n()),
        )

    @property
    def rpn(self) -> Any:
        """What proposes."""
        return self.network.rpn

    @property
    def roi_heads(self) -> Any:
        """What looks into proposals."""
        return self.network.roi_heads

    def losses(self, pixel_values: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """See `TwoStage.losses`."""
        return TwoStage.losses(self, pixel_values, targets)


class OneStageOfName(_OfName):
    """RetinaNet, FCOS, SSD and SSDLite."""

    def raw(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """See `Detector.raw`."""
        maps = self.maps_of_image(pixel_values)
        outputs = self.network.head(maps)
        boxes, scores = _ANSWERS[_kind(self.network)](outputs, self._anchors(pixel_values, maps), self.size)
        return {"boxes": boxes, "scores": scores.transpose(1, 2)}

    def losses(self, pixel_values: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """See `Detector.losses`; boxes that are ignored count as nothing."""
        first = int(isinstance(self.network, SSD))  # whose label 0 is for nothing
        truths = [Truth.of(each) for each in targets]
        wanted = [{"boxes": each.boxes, "labels": each.labels + first} for each in truths]
        before, self.network.training = self.network.training, True
        try:
            found: dict[str, Tensor] = self.network(pixel_values, wanted)
        finally:
            self.network.training = before
        return found

    def _anchors(self, pixel_values: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Those of all places, `(places, 4)`, which an input's one size decides."""
        kept = self.__dict__.setdefault("_made_anchors", {})
        if pixel_values.device not in kept:
            blank = [each.new_zeros(1, 1, *each.shape[2:]) for each in maps]
            image = ImageList(pixel_values.new_zeros(1, 3, *self.size), [self.size])
            kept[pixel_values.device] = self.network.anchor_generator(image, blank)[0].detach()
        found: Tensor = kept[pixel_values.device]
        return found


def of_name(
    reference: str,
    *,
    labels: Sequence[str],
    task: str,
    weights: str | None,
    size: Sequence[int] | None,
    fit: Callable[[Facts, Sequence[int]], Facts],
    pretrained: bool = True,
) -> tuple[_OfName, Named]:
    """A detector of torchvision with new last layers, in eval mode, and what it is saved with.

    Args:
        reference: `torchvision:NAME`.
        labels: of the objects.
        task: the name of the task.
        weights: torchvision's name of weights, a file, or `none`; by default its own choice.
        size: height and width of the input; by default about the detector's own.
        fit: gives the preprocessing for a size.
        pretrained: `False` for random weights.

    Raises:
        ModelError: torchvision has no such detector, or its weights cannot be loaded.
    """
    name = reference.removeprefix(PREFIX)
    network = _network(name, len(labels))
    facts = fit(_facts(network), size or _own_size(network))
    notes = ("random weights",)
    if pretrained and weights != "none":
        notes = (_take(network, _weights(name, weights), weights or reference),)
    _replace_transform(network)
    kind = TwoStageOfName if isinstance(network, FasterRCNN) else OneStageOfName
    detector = kind(name, network, labels=labels, task=task, size=facts.size).eval()
    return detector, Named(facts, notes)


def load(folder: Path, config: Mapping[str, Any], size: tuple[int, int]) -> _OfName:
    """The detector of a checkpoint folder, in eval mode; `config` is its config.json, and `size` that of its input.

    Raises:
        ModelError: its weights do not fit.
    """
    facts = config["tledge"]
    labels = [config["id2label"][str(i)] for i in range(len(config["id2label"]))]
    network = _network(facts["detector"]["name"], len(labels))
    try:
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{folder / WEIGHTS} does not fit config.json: {reason}; run the train stage again") from error
    _replace_transform(network)
    kind = TwoStageOfName if isinstance(network, FasterRCNN) else OneStageOfName
    model = kind(facts["detector"]["name"], network, labels=labels, task=facts["task"], size=size).eval()
    model.suppression = from_dict(Suppression, facts["detector"]["suppression"])
    return model


def _network(name: str, n_labels: int) -> Any:
    known = [
        each for each in models.list_models(module=models.detection) if "keypoint" not in each and "mask" not in each
    ]
    if name not in known:
        raise ModelError(
            f"model.backbone: torchvision has no detector {name!r}{did_you_mean(name, known)}; known are "
            f"{', '.join(known)}; for a detector on a classifier's body set model.detector, such as fcos"
        )
    for_nothing = int(name.startswith(("faster", "ssd")))
    return models.get_model(name, weights=None, weights_backbone=None, num_classes=n_labels + for_nothing)


def _weights(name: str, weights: str | None) -> Mapping[str, Tensor]:
    if weights is not None and weight_files.is_file(weights):
        return weight_files.read(weights)
    enum: Any = models.get_model_weights(name)
    if weights is not None and weights not in enum.__members__:
        names = [*enum.__members__]
        raise ModelError(
            f"model.weights: torchvision's {name} has no weights {weights!r}: known are {', '.join(names)}, none, "
            f"or a file that ends in {', '.join(weight_files.SUFFIXES)}{did_you_mean(weights, names)}"
        )
    chosen = enum.DEFAULT if weights is None else enum[weights]
    try:
        found: Mapping[str, Tensor] = chosen.get_state_dict(progress=False)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelError(
            f"model.weights: the weights {chosen.name} of torchvision's {name} cannot be downloaded: {reason}; give "
            "model.weights a local .pth or .safetensors file, or none for random weights"
        ) from error
    return found


def _take(network: nn.Module, state: Mapping[str, Tensor], source: str) -> str:
    """Load all weights but those of layers that depend on the labels; a line about what is new.

    Raises:
        ModelError: others are missing, or of another shape.
    """
    own = network.state_dict()
    fitting = {name: each for name, each in state.items() if name in own and each.shape == own[name].shape}
    # Frozen batch norms, which torchvision's own weights have, count no batches.
    new = [name for name in own if name not in fitting and not name.endswith("num_batches_tracked")]
    wrong = [name for name in new if not any(part in name for part in LASTS)]
    if wrong:
        raise ModelError(
            f"model.weights: {source} does not fit: {len(wrong)} of {len(own)} tensors are missing or of another "
            f"shape, such as {wrong[0]!r}; expected weights of this detector"
        )
    network.load_state_dict(fitting, strict=False)
    check_finite(network, source, "model.weights")
    return f"new layers for the labels: {', '.join(sorted({name.rpartition('.')[0] for name in new})[:4])}"


def _facts(network: Any) -> Facts:
    transform = network.transform
    mean, std = ((float(r), float(g), float(b)) for r, g, b in (transform.image_mean, transform.image_std))
    return Facts(_own_size(network), _own_size(network), "bilinear", mean, std)


def _own_size(network: Any) -> tuple[int, int]:
    """Its fixed size, or the shorter side that it resizes to, with sides of 3 to 4."""
    transform = network.transform
    if transform.fixed_size is not None:
        width, height = transform.fixed_size
        return int(height), int(width)
    shorter = min(transform.min_size)
    return shorter, min(round(shorter * 4 / 3 / LARGEST) * LARGEST, int(transform.max_size) // LARGEST * LARGEST)


def _suppression(network: Any) -> Suppression:
    heads = getattr(network, "roi_heads", network)
    return Suppression(
        score_threshold=min(max(float(heads.score_thresh), LEAST_SCORE), Suppression().score_threshold),
        iou_threshold=float(heads.nms_thresh),
        max_detections=min(100, int(heads.detections_per_img)),
    )


def _replace_transform(network: Any) -> None:
    network.transform = _Plain()


def _kind(network: Any) -> type:
    return next(kind for kind in KINDS if isinstance(network, kind))


def _of_retinanet(outputs: Mapping[str, Tensor], anchors: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    return decoded(outputs["bbox_regression"], anchors, size), outputs["cls_logits"].sigmoid()


def _of_ssd(outputs: Mapping[str, Tensor], anchors: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    boxes = decoded(outputs["bbox_regression"], anchors, size, (10.0, 10.0, 5.0, 5.0))
    return boxes, outputs["cls_logits"].softmax(-1)[..., 1:]


def _of_fcos(outputs: Mapping[str, Tensor], anchors: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    middle, sides = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]
    pixels = outputs["bbox_regression"] * torch.cat([sides, sides], -1)
    boxes = torch.cat([middle - pixels[..., :2], middle + pixels[..., 2:]], -1).clamp(min=0)
    most = boxes.new_tensor([size[1], size[0]] * 2)
    probability = outputs["cls_logits"].sigmoid() * outputs["bbox_ctrness"].sigmoid()
    return torch.minimum(boxes, most), probability.sqrt()


_ANSWERS: Mapping[type, Callable[..., tuple[Tensor, Tensor]]] = {
    RetinaNet: _of_retinanet,
    FCOS: _of_fcos,
    SSD: _of_ssd,
}
"""How the outputs of each become boxes `(batch, places, 4)` and scores `(batch, places, labels)`."""
