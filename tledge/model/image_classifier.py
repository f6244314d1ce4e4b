"""An image backbone and a head: the model that is fine-tuned, saved as a checkpoint and exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tledge.artifacts import write_json
from tledge.errors import ModelError
from tledge.inputs.image import write_config
from tledge.model.backbones.image import WEIGHTS, ImageBackbone, rebuilt
from tledge.model.batch_norms import update_batch_norms
from tledge.model.blocks import Block, blocks
from tledge.model.freeze import keep_frozen_in_eval
from tledge.model.head import folded, new_head
from tledge.model.last_layer import last_linear, logits, replace
from tledge.progress import Progress
from tledge.recipe.schema import Finetune

if TYPE_CHECKING:
    from tledge.model.boundary import StandIn
    from tledge.model.rows import Rows, Source

STUDENTS = tuple(
    f"torchvision:{name}"
    for name in (
        "mobilenet_v3_large",
        "mobilenet_v2",
        "mobilenet_v3_small",
        "shufflenet_v2_x1_0",
        "shufflenet_v2_x0_5",
        "resnet18",
        "efficientnet_b0",
    )
)
"""Small networks that a budget chooses a student from."""
_BATCH_NORM_IMAGES = 8


class ImageClassifier(nn.Module):
    """A backbone without its own last layer, and a head.

    Frozen parts stay in eval mode, batch norms too, so that training on cached features and through the frozen
    backbone compute the same. A second classifier of the backbone (Inception's) gets a fresh last layer; it only runs
    in training, where something below it trains.
    """

    in_a_row = False
    pools = True
    students = STUDENTS
    learning_rate = 1e-4

    def __init__(
        self,
        backbone: ImageBackbone,
        *,
        labels: Sequence[str],
        task: str,
        problem_type: str,
        dropout_prob: float = 0.1,
        head_hidden_size: int | None = None,
        target_scale: tuple[float, float] | None = None,
        head_normalize: bool = False,
    ) -> None:
        """Put a fresh head on a backbone, whose module becomes a part of this one.

        Args:
            backbone: gives `(batch, n_features)` of `(batch, 3, height, width) float32`.
            labels: one output of the head each.
            task: the name of the task.
            problem_type: the ecosystem's name of it.
            dropout_prob: dropout on the features, in training.
            head_hidden_size: width of one hidden tanh layer; `None` for a linear head.
            target_scale: mean and standard deviation of a regression's targets.
            head_normalize: whether the head takes features of length 1.
        """
        super().__init__()
        self.backbone = backbone.module
        self.size = backbone.preprocessing.size
        self.n_features = backbone.n_features
        # Not `config`: libraries take an attribute of that name for one of transformers' own objects.
        self.checkpoint_config = _config(backbone, labels, task, problem_type, dropout_prob, head_hidden_size)
        self.checkpoint_config["tledge"]["head"] |= {"normalize": True} if head_normalize else {}
        self.dropout = nn.Dropout(dropout_prob)
        self.classifier = new_head(
            self.n_features,
            len(labels),
            dropout_prob=dropout_prob,
            hidden_size=head_hidden_size,
            target_scale=target_scale,
            normalize=head_normalize,
        )
        self.second = backbone.aux
        if self.second is not None:
            branch = self.backbone.get_submodule(self.second)
            end = last_linear(branch, backbone.last_layer.n_classes)
            width = int(branch.get_submodule(end).in_features)  # type: ignore[arg-type]
            replace(
                branch,
                end,
                new_head(width, len(labels), dropout_prob=0.0, hidden_size=None, target_scale=target_scale),
            )
        self._blocks: list[Block] | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What the checkpoint's config.json says for tledge; may be added to."""
        found: dict[str, Any] = self.checkpoint_config["tledge"]
        return found

    def train(self, mode: bool = True) -> ImageClassifier:
        """Set the mode of what trains; what is frozen stays in eval mode."""
        super().train(mode)
        if mode:
            keep_frozen_in_eval(self.backbone)
            if self.second is not None and not any(
                p.requires_grad for p in self.backbone.get_submodule(self.second).parameters()
            ):
                self.backbone.training = False  # the flag that lets the second classifier run
        return self

    def features(self, pixel_values: Tensor) -> Tensor:
        """One feature vector for each image, `(batch, n_features)`.

        Args:
            pixel_values: `(batch, 3, height, width) float32`.
        """
        return logits(self.backbone(pixel_values))

    def head(self, features: Tensor) -> Tensor:
        """Logits, `(batch, labels)`, of features `(batch, n_features)`."""
        return self.classifier(self.dropout(features))

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """`{"logits": (batch, labels)}`, and `aux_logits` alike from a second classifier that trains.

        Args:
            pixel_values: `(batch, 3, height, width) float32`.
        """
        output = self.backbone(pixel_values)
        result = {"logits": self.head(logits(output))}
        if self.second is not None and self.backbone.training:
            result["aux_logits"] = next(t for t in output[1:] if t is not None)
        return result

    def drop_second(self) -> None:
        """Take the second classifier off, where nothing is trained any more."""
        if self.second is not None:
            replace(self.backbone, self.second, None)
            self.second = None

    def blocks(self, sample: Mapping[str, Any] | None = None) -> list[Block]:  # noqa: ARG002
        """The backbone's blocks from the stem to the top; looked for once. A sample is not needed, and not used."""
        if self._blocks is None:
            self._blocks = blocks(self.backbone, self.example(1))
        return self._blocks

    def block_sample(self) -> dict[str, Tensor]:
        """One made-up image, which shows in which order the blocks run."""
        return self.example(1)

    def stand_ins(self, boundary: int) -> list[tuple[str, StandIn]]:
        """What takes the place of the blocks below a boundary."""
        from tledge.model.boundary import anywhere

        return anywhere(self, boundary)

    def above(self, activations: Tensor) -> dict[str, Tensor]:
        """Empty images, one for each row of activations."""
        return {"pixel_values": activations.new_zeros(1).expand(len(activations), 3, *self.size)}

    def source(
        self,
        train: Rows,
        validation: Rows,
        encoder: Any,
        *,
        cache: Path,
        progress: Progress,
        settings: Finetune,
        seed: int,
        others: Mapping[str, Rows] | None = None,
    ) -> Source:
        """The rows of a training, in batches."""
        from tledge.model.rows import Photos

        return Photos(train, validation, encoder, settings, seed, cache, progress, others or {})

    def another(self, name: str, preprocessing: Any = None) -> ImageClassifier:
        """The same classifier on another backbone, with random weights whose features are of a usual size."""
        from tledge.model.backbones.image import load

        facts = self.checkpoint_config
        made = build_image(
            load(name, preprocessing=preprocessing, pretrained=False),
            task=facts["tledge"]["task"],
            problem_type=facts["problem_type"],
            labels=tuple(facts["label2id"]),
            dropout_prob=facts["tledge"]["head"]["dropout_prob"],
            head_hidden_size=facts["tledge"]["head"]["hidden_size"],
            head_normalize=facts["tledge"]["head"].get("normalize", False),
        )
        made.drop_second()
        update_batch_norms(made.backbone, [made.example(_BATCH_NORM_IMAGES)])  # numbers near zero would be slow
        return made

    def save(self, folder: Path, backbone: Any) -> None:
        """Write a checkpoint, with the preprocessing of a backbone."""
        save_image(self, folder, backbone)

    def save_inputs(self, folder: Path, backbone: Any) -> None:
        """Write preprocessor_config.json."""
        folder.mkdir(parents=True, exist_ok=True)
        write_config(folder, backbone.preprocessing)

    def example(self, batch: int) -> dict[str, Tensor]:
        """Noise of the right shape, the same each time: `pixel_values`, `(batch, 3, height, width) float32`."""
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randn((batch, 3, *self.size), generator=generator)
        return {"pixel_values": pixels.to(next(self.parameters()).device)}


def build_image(
    backbone: ImageBackbone,
    *,
    task: str,
    problem_type: str,
    labels: Sequence[str],
    dropout_prob: float,
    head_hidden_size: int | None,
    target_scale: tuple[float, float] | None = None,
    head_normalize: bool = False,
) -> ImageClassifier:
    """A classifier, in eval mode, on a pretrained backbone, which becomes a part of it."""
    return ImageClassifier(
        backbone,
        labels=labels,
        task=task,
        problem_type=problem_type,
        dropout_prob=dropout_prob,
        head_hidden_size=head_hidden_size,
        target_scale=target_scale,
        head_normalize=head_normalize,
    ).eval()


def save_image(model: ImageClassifier, folder: Path, backbone: ImageBackbone) -> None:
    """Write a checkpoint: config.json, model.safetensors and preprocessor_config.json.

    The weights have the names that the architecture's own library gives them, the head in the place of its last layer,
    so that torchvision, timm or transformers can load a checkpoint with a linear head. A regression's scale is a part
    of that layer, and a second classifier is left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", model.checkpoint_config)
    state = {
        name: tensor
        for name, tensor in model.backbone.state_dict().items()
        if model.second is None or not name.startswith(f"{model.second}.")
    }
    for name, tensor in folded(model.classifier).state_dict().items():
        state[f"{backbone.last_layer.name}.{name}"] = tensor
    kept = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})
    write_config(folder, backbone.preprocessing)


def load_image(folder: Path, config: Mapping[str, Any]) -> ImageClassifier:
    """The classifier of a checkpoint folder, in eval mode; `config` is its config.json.

    Raises:
        ModelError: its weights do not fit.
    """
    backbone = rebuilt(folder, config)
    facts = config["tledge"]
    model = ImageClassifier(
        backbone,
        labels=[config["id2label"][str(i)] for i in range(len(config["id2label"]))],
        task=facts["task"],
        problem_type=config["problem_type"],
        dropout_prob=facts["head"]["dropout_prob"],
        head_hidden_size=facts["head"]["hidden_size"],
        head_normalize=facts["head"].get("normalize", False),
    )
    model.drop_second()
    head = f"{backbone.last_layer.name}."
    try:
        state = load_file(folder / WEIGHTS)
        for name in list(state):
            place = f"classifier.{name.removeprefix(head)}" if name.startswith(head) else f"backbone.{name}"
            state[place] = state.pop(name)
        model.load_state_dict(state)
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{folder / WEIGHTS} does not fit config.json: {reason}; run the train stage again") from error
    return model.eval()


def _config(
    backbone: ImageBackbone,
    labels: Sequence[str],
    task: str,
    problem_type: str,
    dropout_prob: float,
    head_hidden_size: int | None,
) -> dict[str, Any]:
    """What config.json says: the library's own config where it has one, the labels, and what tledge needs."""
    own = backbone.own_config or {"model_type": backbone.library}
    return {
        **own,
        "architectures": [type(backbone.module).__name__],
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
        "num_labels": len(labels),
        "problem_type": problem_type,
        "tledge": {
            "task": task,
            "backbone": {"library": backbone.library, "name": backbone.name},
            "head": {"dropout_prob": dropout_prob, "hidden_size": head_hidden_size},
        },
    }
