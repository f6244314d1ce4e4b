"""Tiny bundles, of texts (a bag-of-words graph) and of images (a sum of colours), for every room that needs one."""
# ruff: noqa: E402 - what decides how many cores there are comes first

import os
import shutil
from pathlib import Path
from types import SimpleNamespace


def _keep_to_one_core():
    """Give each of several workers a core of its own: what they run is tiny, and threads that wait would spin."""
    worker, known = os.environ.get("PYTEST_XDIST_WORKER", ""), hasattr(os, "sched_setaffinity")
    if worker.startswith("gw") and known:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker[2:]) % len(cores)]})


_keep_to_one_core()  # before any library looks how many cores there are

import numpy as np
import onnx
import pytest
import tiny_project
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tledge import artifacts, bundle
from tledge.artifacts import Graph, TensorSpec, Variant
from tledge.runtime import open_session, session_run


def pytest_configure(config):
    """Hide GPUs, unless their own tests are asked for (`-m gpu`): what is compared here are results of a CPU."""
    expression = config.getoption("markexpr")
    if "gpu" not in expression or "not gpu" in expression:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "train", "late", "x", ".", ",", "!", "the", "is"]
LABELS = ("negative", "neutral", "positive")
IDS = ("input_ids", "attention_mask")


def save_checkpoint(folder):
    """A folder with the files that a bundle takes over."""
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(WORDS[:4])
    tokenizer.save(str(folder / "tokenizer.json"))
    artifacts.write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_input_names": list(IDS),
            "model_max_length": 16,
            "pad_token": "[PAD]",
            "name_or_path": "/home/somebody/secret",
        },
    )
    artifacts.write_json(
        folder / "config.json",
        {"model_type": "bert", "id2label": dict(enumerate(LABELS)), "_name_or_path": "/home/somebody/secret"},
    )
    return folder


