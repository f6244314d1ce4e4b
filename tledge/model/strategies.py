"""The ladder of fine-tuning: which module trains on which data, in one or more phases, for each strategy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from tledge.batches import Columns
from tledge.model import boundary
from tledge.model.backbones.transformers import weights_digest
from tledge.model.freeze import freeze
from tledge.model.lora import LEARNING_RATE as LORA_LEARNING_RATE
from tledge.model.lora import merged, with_lora
from tledge.model.parameter_groups import groups_by_block, groups_of
from tledge.model.protocol import Classifier
from tledge.model.rows import Rows, Source
from tledge.precision import training_device
from tledge.progress import Progress
from tledge.recipe.schema import Finetune

PROBE_EPOCHS = 40
FINETUNE_EPOCHS = 3
GRADUAL_EPOCHS = 1  # of each phase of `gradual` but the first, the probe, and the last
PROBE_LEARNING_RATE = 3e-3
WHOLE = "the whole model runs in every epoch"


@dataclass(frozen=True, slots=True)
class Phase:
    """One training: a module whose forward gives `{"logits": ...}`, its data, and what the optimizer needs.

    `train` and `validation` hold the module's inputs and `labels`. `groups` are optimizer parameter groups with their
    learning rates. `base_rate` is the learning rate that they are made for where a range test shall find it
    (`learning_rate: auto`), else `None`. `others` holds the inputs of further rows, by name, and `moves` tells whether
    the features that the head takes change in this phase, and `last` whether it is the last one.
    """

    name: str
    module: nn.Module
    train: Columns
    validation: Columns
    epochs: float
    groups: list[dict[str, Any]]
    note: str
    base_rate: float | None = None
    others: Mapping[str, Columns] = field(default_factory=dict)
    moves: bool = True
    last: bool = True


class _Probe(nn.Module):
    """The head of a classifier alone, on pooled features `(batch, n_features)`."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.dropout = model.dropout
        self.classifier = model.classifier

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return {"logits": self.classifier(self.dropout(features))}


def phases(
    model: Classifier,
    encoder: Any,
    train: Rows,
    validation: Rows,
    settings: Finetune,
    *,
    cache: Path,
    progress: Progress,
    seed: int = 0,
    source: Source | None = None,
    others: Mapping[str, Rows] | None = None,
) -> Iterator[Phase]:
    """The phases of a strategy, each prepared when the one before it has been trained.

    Args:
        model: trained in place, phase by phase.
        encoder: texts or images to tensors: an `Input` of `tledge.inputs`.
        train: rows that train.
        validation: rows that are scored after each epoch.
        settings: the recipe's `finetune`.
        cache: folder of cached features.
        progress: shown while the backbone runs over the rows.
        seed: of the changed copies of images that the cache holds, and of adapters.
        source: where batches come from; by default the model's own.
        others: further rows, by name, whose inputs each phase has in the form that its module takes.

    Raises:
        ModelError: the freeze setting names nothing in this backbone.
    """
    source = source or model.source(
        train=train,
        validation=validation,
        encoder=encoder,
        cache=cache,
        progress=progress,
        settings=settings,
        seed=seed,
        others=others or {},
    )
    run = _Strategy(model, source, settings, seed)
    if settings.strategy == "probe":
        yield run.probe(settings.epochs or PROBE_EPOCHS)
    elif settings.strategy == "probe_then_full":
        yield replace(run.probe(settings.probe_epochs), last=False)
        yield run.finetune("full")
    elif settings.strategy == "gradual":
        yield from run.gradual()
    elif settings.strategy == "partial":
        yield from run.partial()
    elif settings.strategy == "lora":
        yield from run.lora()
    else:
        yield run.finetune("full")


