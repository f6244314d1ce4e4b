"""A project small enough to be run whole in seconds: a random two-layer BERT, a hundred rows, a recipe for them."""

import csv
import itertools
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

WORDS = {
    "light": ["lamp", "bright", "glow"],
    "music": ["song", "tune", "band"],
    "heat": ["warm", "cold", "stove"],
}
FILLERS = ["please", "the", "now", "in", "room", "kitchen", "a", "some", "my", "house"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

RECIPE = """\
name: tiny
task: {task}
data:
  train: rows.csv
  validation: 0.2
  test: 0.2
model:
  backbone: backbone
  max_length: 16
finetune:
  strategy: full
  epochs: 6
  batch_size: 8
  learning_rate: 0.002
  report_to: []
quantize:
  schemes: [int8_dynamic]
budget:
  max_metric_drop: 0.9
bench:
  length: [8]
  percentile: 50
"""

# What is as small as this is quickest on one thread.
ENV = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def save_backbone(folder):
    """A random BERT, 32 wide and two layers deep, with a WordPiece tokenizer of the words above."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = [*SPECIAL, *itertools.chain(*WORDS.values()), *FILLERS, *"abcdefghijklmnopqrstuvwxyz", "##s", "."]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    torch.manual_seed(5)
    BertModel(
        BertConfig(
            vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=64, max_position_embeddings=64, initializer_range=0.1,
        )
    ).save_pretrained(folder)  # fmt: skip
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(folder)


def rows(task, count=90):
    """Texts with the words of their labels; for several labels, every fourth row has two and every tenth none."""
    names = list(WORDS)
    for i in range(count):
        labels = [names[i % 3]]
        if task == "text_multilabel":
            labels += [names[(i + 1) % 3]] if i % 4 == 0 else []
            labels = [] if i % 10 == 9 else labels
        words = [WORDS[label][(i // 3 + k) % 3] for label in labels for k in range(2)]
        yield " ".join([FILLERS[i % 10], *words, FILLERS[(i * 7 + i // 10) % 10], chr(97 + i % 26)]), "|".join(labels)


def write_project(folder, backbone, task="text_classification"):
    """A folder with `recipe.yaml`, `rows.csv` and `backbone`; gives the recipe's path."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(backbone, folder / "backbone")
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows(task)])
    (folder / "recipe.yaml").write_text(RECIPE.format(task=task), encoding="utf-8")
    return folder / "recipe.yaml"


def tledge(*arguments, env=None, code=None, timeout=120, **options):
    """`python -m tledge` in a fresh process, its output as text; fails unless it exits with `code`."""
    done = subprocess.run(
        [sys.executable, "-m", "tledge", *map(str, arguments)],
        check=False, capture_output=True, encoding="utf-8", errors="surrogateescape", timeout=timeout,
        env={**os.environ, **ENV, **(env or {})}, **options,
    )  # fmt: skip
    if code is not None:
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def call(capfd, *arguments):
    """`tledge` in this process: exit code, standard output and standard error."""
    import pytest

    from tledge import cli

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tledge", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
    out, err = capfd.readouterr()
    return SimpleNamespace(code=exit_.value.code, out=out, err=err)
