"""Seconds a step and memory of tledge's distillation beside a plain loop with the same losses.

    python benchmarks/distill.py
    python benchmarks/distill.py --case language

`classifier`: a MiniLM of 6 layers (random weights) teaches one of 3, batches of 32 texts of 32 tokens, soft targets,
the cosine of hidden states and hard labels. `language`: GPT-2's shape, 4 layers of 128 features and 50,257 words,
teaches 2 of them, batches of 8 blocks of 128 tokens, the same losses. The plain loop is what one writes with
transformers and torch alone: both models run with `output_hidden_states`, the losses are torch's functions, and AdamW
steps.

Each trains in a process of its own, by turns. tledge runs whole epochs of a few and of many steps, and the difference
is divided by the difference of steps, so that its start, its scoring and its files count for nothing; the plain loop's
steps are timed alike. Printed are medians, the ratio with its range over rounds, and the peak memory of the processes
(resident set).
Exits with 1 where tledge takes more than 1.02 of the plain loop's time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

STEPS = {"classifier": (4, 24), "language": (3, 15)}
SIZES = {"classifier": (32, 32, 30522), "language": (8, 128, 50257)}
"""Rows in a batch, tokens in a row, and words."""
TEMPERATURE, WEIGHTS = 2.0, {"soft_targets": 1.0, "hidden_cosine": 1.0, "hard_labels": 0.5}
ALLOWED = 1.02


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(STEPS), action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(**json.loads(options.child))))
        return 0
    from tledge.bench import machine

    here = machine.describe()
    print(f"{here.cpu}, {here.cores} cores, {here.system}, {here.packages}")
    return max(compared(case, options.rounds) for case in options.case or STEPS)


def compared(case: str, rounds: int) -> int:
    """Print one case; 1 where tledge is slower than allowed."""
    found: dict[str, list[dict[str, float]]] = {"plain": [], "tledge": []}
    for number in range(rounds):
        for who in sorted(found, reverse=number % 2 == 1):
            command = [sys.executable, __file__, "--child", json.dumps({"who": who, "case": case})]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[who].append(json.loads(done.stdout.splitlines()[-1]))
    for who, each in found.items():
        seconds, peak = ([one[key] for one in each] for key in ("seconds", "peak_mb"))
        print(
            f"{case:10} {who:6} {statistics.median(seconds):.3f} s a step ({min(seconds):.3f} to {max(seconds):.3f}), "
            f"peak {statistics.median(peak):,.0f} MB"
        )
    ratios = [ours["seconds"] / theirs["seconds"] for ours, theirs in zip(found["tledge"], found["plain"], strict=True)]
    ratio = statistics.median(ratios)
    print(f"{case:10} tledge takes {ratio:.3f} of the plain loop's time ({min(ratios):.3f} to {max(ratios):.3f})")
    return int(ratio > ALLOWED)


def measured(who: str, case: str) -> dict[str, float]:
    """Seconds of one step, and the peak memory of this process in MB."""
    from tledge import processes
    from tledge.bench.memory import peak_bytes

    if who == "tledge":  # as `tledge.run` begins
        processes.let_idle_threads_sleep()
        processes.keep_freed_memory()
    few, many = STEPS[case]
    train = {"plain": plain, "tledge": ours}[who]
    train(case, 1)  # what the first step loads and compiles
    seconds = {}
    for steps in (few, many):
        started = time.perf_counter()
        train(case, steps)
        seconds[steps] = time.perf_counter() - started
    return {"seconds": (seconds[many] - seconds[few]) / (many - few), "peak_mb": peak_bytes() / 1e6}


def ours(case: str, steps: int) -> None:
    """One epoch of `train.distill` of so many steps."""
    from tledge import model, plugins, tasks, train
    from tledge.progress import silent
    from tledge.recipe.schema import Distill

    teacher = classifier(6) if case == "classifier" else writer(4)
    batch = SIZES[case][0]
    language = case == "language"
    task = tasks.load("causal_lm" if language else "text_classification")
    student = model.student.from_layers(teacher, (0, 2) if language else (0, 2, 4))
    blocks = [tuple(model.block_list(each)[1]) for each in (student, teacher)]
    rows = train.TokenBlocks(tokens(case, steps * batch)) if language else Labelled(tokens(case, steps * batch))
    few = train.TokenBlocks(tokens(case, 2)) if language else Labelled(tokens(case, 2))
    with tempfile.TemporaryDirectory() as folder:
        lesson = (
            train.TokenTargets(task.PROBLEM_TYPE)
            if language
            else train.RowTargets(task.PROBLEM_TYPE, plugins.load("tledge.losses", "cross_entropy").loss)
        )
        train.distill(
            student,
            teacher,
            train.Sets(rows, few),
            lesson,
            train.Scoring(task.score, task.METRIC, language, "token_losses" if language else "logits"),
            train.Plan("distill", "", Path(folder), model.groups_of(student.parameters(), 1e-4, 0.01), 1, 0),
            Distill(batch_size=batch, losses=WEIGHTS, temperature=TEMPERATURE, report_to=[]),
            pairing=train.Pairing(*blocks, model.student.default_layer_map(len(blocks[0]), len(blocks[1]))),
            progress=silent,
        )


def plain(case: str, steps: int) -> None:
    """The loop that one writes without tledge."""
    import torch
    from torch.nn import functional as F

    torch.manual_seed(0)
    language = case == "language"
    teacher, student = (make(n) for make, n in zip(plain_pair(case), (4, 2) if language else (6, 3), strict=True))
    teacher.eval()
    student.train()
    pairs = [(i + 1, 2 * i + 2) for i in range(2 if language else 3)]  # hidden states begin with the embeddings
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4, weight_decay=0.01)
    batch = SIZES[case][0]
    ids = torch.from_numpy(tokens(case, steps * batch).astype(np.int64))
    for part in torch.utils.data.DataLoader(ids, batch_size=batch, shuffle=True):
        inputs = {"input_ids": part, "attention_mask": torch.ones_like(part), "output_hidden_states": True}
        with torch.no_grad():
            theirs = teacher(**inputs)
        mine = student(**inputs)
        logits, wanted = mine.logits, theirs.logits
        labels = part.sum(dim=1) % 2
        if language:
            logits, wanted, labels = logits[:, :-1].flatten(0, 1), wanted[:, :-1].flatten(0, 1), part[:, 1:].flatten()
        soft = F.kl_div(
            F.log_softmax(logits / TEMPERATURE, dim=-1),
            F.log_softmax(wanted / TEMPERATURE, dim=-1),
            log_target=True,
            reduction="batchmean",
        )
        hidden = sum(
            1 - F.cosine_similarity(mine.hidden_states[i], theirs.hidden_states[j], dim=-1).mean() for i, j in pairs
        ) / len(pairs)
        loss = WEIGHTS["soft_targets"] * TEMPERATURE**2 * soft + WEIGHTS["hidden_cosine"] * hidden
        loss = loss + WEIGHTS["hard_labels"] * F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()


class Labelled:
    """Texts of random tokens with a label each, as `train.distill` takes them."""

    def __init__(self, ids: Any) -> None:
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitems__(self, rows: list[int]) -> dict[str, Any]:
        import torch

        ids = torch.from_numpy(self.ids[rows].astype(np.int64))
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.sum(dim=1) % 2}


def tokens(case: str, rows: int) -> Any:
    """Random token ids, `(rows, length) int32`."""
    _, length, vocabulary = SIZES[case]
    return np.random.default_rng(0).integers(5, vocabulary, (rows, length), dtype=np.int32)


def classifier(n_layers: int) -> Any:
    """Tledge's classifier on a random MiniLM."""
    import torch
    from transformers import BertModel

    from tledge.model import TextClassifier

    torch.manual_seed(0)
    config = mini_lm(n_layers)
    facts = {"task": "text_classification", "pooling": "mean", "max_length": 128}
    config.tledge = facts | {"head": {"dropout_prob": 0.1, "hidden_size": None}}
    return TextClassifier(BertModel(config), config=config, pooling="mean", n_labels=2).eval()


def mini_lm(n_layers: int) -> Any:
    from transformers import BertConfig

    return BertConfig(
        hidden_size=384, num_hidden_layers=n_layers, num_attention_heads=12, intermediate_size=1536, num_labels=2
    )


def writer(n_layers: int) -> Any:
    """A language model of GPT-2's shape, random."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(n_layer=n_layers, n_embd=128, n_head=4, n_positions=128)).eval()


def plain_pair(case: str) -> tuple[Any, Any]:
    """What makes the teacher and the student of so many layers."""
    from transformers import BertForSequenceClassification

    if case == "language":
        return writer, writer
    return (lambda n: BertForSequenceClassification(mini_lm(n)),) * 2


if __name__ == "__main__":
    sys.exit(main())
