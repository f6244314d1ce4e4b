import json

import pytest
import torch
import transformers
from torchvision import models
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import clip_boxes_to_image

from tledge import model
from tledge.errors import ModelError
from tledge.model import detectors
from tledge.recipe.schema import Model

SIZE = [64, 96]
LABELS = ("a", "b")
TARGETS = torch.tensor([[[1, 20, 10, 60, 50, 0.0]], [[-1.0] * 6]])


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def made(**settings):
    return detectors.of_recipe(Model(input_size=SIZE, **settings), labels=LABELS, task="object_detection")


def yolos(folder):
    """A tiny detector of transformers in a folder, for three labels."""
    config = transformers.YolosConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=SIZE,
        num_detection_tokens=10, id2label={i: str(i) for i in range(3)}, label2id={str(i): i for i in range(3)},
    )  # fmt: skip
    transformers.YolosForObjectDetection(config).save_pretrained(folder)
    processor = {"size": {"height": 64, "width": 96}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return str(folder)


def check(detector, body, folder):
    """Learns, answers, and is the same after a reload."""
    pixels = detector.example(2)["pixel_values"]
    detector.train()
    parts = detector.losses(pixels, TARGETS)
    sum(parts.values()).backward()
    assert all(part.isfinite() for part in parts.values())
    n_parameters = sum(p.numel() for p in detector.parameters())
    assert n_parameters == sum(p.numel() for m in (detector.backbone, detector.classifier) for p in m.parameters())
    detector.eval()
    with torch.no_grad():
        assert detector.losses(pixels, TARGETS)
        found = detector(pixels)
    assert found["boxes"].shape == (2, detector.suppression.max_detections, 4)
    assert found["labels"].max() < len(LABELS)
    detector.save(folder, body)
    model.check_saved_detector(detector, folder, {"pixel_values": pixels.numpy()})
    assert model.load(folder).suppression == detector.suppression


@pytest.mark.parametrize(
    "name",
    [
        "ssdlite320_mobilenet_v3_large",
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in (
                "fasterrcnn_mobilenet_v3_large_320_fpn",
                "retinanet_resnet50_fpn",
                "fcos_resnet50_fpn",
            )
        ),
    ],
)
def test_a_detector_of_torchvision_learns_other_labels(name, tmp_path):
    check(*made(backbone=f"torchvision:{name}", weights="none"), tmp_path)


def test_weights_are_taken_but_for_the_layers_of_the_labels(tmp_path):
    network = models.get_model("ssdlite320_mobilenet_v3_large", weights=None, weights_backbone=None, num_classes=5)
    state = {name: each for name, each in network.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "coco.pth")
    detector, body = made(backbone="torchvision:ssdlite320_mobilenet_v3_large", weights=str(tmp_path / "coco.pth"))
    assert body.notes[0].startswith("new layers for the labels: head.classification_head.")
    own, theirs = detector.network.state_dict(), network.state_dict()
    assert all(torch.equal(own[name], theirs[name]) for name in state if "classification_head" not in name)
    with pytest.raises(ModelError, match="does not fit"):
        made(backbone="torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", weights=str(tmp_path / "coco.pth"))


@pytest.mark.parametrize(
    "name", ["ssdlite320_mobilenet_v3_large", pytest.param("retinanet_resnet50_fpn", marks=pytest.mark.slow)]
)
def test_boxes_are_those_of_torchvision(name):
    detector, _ = made(backbone=f"torchvision:{name}", weights="none")
    network = detector.network
    for parameter in network.head.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    pixels = detector.example(1)["pixel_values"]
    with torch.no_grad():
        maps = list(network.backbone(pixels).values())
        (anchors,) = network.anchor_generator(ImageList(pixels, [tuple(SIZE)]), maps)
        theirs = network.box_coder.decode_single(network.head(maps)["bbox_regression"][0], anchors)
        ours = detector.raw(pixels)["boxes"][0]
    assert torch.allclose(ours, clip_boxes_to_image(theirs, SIZE), atol=1e-3)


def test_a_detector_of_transformers_learns_other_labels(tmp_path):
    detector, body = made(backbone=yolos(tmp_path / "hub"))
    assert body.preprocessing.mean == (0.5, 0.5, 0.5)
    assert detector.suppression.iou_threshold is None
    check(detector, body, tmp_path / "saved")


def test_a_size_that_is_too_small_is_refused():
    with pytest.raises(ModelError, match="does not take images of 64 x 96 pixels"):
        made(backbone="torchvision:ssd300_vgg16", weights="none")


def test_what_is_no_detector_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no detector 'resnet18'"):
        made(backbone="torchvision:resnet18", weights="none")
    with pytest.raises(ModelError, match=r"set model\.detector"):
        made(backbone="timm:resnet18", weights="none")
    transformers.BertConfig(hidden_size=8, num_attention_heads=1, num_hidden_layers=1).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"bert.*no detector of transformers"):
        made(backbone=str(tmp_path))