def save_graph(path, weights, **changes):
    """A graph whose logits are the mean of the words' weights, `(words, labels) float32`."""
    tensors = [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.array([1]), "axis")]
    tensors.append(numpy_helper.from_array(np.array([2]), "last"))
    nodes = [
        helper.make_node("Gather", ["weights", "input_ids"], ["words"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["words", "mask3"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "axis"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "axis"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in IDS]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(LABELS)])]
    graph = helper.make_graph(nodes, "bag", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", changes.get("opset", 17))])
    model.ir_version = changes.get("ir_version", 8)
    onnx.save(model, path)
    return Graph(
        path=path.name,
        size_bytes=path.stat().st_size,
        opset=model.opset_import[0].version,
        ir_version=model.ir_version,
        inputs=tuple(TensorSpec(name, "int64", ("batch", "sequence")) for name in IDS),
        outputs=(TensorSpec("logits", "float32", ("batch", len(LABELS))),),
    )


@pytest.fixture
def tiny(tmp_path):
    """What a tiny bundle is made of: `tiny.write(folder, **changes)` makes one; see the attributes."""
    checkpoint = save_checkpoint(tmp_path / "made" / "checkpoint")
    graphs = tmp_path / "made" / "graphs"
    graphs.mkdir()
    weights = np.random.default_rng(7).normal(size=(len(WORDS), len(LABELS))).astype(np.float32)
    step = np.abs(weights).max() / 127
    fp32 = save_graph(graphs / "model.onnx", weights)
    int8 = save_graph(graphs / "model_int8.onnx", (np.round(weights / step) * step).astype(np.float32))
    variants = [
        (Variant("fp32", "fp32", fp32, metrics={"accuracy": 0.9}), graphs / "model.onnx"),
        (
            Variant("int8", "int8_dynamic", int8, test_metrics={"accuracy": 0.8}, chosen=True, reason="small"),
            graphs / "model_int8.onnx",
        ),
    ]

    def reference(tensors):
        mask = tensors["attention_mask"][..., None]
        return {"logits": ((weights[tensors["input_ids"]] * mask).sum(1) / mask.sum(1)).astype(np.float32)}

    def write(folder, **changes):
        arguments = {
            "name": "tiny",
            "checkpoint": checkpoint,
            "variants": variants,
            "task": "text_classification",
            "problem_type": "single_label_classification",
            "labels": LABELS,
            "open_run": lambda path: session_run(open_session(path, threads=1)),
            "provenance": bundle.Provenance(tledge="0.1.0", created="2026-11-21T12:00:00+00:00", rows={"train": 3}),
            "readme": "# A tiny model\n",
            "reference": reference,
        }
        return bundle.write(folder, **(arguments | changes))

    return SimpleNamespace(
        checkpoint=checkpoint,
        graphs=graphs,
        weights=weights,
        variants=variants,
        reference=reference,
        write=write,
        save_graph=save_graph,
    )


@pytest.fixture
def tiny_bundle(tiny, tmp_path):
    """The folder of a bundle with the variants fp32 and int8, of which int8 is chosen."""
    tiny.write(tmp_path / "bundle")
    return tmp_path / "bundle"


COLOURS = ("red", "green", "blue")
SIZE = 16


def save_image_graph(path, weights, *, dtype=TensorProto.FLOAT, shape=("batch", 3, SIZE, SIZE)):
    """A graph whose logits are products of the mean colour, `weights` is `(3, labels) float32`.

    Taking uint8 it wants channels last, and does the scaling and normalisation to -1 to 1 itself.
    """
    plain = dtype == TensorProto.FLOAT
    kernel = np.ascontiguousarray(weights.T)[..., None, None]
    tensors = [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(np.float32([127.5]), "half")]
    before = [
        helper.make_node("Cast", ["pixel_values"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["cast", "half"], ["doubled"]),
        helper.make_node("Sub", ["doubled", "one"], ["normal"]),
        helper.make_node("Transpose", ["normal"], ["first"], perm=[0, 3, 1, 2]),
    ]
    tensors.append(numpy_helper.from_array(np.float32([1]), "one"))
    nodes = [
        *([] if plain else before),
        helper.make_node("Conv", ["pixel_values" if plain else "first", "kernel"], ["maps"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["means"]),
        helper.make_node("Flatten", ["means"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info("pixel_values", dtype, list(shape))]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", weights.shape[1]])]
    model = helper.make_model(
        helper.make_graph(nodes, "colours", inputs, outputs, tensors), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    onnx.save(model, path)
    return Graph(
        path=path.name,
        size_bytes=path.stat().st_size,
        opset=17,
        ir_version=8,
        inputs=(TensorSpec("pixel_values", "float32" if plain else "uint8", tuple(shape)),),
        outputs=(TensorSpec("logits", "float32", ("batch", weights.shape[1])),),
    )


@pytest.fixture
def tiny_image(tmp_path):
    """What a tiny bundle of images is made of: `tiny_image.write(folder, **changes)` makes one.

    Its answer is the colour, red, green or blue, that an image has most of. `facts` are its preprocessing.
    """
    from tledge.inputs import image

    checkpoint = tmp_path / "made-image" / "checkpoint"
    graphs = tmp_path / "made-image" / "graphs"
    checkpoint.mkdir(parents=True)
    graphs.mkdir()
    facts = image.Facts((SIZE, SIZE), 20, "bilinear", (0.5,) * 3, (0.5,) * 3, crop_offset="round")
    image.write_config(checkpoint, facts)
    artifacts.write_json(checkpoint / "config.json", {"model_type": "resnet", "id2label": dict(enumerate(COLOURS))})
    weights = np.eye(3, dtype=np.float32) * 4
    fp32 = save_image_graph(graphs / "model.onnx", weights)
    int8 = save_image_graph(graphs / "model_int8.onnx", (weights * 1.01).astype(np.float32))
    variants = [
        (Variant("fp32", "fp32", fp32, metrics={"accuracy": 0.9}), graphs / "model.onnx"),
        (
            Variant("int8", "int8_static", int8, test_metrics={"accuracy": 0.8}, chosen=True, reason="small"),
            graphs / "model_int8.onnx",
        ),
    ]

    def write(folder, **changes):
        arguments = {
            "name": "tiny-image",
            "checkpoint": checkpoint,
            "variants": variants,
            "task": "image_classification",
            "problem_type": "single_label_classification",
            "labels": COLOURS,
            "open_run": lambda path: session_run(open_session(path, threads=1)),
            "provenance": bundle.Provenance(tledge="0.1.0", created="2026-11-21T12:00:00+00:00", rows={"train": 3}),
            "readme": "# A tiny model\n",
            "input_kind": "image",
            "reference": lambda tensors: {"logits": tensors["pixel_values"].mean((2, 3)) @ weights},
        }
        return bundle.write(folder, **(arguments | changes))

    return SimpleNamespace(
        checkpoint=checkpoint,
        graphs=graphs,
        weights=weights,
        variants=variants,
        facts=facts,
        write=write,
        save_graph=save_image_graph,
    )


@pytest.fixture
def tiny_image_bundle(tiny_image, tmp_path):
    """The folder of a bundle of images with the variants fp32 and int8, of which int8 is chosen."""
    tiny_image.write(tmp_path / "image-bundle")
    return tmp_path / "image-bundle"


@pytest.fixture
def photos(tmp_path):
    """A folder with `red.jpg`, `more/green.png` and `more/blue.png` of several sizes, and files that are no images."""
    from PIL import Image

    folder = tmp_path / "photos"
    (folder / "more" / ".hidden").mkdir(parents=True)
    Image.new("RGB", (40, 25), (220, 20, 20)).save(folder / "red.jpg")
    Image.new("RGB", (16, 16), (20, 220, 20)).save(folder / "more" / "green.png")
    Image.new("RGBA", (9, 31), (20, 20, 220, 255)).save(folder / "more" / "blue.png")
    Image.new("L", (8, 8)).save(folder / "more" / ".hidden" / "thumb.png")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory):
    """`pretrained("bert")` is the folder of a tiny random backbone of that family; see `families.py`."""
    import families

    made = {}

    def folder(family):
        if family not in made:
            made[family] = families.save(family, tmp_path_factory.mktemp(family) / "backbone")
        return made[family]

    return folder


@pytest.fixture(scope="session")
def exported(pretrained, tmp_path_factory):
    """`exported("bert")` is a classifier of that family with its graph: each family is exported once in a session."""
    import families

    from tledge import export

    made = {}

    def export_once(family):
        if family not in made:
            folder = tmp_path_factory.mktemp(f"{family}-graph")
            model, backbone = families.classifier(pretrained(family))
            encoder = families.encoder(model, backbone, folder / "tokenizer")
            sample = encoder.dummy(2, 8)
            sample["attention_mask"][0, -3:] = 0
            path = folder / "model.onnx"
            graph = export.export(model, sample, path, opset=20, external_data=False)
            made[family] = SimpleNamespace(model=model, encoder=encoder, path=path, graph=graph)
        return made[family]

    return export_once


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory):
    """The folder of a random, two-layer BERT."""
    folder = tmp_path_factory.mktemp("backbone") / "bert"
    tiny_project.save_backbone(folder)
    return folder


@pytest.fixture(scope="session")
def feature_cache(tmp_path_factory):
    """A cache of features for the session's runs, also in processes that they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLEDGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def project(tiny_backbone, feature_cache, tmp_path):
    """The recipe of a tiny project of one's own, not yet run."""
    return tiny_project.write_project(tmp_path / "project", tiny_backbone)


@pytest.fixture(scope="session")
def finished(tiny_backbone, feature_cache, tmp_path_factory):
    """A project with a finished run: the paths `recipe` and `run`, and what the process of `tledge run` said.

    It is shared, so copy it before you change it.
    """
    recipe = tiny_project.write_project(tmp_path_factory.mktemp("finished") / "project", tiny_backbone)
    process = tiny_project.tledge("run", "recipe.yaml", cwd=recipe.parent, code=0)
    return SimpleNamespace(recipe=recipe, run=recipe.parent / "runs" / "tiny", process=process)


@pytest.fixture
def run_copy(finished, tmp_path):
    """A copy of the finished run, to be changed; its recipe's paths still name the shared project."""
    return Path(shutil.copytree(finished.run, tmp_path / "run"))
