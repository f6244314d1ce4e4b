"""Do a bundle's language model and torch write the same tokens, greedily, alone and in a padded batch?

    python benchmarks/greedy.py runs/distilgpt2-style

20 prompts of 4 to 42 tokens from the run's validation blocks, 64 tokens each, through `tledge.Generator` on the fp32
graph with its cache, and through transformers' `generate` on the run's checkpoint. Exits with 1 where a token differs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from tledge import Generator, inputs
from tledge.data import open_blocks

PROMPTS, NEW = 20, 64


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    generator = Generator.load(run / "bundle", variant="fp32")
    student = run / "distill" / "checkpoint"
    module = AutoModelForCausalLM.from_pretrained(student if student.exists() else run / "train" / "checkpoint").eval()
    encoder = inputs.load("text", run / "bundle")
    blocks = open_blocks(run / "data").validation
    texts = [encoder.decode(blocks[i % len(blocks)][: 4 + 2 * i].tolist()) for i in range(PROMPTS)]
    alone = [generator.generate(text, max_new_tokens=NEW).token_ids for text in texts]
    batched = [each.token_ids for each in generator.generate(texts, max_new_tokens=NEW, batch_size=PROMPTS)]
    ids = [generator.prompt_ids(text) for text in texts]
    reference = [written(module, [prompt])[0] for prompt in ids]
    in_batch = written(module, ids)
    pairs = {
        "alone": (alone, reference),
        "in a batch": (batched, reference),
        "torch's own batch": (in_batch, reference),
    }
    differences = {
        name: [i for i, (a, b) in enumerate(zip(*two, strict=True)) if list(a) != list(b)]
        for name, two in pairs.items()
    }
    for name, which in differences.items():
        others = f", not {which}" if which else ""
        print(f"{name}: {PROMPTS - len(which)} of {PROMPTS} as torch alone, {NEW} tokens each{others}")
    return int(bool(differences["alone"] or differences["in a batch"]))


def written(module, prompts):
    """What torch writes after prompts that are padded on the left."""
    longest = max(map(len, prompts))
    end = module.generation_config.eos_token_id
    pad = end if isinstance(end, int) else (end or [0])[0]
    ids = torch.tensor([[pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    with torch.inference_mode():
        found = module.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False, pad_token_id=pad
        )[:, longest:].tolist()
    return [row[: row.index(end)] if isinstance(end, int) and end in row else row for row in found]


if __name__ == "__main__":
    sys.exit(main())