@dataclass(frozen=True, slots=True)
class _Strategy:
    model: Classifier
    source: Source
    settings: Finetune
    seed: int

    def probe(self, epochs: float) -> Phase:
        """The head on features of the whole frozen backbone."""
        freeze(self.model.backbone, "probe")
        settings = self.settings
        rate = settings.head_learning_rate
        asked = settings.learning_rate if settings.strategy == "probe" else None
        find = rate is None and asked == "auto"
        if rate is None and isinstance(asked, float):
            rate = asked
        rate = rate or PROBE_LEARNING_RATE
        groups = groups_of(self.model.classifier.parameters(), rate, settings.weight_decay)
        base_rate = rate if find else None
        if not settings.cache or not self.model.pools:
            phase = self._whole("probe", epochs, groups, "the frozen backbone runs in every epoch", base_rate)
            return replace(phase, moves=False)
        self.model.eval()
        identity = f"{weights_digest(self.model.backbone)} {getattr(self.model, 'pooling', '')}"
        sets = self.source.pooled(lambda x: self.model.features(**x), identity, self._device())
        probe = _Probe(self.model)
        return Phase(
            "probe", probe, sets.train, sets.validation, epochs, groups, sets.note, base_rate, sets.others, moves=False
        )

    def partial(self) -> Iterator[Phase]:
        """The last blocks; on cached activations where whole blocks are frozen and the recipe allows it."""
        level = self._freeze("partial", self.settings.unfreeze)
        if not level or not self.settings.cache or not self.model.pools or boundary.trains_below(self.model, level):
            yield self.finetune("partial")
            return
        if not self.model.in_a_row and not boundary.cuttable(self.model, level):
            why = f"something passes by the {level} frozen blocks, so that their activations alone cannot be cached"
            yield self.finetune("partial", note=f"{WHOLE}: {why}")
            return
        self.model.eval()
        identity = f"{weights_digest(self.model.backbone)} block {level}"
        sets = self.source.activated(lambda x: boundary.activations(self.model, level, x), identity, self._device())
        above = boundary.AboveBoundary(self.model, level)
        groups, base_rate = self._groups()
        note = f"activations of the {level} frozen blocks are cached"
        try:
            yield Phase(
                "partial",
                above,
                sets.train,
                sets.validation,
                self._epochs(),
                groups,
                sets.note or note,
                base_rate,
                sets.others,
            )
        finally:
            above.restore()

    def lora(self) -> Iterator[Phase]:
        """The head and adapters in the frozen backbone, which are merged into it afterwards."""
        settings = self.settings
        adapted = with_lora(self.model.backbone, settings.lora, seed=self.seed)
        groups, base_rate = self._groups(usual=LORA_LEARNING_RATE)
        try:
            yield self._whole(
                "lora",
                self._epochs(),
                groups,
                f"adapters of rank {settings.lora.rank} train, and are merged into the weights",
                base_rate,
            )
        finally:
            merged(adapted)

    def gradual(self) -> Iterator[Phase]:
        """The head on features, then the last block too, then the last two and so on (Howard and Ruder 2018)."""
        count = self.settings.unfreeze or len(self.model.blocks())
        assert isinstance(count, int)
        self._freeze("partial", count)  # refuses too large a number before anything trains
        yield replace(self.probe(self.settings.probe_epochs), last=False)
        factor = 1.0
        for k in range(1, count + 1):
            last = k == count
            strategy = "full" if last and self.settings.unfreeze is None else "partial"
            phase = self.finetune(strategy, k, factor=factor, note=f"{k} of the last blocks train, nothing is cached")
            before = phase.groups[0]["lr"]
            yield replace(
                phase,
                name=f"gradual_{k}",
                epochs=phase.epochs if last else GRADUAL_EPOCHS,
                base_rate=phase.base_rate if k == 1 else None,
                last=last,
            )
            factor *= phase.groups[0]["lr"] / before  # what a range test in the first of these phases found

    def finetune(
        self, strategy: str, unfreeze: int | str | None = None, *, factor: float = 1.0, note: str = WHOLE
    ) -> Phase:
        """Head and unfrozen parameters, on the rows themselves."""
        self._freeze(strategy, unfreeze or self.settings.unfreeze)
        groups, base_rate = self._groups(factor)
        return self._whole(strategy, self._epochs(), groups, note, base_rate)

    def _whole(
        self, name: str, epochs: float, groups: list[dict[str, Any]], note: str, base_rate: float | None
    ) -> Phase:
        sets = self.source.whole()
        note = f"{note}; {sets.note}" if sets.note else note
        model = cast("nn.Module", self.model)
        return Phase(name, model, sets.train, sets.validation, epochs, groups, note, base_rate, sets.others)

    def _freeze(self, strategy: str, unfreeze: int | str | None) -> int | None:
        """Freeze as a strategy says; the boundary below which nothing trains, if there is one."""
        sample = self.model.block_sample()
        return freeze(self.model.backbone, strategy, unfreeze, self.settings.freeze, sample=sample).boundary

    def _epochs(self) -> float:
        return self.settings.epochs or FINETUNE_EPOCHS

    def _groups(self, factor: float = 1.0, *, usual: float | None = None) -> tuple[list[dict[str, Any]], float | None]:
        """Parameter groups of head and backbone, and the rate that they are made for where it is still to be found.

        Without a rate in the recipe it is the `usual` one, by default the backbone's.
        """
        asked = self.settings.learning_rate
        rate = asked if isinstance(asked, float) else usual or self.model.learning_rate
        head_rate = self.settings.head_learning_rate or 10 * rate
        decay = self.settings.weight_decay
        groups = groups_by_block(self.model, rate * factor, decay, self.settings.layer_decay)
        groups += groups_of(self.model.classifier.parameters(), head_rate * factor, decay)
        return groups, rate if asked == "auto" else None

    def _device(self) -> torch.device:
        """Where the backbone runs over the rows: the model is moved there."""
        module = cast("nn.Module", self.model)
        device = training_device()
        module.to(device)
        return device
