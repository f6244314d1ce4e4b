"""The plain loops that `training.py` compares with: what one writes with torch, transformers and torchvision alone."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from training_cases import GPU, LABELS, PICTURE_LABELS, SIDE, TEMPERATURE, Case

RATE, HEAD_RATE, PROBE_RATE, DECAY, WARM_UP, MAX_NORM = 3e-4, 3e-3, 3e-3, 0.01, 0.1, 1.0
DEVICE = torch.device("cuda" if GPU else "cpu")

Run = dict[str, Any]
"""What a training gave: `seconds`, `training` (the loop alone), `steps`, `rows`, and the best `metric`."""


def all_loops() -> dict[str, Callable[[Case, int, Path], Run]]:
    """The plain loops by name."""
    return {"full": plain_full, "head": plain_head, "distil": plain_distil}


class TextNet(nn.Module):
    """A body of transformers, the mean of its tokens, dropout and a linear layer."""

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.bert, self.dropout, self.classifier = body, nn.Dropout(0.1), nn.Linear(width, LABELS)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """`(batch, labels)` of `(batch, sequence)`."""
        return self.classifier(self.dropout(self.features(input_ids, attention_mask)))

    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """`(batch, hidden)`."""
        hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[..., None].to(hidden.dtype)
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1)


def network(case: Case, home: Path) -> Any:
    """The model of a case, on the CPU."""
    if case.kind == "photos":
        from torchvision import models

        return models.get_model(case.backbone, weights=None, num_classes=PICTURE_LABELS)
    from transformers import AutoModel, AutoModelForCausalLM

    folder = home / case.backbone
    if case.kind == "book":
        return AutoModelForCausalLM.from_pretrained(folder, use_cache=False)
    if case.backbone != "teacher":
        body = AutoModel.from_pretrained(folder, add_pooling_layer=False)
        return TextNet(body, body.config.hidden_size)
    from safetensors.torch import load_file

    body = AutoModel.from_pretrained(home / "mini", add_pooling_layer=False)
    model = TextNet(body, body.config.hidden_size)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model


def plain_full(case: Case, epochs: int, home: Path) -> Run:
    """All parameters train; with `unfreeze` the head and the last blocks, and no graph is kept of what is below."""
    torch.manual_seed(0)
    model = network(case, home).to(DEVICE)
    frozen: list[nn.Module] = []
    if n_trained := case.settings.get("unfreeze"):
        layers = model.bert.encoder.layer
        frozen = [model.bert.embeddings, *layers[: len(layers) - n_trained]]
        for part in frozen:
            part.requires_grad_(False)
    if case.kind == "photos":
        model.to(memory_format=torch.channels_last)
    started = time.perf_counter()
    train, validation = batches(case, "train", home), batches(case, "validation", home)
    return fitted(case, epochs, started, model, frozen, train, validation, lambda x, y: supervised(answer(model, x), y))


def plain_head(case: Case, epochs: int, home: Path) -> Run:
    """The head alone, on features that are computed once and stay on the device."""
    torch.manual_seed(0)
    model = network(case, home).to(DEVICE).eval()
    started = time.perf_counter()
    found = [featured(model, case, name, home) for name in ("train", "validation")]
    head = nn.Sequential(model.dropout, model.classifier)
    train = Shuffled(*found[0], case.batch)
    return fitted(
        case, epochs, started, head, [], train, [found[1]], lambda x, y: F.cross_entropy(head(x), y), PROBE_RATE
    )


def plain_distil(case: Case, epochs: int, home: Path) -> Run:
    """Every second layer of the teacher learns from all of them."""
    torch.manual_seed(0)
    teacher, student = (network(case, home).to(DEVICE) for _ in range(2))
    teacher.eval().requires_grad_(False)
    place, name = (student.transformer, "h") if case.kind == "book" else (student.bert.encoder, "layer")
    setattr(place, name, getattr(place, name)[::2])
    body = student if case.kind == "book" else student.bert
    body.config.num_hidden_layers = len(getattr(place, name))
    losses = case.settings["losses"]
    inside = losses.get("hidden_cosine", 0.0)

    def loss(inputs: dict[str, Tensor], labels: Tensor) -> Tensor:
        options = {"output_hidden_states": True} if inside else {}
        with torch.no_grad():
            theirs = teacher(**inputs, **options)
        mine = student(**inputs, **options)
        logits, wanted = getattr(mine, "logits", mine), getattr(theirs, "logits", theirs)
        total = losses["hard_labels"] * supervised(logits, labels)
        if logits.dim() == 3:
            logits, wanted = logits[:, :-1].flatten(0, 1), wanted[:, :-1].flatten(0, 1)
        ours, goal = (F.log_softmax(each.float() / TEMPERATURE, dim=-1) for each in (logits, wanted))
        soft = F.kl_div(ours, goal, log_target=True, reduction="batchmean")
        total = total + losses["soft_targets"] * TEMPERATURE**2 * soft
        if inside:  # hidden states begin with the embeddings
            pairs = list(zip(mine.hidden_states[1:], theirs.hidden_states[2::2], strict=True))
            far = [1 - F.cosine_similarity(a.float(), b.float(), dim=-1).mean() for a, b in pairs]
            total = total + inside * sum(far) / len(far)
        return total

    started = time.perf_counter()
    train, validation = batches(case, "train", home), batches(case, "validation", home)
    return fitted(case, epochs, started, student, [], train, validation, loss, RATE)


def fitted(
    case: Case,
    epochs: int,
    started: float,
    model: nn.Module,
    frozen: Sequence[nn.Module],
    train: Any,
    validation: Any,
    loss_of: Callable[[Any, Tensor], Tensor],
    rate: float | None = None,
) -> Run:
    """The loop itself. Without `rate` a classifier's head learns ten times as fast as its body."""
    from transformers import get_scheduler

    began = time.perf_counter()
    head = {id(each) for name in ("classifier", "fc") for each in getattr(model, name, nn.Module()).parameters()}
    trained = [each for each in model.parameters() if each.requires_grad]
    groups = [
        {"params": [each for each in trained if id(each) not in head], "lr": rate or RATE},
        {"params": [each for each in trained if id(each) in head], "lr": rate or HEAD_RATE},
    ]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], weight_decay=DECAY)
    steps = epochs * len(train)
    schedule = get_scheduler("linear", optimizer, round(WARM_UP * steps), steps)
    metrics = []
    for _ in range(epochs):
        model.train()
        for part in frozen:
            part.eval()
        for inputs, labels in train:
            with mixed(case):
                loss = loss_of(moved(inputs), moved(labels))
            loss.backward()
            nn.utils.clip_grad_norm_(trained, MAX_NORM)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        model.eval()
        metrics.append(scored(case, model, validation))
    ended = time.perf_counter()
    return {
        "seconds": ended - started,
        "training": ended - began,
        "steps": steps,
        "rows": epochs * train.n_rows if isinstance(train, Shuffled) else epochs * len(train.dataset),
        "metric": (min if case.kind == "book" else max)(metrics),
    }


