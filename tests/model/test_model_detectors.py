import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from tledge import losses, model, plugins, tasks, train
from tledge.batches import Augment
from tledge.batches.boxes import mosaic, moved
from tledge.errors import ModelError
from tledge.inputs.boxed_image import BoxedImageInput
from tledge.model import detectors
from tledge.model.detectors._targets import UNSURE, Truth, by_overlap
from tledge.progress import silent
from tledge.recipe.schema import Augmentation, Finetune, Head, Model
from tledge.stages.heads.detector import scored

SIZE = (64, 96)
LABELS = ("square", "bar")
KINDS = ("fcos", "retinanet", "ssdlite", "faster_rcnn")


def drawn(count, seed, *, height=128, width=192):
    """Pictures with a red square or a blue bar or both or nothing, and their boxes."""
    rng = np.random.default_rng(seed)
    images, rows = [], []
    for i in range(count):
        image = Image.fromarray(rng.integers(90, 130, (height, width, 3), dtype=np.uint8))
        draw, boxes = ImageDraw.Draw(image), []
        for label, (w, h), colour in ((0, (44, 44), "red"), (1, (72, 28), "blue"))[(i % 4 == 1) : 2 - (i % 4 == 2)]:
            if i % 8 == 7:
                continue
            x, y = int(rng.integers(0, width - w)), label * height // 2 + int(rng.integers(0, height // 2 - h))
            draw.rectangle((x, y, x + w - 1, y + h - 1), fill=colour)
            boxes += [label, x, y, x + w, y + h, 0]
        images.append(np.asarray(image))
        rows.append(boxes)
    return model.Rows(images, tasks.load("object_detection").targets(rows, len(LABELS)))


def made(kind, *, backbone="torchvision:shufflenet_v2_x0_5", **settings):
    torch.manual_seed(0)
    chosen = Model(
        backbone=backbone, weights="none", detector=kind, input_size=list(SIZE), head=Head(hidden_size=32), **settings
    )
    detector, body = detectors.of_recipe(chosen, labels=LABELS, task="object_detection")
    encoder = BoxedImageInput(body.preprocessing)
    model.update_batch_norms(detector.backbone, [encoder.encode(drawn(8, 0).values)])
    return detector, body, encoder


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.mark.parametrize("kind", KINDS)
def test_gives_padded_detections_and_losses_that_move_every_own_weight(kind):
    detector, _, encoder = made(kind)
    pixels = torch.from_numpy(encoder.encode(drawn(4, 1).values)["pixel_values"])
    found = detector(pixels)
    most = detector.suppression.max_detections
    assert {name: tuple(each.shape) for name, each in found.items()} == {
        "boxes": (4, most, 4),
        "scores": (4, most),
        "labels": (4, most),
    }
    empty = found["labels"] < 0
    assert (found["scores"][empty] == 0).all()
    assert (found["scores"].diff(dim=1) <= 0).all()
    targets = torch.full((4, 2, 6), -1.0)
    targets[0, 0] = torch.tensor([1, 10, 10, 50, 30, 0.0])
    targets[1, :] = torch.tensor([[0, 0, 0, 20, 20, 0.0], [1, 30, 20, 90, 60, 1.0]])
    detector.train()
    parts = detector.losses(pixels, targets)
    assert all(part.isfinite() for part in parts.values())
    sum(parts.values()).backward()
    still = [name for name, each in detector.classifier.named_parameters() if each.grad is None]
    assert not still
    detector.eval()
    assert detector.losses(pixels, torch.full((4, 1, 6), -1.0)) is not None  # pictures of nothing


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_answers_as_the_model_that_it_was_saved_from(kind, tmp_path):
    detector, body, encoder = made(kind)
    detector.save(tmp_path, body)
    sample = encoder.encode(drawn(2, 1).values)
    model.check_saved_detector(detector, tmp_path, sample)
    again, pixels = model.load(tmp_path), torch.from_numpy(sample["pixel_values"])
    for name, each in detector.answers(pixels).items():
        assert torch.equal(each, again.answers(pixels)[name])
    assert BoxedImageInput.load(tmp_path).suppression == detector.suppression == again.suppression


