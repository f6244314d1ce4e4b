"""The trainings that `training.py` compares, and the rows and checkpoints that it makes for them."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

GPU = torch.cuda.is_available()
LABELS, PICTURE_LABELS, WORDS, BOOK_WORDS = 15, 10, 30522, 50257
TEMPERATURE = 2.0
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
END = "<|endoftext|>"
PICTURE, SIDE = ((640, 480), 224) if GPU else ((160, 120), 64)
"""Width and height of the pictures' files, and the side of what the network sees."""
MARKS: dict[str, dict[str, float]] = (
    {
        "text-full-fp32": {"full": 1.0},
        "text-full-bf16": {"full": 1.0},
        "text-full-compile": {"full": 0.7},
        "probe": {"full": 0.3},
        "images": {"full": 1.0, "later full": 0.7},
        "distil-classifier": {"distil": 1.0},
        "distil-language": {"distil": 1.0},
        "language": {"full": 1.0},
    }
    if GPU
    else {
        "distil-classifier": {"later distil": 1.02},
        "distil-language": {"later distil": 1.02},
        "tiny": {"later full": 1.1},
        "head": {"later head": 1.2},
    }
)
"""The most of a plain loop's time that tledge may take, over all or in the `later` epochs."""


@dataclass(frozen=True)
class Case:
    """One training of tledge, and the plain loops that it is compared with.

    `plain` has the loops with their epochs. Of two numbers of epochs the difference is compared too. `settings` are the
    recipe's, of the stage.
    """

    data: str
    backbone: str
    batch: int
    epochs: tuple[int, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    precision: str = "fp32"
    stage: str = "train"
    plain: dict[str, tuple[int, ...]] = field(default_factory=dict)
    length: int = 256

    @property
    def kind(self) -> str:
        """`texts`, `photos` or `book`."""
        return self.data.partition("-")[0]


def all_cases() -> dict[str, Case]:
    """The cases, of the sizes that this device takes in seconds."""
    batch, half = (64, "bf16") if GPU else (16, "fp32")
    length, block = (256, 256) if GPU else (96, 64)
    later = (1, 2) if GPU else (1, 3)
    plainly = {"strategy": "full", "compile": "off"}
    texts = Case("texts-long", "mini", batch, (3,), plainly, plain={"full": (3,)}, length=length)
    photos = Case("photos", "resnet50" if GPU else "resnet18", batch, (2, 4), {"strategy": "full"}, half)
    short = Case("texts-short", "tiny", 8, (1, 3), {"strategy": "full"}, length=32)
    book = Case("book", "writer", 16 if GPU else 4, later, {"strategy": "full"}, half, length=block)
    lesson = {"soft_targets": 1.0, "hard_labels": 0.5}
    told = {"student": {"layers": "every_second"}, "baseline": False, "temperature": TEMPERATURE}
    taught = told | {"losses": lesson}
    inside = told | {"losses": lesson | {"hidden_cosine": 1.0}}
    distil = Case("texts-long", "teacher", batch, later, taught, half, "distill", {"distil": later}, length)
    return {
        "text-full-fp32": texts,
        "text-full-bf16": replace(texts, precision="bf16"),
        "text-full-compile": replace(texts, precision=half, settings={"strategy": "full", "compile": "auto"}),
        "probe": replace(texts, settings={"strategy": "probe"}, epochs=(40,), plain={"full": (3,), "head": (40,)}),
        "partial": replace(texts, settings={"strategy": "partial", "unfreeze": 2}),
        "images": replace(photos, plain={"full": (2, 4)}),
        "distil-classifier": distil,
        "distil-language": replace(book, settings=inside, stage="distill", plain={"distil": later}),
        "language": replace(book, plain={"full": later}),
        "tiny": replace(short, plain={"full": (1, 3)}),
        "head": Case("texts-short", "flat", 16, (5, 25), {"strategy": "probe"}, plain={"head": (5, 25)}, length=32),
    }


def make(case: Case, home: Path) -> None:
    """The rows and the checkpoint of a case, where they are not there yet; but for a teacher, which is trained."""
    for name in (case.data, f"{case.data}-few"):
        if not (home / name).exists():
            {"texts": make_texts, "photos": make_photos, "book": make_book}[case.kind](home / name, case)
    if case.kind != "photos" and case.backbone != "teacher" and not (home / case.backbone).exists():
        make_checkpoint(case.backbone, home / case.backbone, case.length)


def words() -> list[str]:
    """So many different words of two to nine letters."""
    random = np.random.default_rng(1)
    found: dict[str, None] = {}
    while len(found) < BOOK_WORDS:
        letters = random.integers(97, 123, (BOOK_WORDS, 9), dtype=np.uint8)
        for row, length in zip(letters, random.integers(2, 10, BOOK_WORDS), strict=True):
            found[row[:length].tobytes().decode()] = None
    return list(found)[: BOOK_WORDS - 1]


def sizes(folder: Path, train: int, few: int, other: int) -> dict[str, int]:
    """Rows of each split; of those that test, which a distillation scores too, as few as there may be."""
    n_train = few if folder.name.endswith("-few") else train
    return {
        "train": n_train,
        "validation": min(n_train, other),
        "test": 2 if folder.name.startswith("book") else LABELS,
    }


def make_texts(folder: Path, case: Case) -> None:
    """Texts of random words, a fifth of which tell the label."""
    random, every = np.random.default_rng(2), words()[: WORDS - len(SPECIAL)]
    mean, deviation, n_train = (14, 4, 1600) if case.data == "texts-short" else (125, 40, 4800) if GPU else (50, 16, 64)
    folder.mkdir()
    for split, n_rows in sizes(folder, n_train, 2 * LABELS, 480 if GPU else 2 * LABELS).items():
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            out = csv.writer(file)
            out.writerow(("text", "label"))
            for number in range(n_rows):
                length = int(np.clip(random.normal(mean, deviation), 5, case.length - 2))
                label = number % LABELS
                of_label = random.random(length) < 0.2
                chosen = np.where(of_label, random.integers(20, size=length) + 20 * label, random.integers(
                    20 * LABELS, len(every), length))  # fmt: skip
                out.writerow((" ".join(every[i] for i in chosen), f"label {label:02}"))


def make_book(folder: Path, case: Case) -> None:
    """One text of words whose frequencies fall as Zipf's."""
    random, every = np.random.default_rng(3), np.array(words())
    shares = 1 / np.arange(10, len(every) + 10)
    folder.mkdir()
    for split, n_blocks in sizes(folder, 1600 if GPU else 24, case.batch, 64 if GPU else 8).items():
        some = random.choice(every, n_blocks * case.length, p=shares / shares.sum())
        lines = [" ".join(some[start : start + 100]) for start in range(0, len(some), 100)]
        (folder / f"{split}.txt").write_text("\n".join(lines), encoding="utf-8")


def make_photos(folder: Path, case: Case) -> None:  # noqa: ARG001
    """Smooth pictures with some noise, tinted as their label says."""
    from PIL import Image

    splits = sizes(folder, 960 if GPU else 48, 2 * PICTURE_LABELS, 96 if GPU else 16)
    tints = np.random.default_rng(4).integers(-60, 60, (PICTURE_LABELS, 3))

    def save(each: tuple[str, int]) -> None:
        split, number = each
        label, random = number % PICTURE_LABELS, np.random.default_rng([len(split), number])
        rough = np.clip(random.integers(40, 216, (12, 16, 3)) + tints[label], 0, 255).astype(np.uint8)
        smooth = np.asarray(Image.fromarray(rough).resize(PICTURE, Image.Resampling.BICUBIC), np.int16)
        noisy = smooth + random.integers(-12, 13, smooth.shape, dtype=np.int16)
        path = folder / split / f"label {label}" / f"{number:04}.jpg"
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(path, quality=90)

    for split in splits:
        for label in range(PICTURE_LABELS):
            (folder / split / f"label {label}").mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        list(pool.map(save, [(split, number) for split, n_rows in splits.items() for number in range(n_rows)]))


def rows_of(case: Case, home: Path) -> int:
    """Rows or blocks that train."""
    folder = home / case.data
    if case.kind == "photos":
        return sum(1 for _ in (folder / "train").rglob("*.jpg"))
    text = (folder / ("train.txt" if case.kind == "book" else "train.csv")).read_text(encoding="utf-8")
    return len(text.split()) // case.length if case.kind == "book" else text.count("\n") - 1


def make_checkpoint(name: str, folder: Path, length: int) -> None:
    """A BERT or a GPT-2 with random weights, and its tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    if name == "writer":
        n_layer, n_embd, n_head = (12, 768, 12) if GPU else (4, 128, 4)
        ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
        GPT2LMHeadModel(
            GPT2Config(n_layer=n_layer, n_embd=n_embd, n_head=n_head, n_positions=length, **ends)
        ).save_pretrained(folder)
        every = {word: i for i, word in enumerate((END, *words()))}
        tokenizer = Tokenizer(models.WordLevel(every, unk_token=END))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokens = {"bos_token": END, "eos_token": END, "pad_token": END, "unk_token": END}
    else:
        n_layer, width, n_head, inner = {
            "mini": (6, 384, 12, 1536),
            "tiny": (2, 32, 2, 128),
            "flat": (1, 384, 12, 384),
        }[name]
        config = BertConfig(
            vocab_size=WORDS,
            num_hidden_layers=n_layer,
            hidden_size=width,
            num_attention_heads=n_head,
            intermediate_size=inner,
        )
        BertModel(config, add_pooling_layer=False).save_pretrained(folder)
        every = {word: i for i, word in enumerate((*SPECIAL, *words()[: WORDS - len(SPECIAL)]))}
        tokenizer = Tokenizer(models.WordPiece(every, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        tokens = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask"], **tokens
    ).save_pretrained(folder)
