"""Every kind of detector through export, parity and int8: does it work, and how fast is it beside torch?

    python benchmarks/detectors.py [--only fcos --only yolos] [--seconds 10]

Weights are random, the statistics of batch norms taken from made-up pictures and the last layers' weights as large as
others', so that scores differ and many boxes are found: structure, parity, speed and sizes mean something, and what is
found does not. Parity is that of `tledge export`. int8 is `int8_static` with the first layers in float, on made-up
pictures; "same" is the share of the 20 best detections of each of 8 pictures that int8 gives with the same label and an
overlap of 0.5. Times are paired and interleaved, batch 1, one thread. Writes a Markdown table as it goes.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from tledge import bench, export, graph_file
from tledge.bench import machine
from tledge.errors import TledgeError
from tledge.evaluate import Run
from tledge.inputs.boxed_image import BoxedImageInput
from tledge.model import detectors
from tledge.quantize.schemes import int8_static
from tledge.recipe.schema import Model
from tledge.runtime import open_session, session_run
from tledge.tasks._average_precision import overlaps

LABELS = ("bicycle", "car", "person")
BODY = {"backbone": "torchvision:mobilenet_v2", "input_size": [240, 320]}
BEST = 20
HEADER = (
    "| detector | input | parameters | export | seconds | parity, largest difference | MB | of torch's time | int8 MB "
    "| of torch's time | same |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def rt_detr_v2() -> Any:
    """About the size of the smallest one that is published, with ResNet-18."""
    body = transformers.RTDetrResNetConfig(
        hidden_sizes=[64, 128, 256, 512],
        depths=[2] * 4,
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    return transformers.RTDetrV2Config(
        backbone_config=body, encoder_in_channels=[128, 256, 512], decoder_layers=3, num_queries=100
    )


def small(config: Any) -> Any:
    """About the size of a D-FINE N: HGNetV2 B0, two maps, 128 channels."""
    body = transformers.HGNetV2Config(
        stem_channels=[3, 16, 16],
        hidden_sizes=[64, 256, 512, 1024],
        stage_in_channels=[16, 64, 256, 512],
        stage_mid_channels=[16, 32, 64, 128],
        stage_out_channels=[64, 256, 512, 1024],
        stage_num_blocks=[1, 1, 2, 1],
        stage_numb_of_layers=[3] * 4,
        out_features=["stage3", "stage4"],
    )
    return config(
        backbone_config=body,
        encoder_hidden_dim=128,
        encoder_in_channels=[512, 1024],
        decoder_in_channels=[128, 128],
        feat_strides=[16, 32],
        encode_proj_layers=[1],
        num_feature_levels=2,
        d_model=128,
        encoder_ffn_dim=512,
        decoder_ffn_dim=512,
        decoder_layers=3,
        decoder_n_points=[6, 6],
        num_queries=100,
    )


def yolos() -> Any:
    """The size of YOLOS tiny."""
    return transformers.YolosConfig(
        hidden_size=192, num_attention_heads=3, intermediate_size=768, image_size=[320, 320], num_detection_tokens=100
    )


KINDS: Mapping[str, Mapping[str, Any] | Callable[[], Any]] = {
    **{kind: BODY | {"detector": kind} for kind in ("fcos", "retinanet", "ssdlite", "faster_rcnn")},
    "ssdlite320_mobilenet_v3_large": {"backbone": "torchvision:ssdlite320_mobilenet_v3_large"},
    "YOLOS": yolos,
    "RT-DETRv2": rt_detr_v2,
    "D-FINE": lambda: small(transformers.DFineConfig),
    "DEIMv2": lambda: small(transformers.Deimv2Config),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(KINDS), help="this kind; repeatable")
    parser.add_argument("--seconds", type=float, default=10, help="time limit of a kind's timing")
    options = parser.parse_args()
    logging.disable(logging.ERROR)
    here = machine.describe()
    print(f"{here.cpu}, {here.cores} cores, {here.system}, onnxruntime {here.onnxruntime}\n\n{HEADER}", flush=True)
    failed = 0
    for name in options.only or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            try:
                print(row(name, Path(folder), options.seconds), flush=True)
            except (TledgeError, NotImplementedError) as error:
                failed += 1
                print(
                    f"| {name} | no: {(str(error) or type(error).__name__).partition(' (the whole')[0]} |", flush=True
                )
    return 1 if failed else 0


def row(name: str, folder: Path, seconds: float) -> str:
    """The line of a kind."""
    detector, encoder = made(name, folder)
    start = time.perf_counter()
    raw, fp32, int8 = (folder / f"{each}.onnx" for each in ("raw", "model", "int8"))
    export.export_candidates(detectors.folded(detector), encoder.for_export(), raw, opset=20, external_data=False)
    export.suppress_in_graph(raw, fp32, detector.suppression)
    took = time.perf_counter() - start
    runs = {each: session_run(open_session(each)) for each in (raw, fp32)}
    found = export.compare_detector(detector, runs[raw], runs[fp32], cases_of(encoder), atol=1e-4, rtol=1e-3)
    tensors = [case for case in found if case.same_decision is None]
    rows = [encoder.dummy(1, seed=seed) for seed in range(100, 116)]
    int8_static.apply(fp32, int8, calibration=lambda: iter(rows), keep_float="first")
    ratios = against_torch(detector, encoder, {"fp32": fp32, "int8": int8}, seconds)
    cells = (
        name,
        f"{detector.size[0]}x{detector.size[1]}",
        f"{sum(each.numel() for each in detector.parameters()):,}",
        "yes",
        f"{took:.0f}",
        f"{sum(case.passed for case in found)} of {len(found)}, {max(case.max_abs_diff for case in tensors):.0e}",
        f"{graph_file.size_bytes(fp32) / 1e6:.1f}",
        ratios["fp32"],
        f"{graph_file.size_bytes(int8) / 1e6:.1f}",
        ratios["int8"],
        f"{same(runs[fp32], session_run(open_session(int8)), encoder):.2f}",
    )
    return f"| {' | '.join(cells)} |"


def made(name: str, folder: Path) -> tuple[Any, BoxedImageInput]:
    """A detector that answers, in eval mode, and the preprocessing of its input."""
    torch.manual_seed(0)
    kind = KINDS[name]
    settings = kind if isinstance(kind, Mapping) else of_config(kind(), folder)
    detector, body = detectors.of_recipe(
        Model(weights="none", **settings) if isinstance(kind, Mapping) else Model(**settings),
        labels=LABELS,
        task="object_detection",
        pretrained=False,
    )
    encoder = BoxedImageInput(body.preprocessing, detector.suppression)
    answering(detector, torch.from_numpy(np.concatenate([feeds["pixel_values"] for _, feeds, _ in cases_of(encoder)])))
    return detector, encoder


def cases_of(encoder: BoxedImageInput) -> list[Any]:
    """Names and tensors that parity is held on, noise and plain pictures among them."""
    return list(export.cases(encoder, encoder.examples()))


def of_config(config: Any, folder: Path) -> Mapping[str, Any]:
    """What a recipe says of a checkpoint of transformers, of which there is only the configuration."""
    config.save_pretrained(folder)
    return {"backbone": str(folder), "input_size": [320, 320]}


def answering(detector: Any, pixels: torch.Tensor) -> None:
    """Set the batch norms' statistics, and give last layers, which begin with nearly nothing, weights like others'."""
    with torch.no_grad():
        for module in detector.classifier.modules() if not hasattr(detector, "network") else detector.network.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                fan_in = module.weight[0].numel()
                if isinstance(module, nn.Linear) or module.weight.std() < 0.5 * fan_in**-0.5:
                    module.weight.normal_(std=fan_in**-0.5)
        norms = [module for module in detector.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        detector(pixels)
    detector.eval()


def against_torch(
    detector: Any, encoder: BoxedImageInput, graphs: Mapping[str, Path], seconds: float
) -> dict[str, str]:
    """Each graph's time as a share of torch's, which suppresses too, with its 95 % interval."""
    result = bench.run(
        graphs,
        encoder.dummy,
        reference="torch",
        lengths=[None],
        percentile=50,
        duration_s=seconds,
        extra={"torch": lambda threads: export.torch_run(detector, threads=threads)},
        repeats=0,
    )
    ratios = {each.candidate: each.against for each in result.latencies}
    return {name: f"{ratios[name].ratio:.2f} ({ratios[name].low:.2f} to {ratios[name].high:.2f})" for name in graphs}


def same(fp32: Run, int8: Run, encoder: BoxedImageInput) -> float:
    """The share of fp32's best detections that int8 gives too."""
    shares = []
    for seed in range(8):
        expected, got = (run(encoder.dummy(1, seed=seed)) for run in (fp32, int8))
        there = np.flatnonzero(expected["labels"][0] >= 0)[:BEST]
        alike = expected["labels"][0, there, None] == got["labels"][0][None]
        hits = alike & (overlaps(expected["boxes"][0, there], got["boxes"][0]) >= 0.5)
        shares += hits.any(1).tolist()
    return float(np.mean(shares)) if shares else float("nan")


if __name__ == "__main__":
    sys.exit(main())