def test_levels_have_batch_norms_of_their_own_which_fold_into_convolutions():
    detector, _, encoder = made("fcos")
    pixels = torch.from_numpy(encoder.encode(drawn(4, 1).values)["pixel_values"])
    with torch.no_grad():
        detector.train().losses(pixels, torch.full((4, 1, 6), -1.0))
    detector.eval()
    norms = detector.classifier["head"].towers.labels[0].norms
    assert len(norms) == len(detector.classifier["pyramid"].levels)
    assert not torch.allclose(norms[0].running_mean, norms[1].running_mean)
    plain = detectors.folded(detector)
    assert not [m for m in plain.classifier["head"].modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for name, each in detector.raw(pixels).items():
        assert torch.allclose(each, plain.raw(pixels)[name], atol=1e-3)


@pytest.mark.parametrize(
    ("backbone", "names"),
    [
        ("torchvision:resnet18", ["layer2.1", "layer3.1", "layer4.1"]),
        ("torchvision:mobilenet_v2", ["features.6", "features.13", "features.17"]),
        ("timm:tf_efficientnet_lite0", ["blocks.2.1", "blocks.4.2", "blocks.6.0"]),
    ],
)
def test_takes_the_last_map_of_each_stride(backbone, names):
    detector, _, _ = made("fcos", backbone=backbone)
    assert [each.name for each in detector.maps] == names
    assert [each.stride for each in detector.maps] == [8, 16, 32]


def test_a_network_without_maps_is_refused():
    with pytest.raises(ModelError, match="gives no feature maps of an eighth or a sixteenth"):
        made("fcos", backbone="torchvision:swin_t")


def test_batch_norms_of_a_pretrained_body_keep_their_statistics():
    detector, _, encoder = made("fcos")
    pixels = torch.from_numpy(encoder.encode(drawn(4, 1).values)["pixel_values"])
    detector.train_norms = False
    before = {name: each.clone() for name, each in detector.backbone.named_buffers()}
    detector.train().losses(pixels, torch.full((4, 1, 6), -1.0))
    assert all(torch.equal(each, before[name]) for name, each in detector.backbone.named_buffers())


def test_an_ignored_box_is_neither_right_nor_wrong():
    anchors = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [50, 50, 60, 60]])
    truth = Truth.of(torch.tensor([[1, 0, 0, 10, 9, 0.0], [0, 18, 0, 32, 12, 1.0], [-1.0] * 6]))
    assert by_overlap(anchors, truth, high=0.5, low=0.4).tolist() == [0, UNSURE, -1]


@pytest.mark.parametrize("changes", [{"flip": "both"}, {"flip": "both", "min_scale": 0.3}, {"rotation_degrees": 8.0}])
def test_boxes_move_with_what_they_are_around(changes):
    height, width = 80, 120
    for seed in range(6):
        image = np.zeros((height, width, 3), np.uint8)
        image[30:50, 40:70] = 255
        augment = Augment(Augmentation(**changes))
        sides = np.array([[height, width]])
        draw = augment.draw([(seed,)], sides, np.full_like(sides, 10_000), (height, width))
        changed = augment(torch.from_numpy(image)[None], draw, (height, width))[0, 0].numpy() > 127
        target = moved(torch.tensor([[[0, 40, 30, 70, 50, 0.0]]]), draw, (height, width), (height, width))[0, 0]
        if target[0] < 0 or target[5]:
            continue
        y, x = np.nonzero(changed)
        seen = [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert np.abs(target[1:5].numpy() - seen).max() < 2.5


def test_four_images_become_one_with_all_their_boxes():
    images = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 20, 30, 3) * 60
    targets = torch.full((4, 2, 6), -1.0)
    targets[:, 0] = torch.tensor([0, 6, 4, 18, 16, 0.0])
    together, boxes = mosaic(images, targets)
    assert together.shape == (1, 20, 30, 3)
    assert [int(together[0, y, x, 0]) for y, x in ((2, 2), (2, 20), (15, 2), (15, 20))] == [0, 60, 120, 180]
    assert boxes[0][boxes[0, :, 0] >= 0, 1:5].tolist() == [
        [3, 2, 9, 8], [18, 2, 24, 8], [3, 12, 9, 18], [18, 12, 24, 18]
    ]  # fmt: skip