@torch.no_grad()
def scored(case: Case, model: nn.Module, validation: Any) -> float:
    """Accuracy of the validation rows, or the mean loss of blocks."""
    total, n_rows = torch.zeros((), device=DEVICE), 0
    for each, its_labels in validation:
        labels = moved(its_labels)
        with mixed(case):
            logits = answer(model, moved(each))
        right = supervised(logits, labels) * len(labels) if case.kind == "book" else (logits.argmax(-1) == labels).sum()
        total, n_rows = total + right, n_rows + len(labels)
    return float(total) / n_rows


def answer(model: nn.Module, inputs: Any) -> Tensor:
    """A model's logits."""
    found = model(**inputs) if isinstance(inputs, dict) else model(inputs)
    return getattr(found, "logits", found)


def supervised(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean cross-entropy of rows, or of each next token of blocks."""
    if logits.dim() == 3:
        logits, labels = logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    return F.cross_entropy(logits.float(), labels)


def mixed(case: Case) -> AbstractContextManager[Any]:
    """Autocast to bf16 where the case asks for it."""
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=case.precision == "bf16")


def moved(value: Any) -> Any:
    """On the device; pictures with the channels last."""
    if isinstance(value, dict):
        return {name: moved(each) for name, each in value.items()}
    layout = {"memory_format": torch.channels_last} if value.dim() == 4 else {}
    return value.to(DEVICE, non_blocking=True, **layout)


class Shuffled:
    """Batches of tensors on the device, in a new order for every epoch."""

    def __init__(self, features: Tensor, labels: Tensor, batch: int) -> None:
        self.features, self.labels, self.batch, self.n_rows = features, labels, batch, len(labels)

    def __len__(self) -> int:
        return math.ceil(self.n_rows / self.batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in torch.randperm(self.n_rows, device=DEVICE).split(self.batch):
            yield self.features[rows], self.labels[rows]


@torch.no_grad()
def featured(model: TextNet, case: Case, name: str, home: Path) -> tuple[Tensor, Tensor]:
    """The features of all rows and their labels, computed in order of length."""
    rows = sorted(tokenised(case, name, home), key=lambda each: len(each[0]))
    found, labels = [], []
    for inputs, some in DataLoader(rows, batch_size=64, collate_fn=padded):  # type: ignore[arg-type]
        with mixed(case):
            found.append(model.features(**moved(inputs)).float())
        labels.append(moved(some))
    return torch.cat(found), torch.cat(labels)


def batches(case: Case, name: str, home: Path) -> DataLoader[Any]:
    """The rows of one split in batches, those that train in random order."""
    trains = name == "train"
    options: dict[str, Any] = {
        "batch_size": case.batch if trains or case.kind == "photos" else max(64, case.batch),
        "shuffle": trains,
        "pin_memory": GPU,
    }
    if case.kind == "texts":
        return DataLoader(tokenised(case, name, home), collate_fn=padded, **options)  # type: ignore[arg-type]
    if case.kind == "book":
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(home / case.backbone)
        text = (home / case.data / f"{name}.txt").read_text(encoding="utf-8")
        ids = torch.tensor([*tokenizer(text)["input_ids"], tokenizer.eos_token_id])
        blocks = ids[: len(ids) // case.length * case.length].reshape(-1, case.length)
        if not trains:
            options["batch_size"] = case.batch  # or the logits of 64 blocks would be in memory at once
        return DataLoader(blocks, collate_fn=stacked, **options)  # type: ignore[arg-type]
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    steps = [transforms.Resize(SIDE), transforms.CenterCrop(SIDE), transforms.ToTensor()]
    workers = {"num_workers": 8, "persistent_workers": True} if GPU else {}
    rows = ImageFolder(str(home / case.data / name), transforms.Compose([*steps, transforms.Normalize(mean, std)]))
    return DataLoader(rows, **options, **workers)


def tokenised(case: Case, name: str, home: Path) -> list[tuple[Tensor, int]]:
    """The token ids of each text with its label."""
    from transformers import AutoTokenizer

    with (home / case.data / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    tokenizer = AutoTokenizer.from_pretrained(home / case.backbone)
    ids = tokenizer([each["text"] for each in rows], truncation=True, max_length=case.length)["input_ids"]
    number = {label: i for i, label in enumerate(sorted({each["label"] for each in rows}))}
    return [(torch.tensor(some), number[each["label"]]) for some, each in zip(ids, rows, strict=True)]


def stacked(rows: Sequence[Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    """A batch of blocks, which are their own labels."""
    blocks = torch.stack(list(rows))
    return {"input_ids": blocks}, blocks


def padded(rows: Sequence[tuple[Tensor, int]]) -> tuple[dict[str, Tensor], Tensor]:
    """A batch, as long as its longest row; token 0 pads."""
    ids = pad_sequence([each for each, _ in rows], batch_first=True)
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}, torch.tensor([label for _, label in rows])
