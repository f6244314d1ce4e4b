"""Holds answers of a bundle to the question-answering pipeline of transformers 4, which version 5 has no more.

In an environment of its own, since that version does not go with tledge's:

    tledge predict runs/squad-answers --variant fp32 --file dev.jsonl > ours.jsonl
    python -m venv ~/old && ~/old/bin/pip install "transformers==4.57.3" torch
    ~/old/bin/python benchmarks/transformers_answers.py runs/squad-answers/train/checkpoint ours.jsonl

Contexts that one window holds are answered by both in the same way. Where a context takes several, the pipeline gives
each window probabilities of its own and cuts words, so that answers may differ; those are counted apart.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from safetensors.torch import load_file, save_file
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, pipeline


def as_question_answering(checkpoint: Path, folder: Path) -> None:
    """Write a checkpoint of tledge with the names that transformers has for its head."""
    for path in checkpoint.iterdir():
        if path.suffix in (".json", ".txt"):
            (folder / path.name).write_bytes(path.read_bytes())
    weights = load_file(checkpoint / "model.safetensors")
    names = {name: name.replace("classifier.", "qa_outputs.") for name in weights}
    save_file({names[name]: weight for name, weight in weights.items()}, folder / "model.safetensors", {"format": "pt"})


def main() -> None:
    """Print how many answers are the same, and the largest difference of their scores."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("answers", type=Path, help="What `tledge predict` printed, one JSON object a line.")
    parser.add_argument("--stride", type=int, default=128)
    arguments = parser.parse_args()
    settings = json.loads((arguments.checkpoint / "windows.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        as_question_answering(arguments.checkpoint, Path(folder))
        tokenizer = AutoTokenizer.from_pretrained(folder)
        answer = pipeline(
            "question-answering", AutoModelForQuestionAnswering.from_pretrained(folder), tokenizer=tokenizer, device=-1
        )
        counts = {"one window": [0, 0, 0.0], "several windows": [0, 0, 0.0]}
        for line in arguments.answers.read_text(encoding="utf-8").splitlines():
            ours = json.loads(line)
            theirs = answer(
                question=ours["question"],
                context=ours["context"],
                max_seq_len=tokenizer.model_max_length,
                doc_stride=settings["stride"],
                max_answer_len=settings["max_answer_length"],
                align_to_words=False,
            )
            tokens = len(tokenizer(ours["question"], ours["context"])["input_ids"])
            count = counts["one window" if tokens <= tokenizer.model_max_length else "several windows"]
            same = (ours["start"], ours["end"]) == (theirs["start"], theirs["end"])
            count[0] += 1
            count[1] += same
            count[2] = max(count[2], abs(ours["score"] - theirs["score"]) if same else 0.0)
            if not same:
                print(f"{ours['question']!r}: {ours['answer']!r} {ours['score']:.4f}, theirs {theirs['answer']!r} "
                      f"{theirs['score']:.4f}")  # fmt: skip
        for name, (total, same, apart) in counts.items():
            print(f"{name}: {same} of {total} answers are the same, scores at most {apart:.1e} apart")


if __name__ == "__main__":
    main()