def test_mosaics_end_before_training_does_and_batches_follow_from_the_seed():
    rows = drawn(8, 1)
    settings = Finetune(augmentation=Augmentation(mosaic=1.0, epochs_without_mosaic=2, min_scale=0.5))
    _, _, encoder = made("fcos")
    columns = model.boxed(rows.values, rows.targets, encoder, settings)
    assert columns.at(2.5).mosaic == 1.0
    assert columns.at(2.0).mosaic == 0.0
    batches = [columns.batch([0, 1, 2], seed) for seed in (1, 1, 2)]
    assert all(torch.equal(batches[0][name], batches[1][name]) for name in batches[0])
    assert not torch.equal(batches[0]["pixel_values"], batches[2]["pixel_values"])
    assert batches[0]["pixel_values"].shape == (3, 3, *SIZE)
    plain = model.boxed(rows.values, rows.targets, encoder, settings, changed=False).batch([0, 1])
    assert torch.equal(plain["pixel_values"], torch.from_numpy(encoder.encode(rows.values[:2])["pixel_values"]))
    assert torch.allclose(plain["targets"][0, 0, 1:5], torch.from_numpy(rows.targets[0, 0, 1:5]) / 2)


def test_a_contact_sheet_shows_boxes():
    rows = drawn(2, 1)
    settings = Finetune(augmentation=Augmentation(flip="horizontal", min_scale=0.5))
    _, _, encoder = made("fcos")
    sheet = model.boxed_sheet(model.boxed(rows.values, rows.targets, encoder, settings), [0, 1], n=2)
    assert sheet.size == (3 * (SIZE[1] + 4) - 4, 2 * (SIZE[0] + 4) - 4)


def fitted(detector, encoder, tmp_path, *, rows, epochs, **settings):
    """Trains a detector as a recipe does; what each phase gave."""
    chosen = Finetune(
        **{"strategy": "full", "epochs": epochs, "batch_size": 8, "report_to": [], "learning_rate": 2e-3} | settings
    )
    validation = drawn(8, 2)

    def score(outputs, _labels):
        return scored(
            outputs[model.DETECTIONS], validation.targets, task=tasks.load("object_detection"), encoder=encoder,
            values=validation.values,
        )  # fmt: skip

    found = []
    for phase in model.phases(
        detector, encoder, rows, validation, chosen, cache=tmp_path / "cache", progress=silent, seed=0
    ):
        found.append(
            train.fit(
                model.Learner(phase.module),
                train.Sets(phase.train, phase.validation),
                train.detecting(
                    plugins.load(f"{losses.__name__}.detectors", "detection").loss, output=model.DETECTIONS
                ),
                train.Scoring(score, "map_50", False, output=model.DETECTIONS),
                train.Plan(phase.name, phase.note, tmp_path / phase.name, phase.groups, phase.epochs, 0),
                chosen,
                progress=silent,
            )
        )
    return found


@pytest.mark.parametrize("strategy", ["probe", "partial"])
def test_trains_a_phase_of_each_strategy(strategy, tmp_path):
    detector, _, encoder = made("fcos")
    settings = {"freeze": 2} if strategy == "partial" else {}
    (found,) = fitted(detector, encoder, tmp_path, rows=drawn(16, 1), epochs=1, strategy=strategy, **settings)
    assert found.steps == 2
    assert found.phase == strategy


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_learns_to_find_what_is_drawn(kind, tmp_path):
    detector, body, encoder = made(kind)
    changes = Augmentation(flip="horizontal", min_scale=0.7)
    (found,) = fitted(detector, encoder, tmp_path, rows=drawn(64, 1), epochs=30, augmentation=changes)
    assert found.best_metric > 0.6
    detector.save(tmp_path / "checkpoint", body)
    model.check_saved_detector(detector, tmp_path / "checkpoint", encoder.encode(drawn(2, 3).values))


def test_a_preprocessing_keeps_the_whole_image():
    for fit in ("stretch", "letterbox", "pad"):
        _, body, encoder = made("fcos", fit=fit)
        assert body.preprocessing.whole_fit().mode == fit
        assert encoder.encode([np.zeros((100, 60, 3), np.uint8)])["pixel_values"].shape == (1, 3, *SIZE)
