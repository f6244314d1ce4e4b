"""A detector of two stages and a few layers in torch, whose answers differ from image to image."""

import torch
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign

from tledge.inputs._suppression import Suppression
from tledge.model.detectors._two_stage import TwoStage

SIZE = (48, 64)
LABELS = 3
WIDTH = 16
PROPOSALS = Suppression(score_threshold=0.0, iou_threshold=0.3, max_detections=60, per_image=60)


def layer(inputs, outputs, stride=1):
    """A convolution, a batch norm and ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU())


class TinyTwoStage(TwoStage):
    """Three boxes at each place of maps of stride 8 and 16."""

    def __init__(self, suppression=None, proposals=PROPOSALS):
        super().__init__(SIZE, suppression or Suppression(), train_norms=True)
        torch.manual_seed(0)
        self.proposal_suppression = proposals
        self.backbone = nn.Sequential(layer(3, 8, 2), layer(8, WIDTH, 2), layer(WIDTH, WIDTH, 2))
        generator = AnchorGenerator(((16,), (32,)), ((0.5, 1.0, 2.0),) * 2)
        counts = [dict.fromkeys(("training", "testing"), n) for n in (60, 60)]
        self.classifier = nn.ModuleDict(
            {
                "coarse": layer(WIDTH, WIDTH, 2),
                "rpn": RegionProposalNetwork(generator, RPNHead(WIDTH, 3), 0.7, 0.3, 64, 0.5, *counts, 0.7),
                "roi_heads": RoIHeads(
                    MultiScaleRoIAlign(["0", "1"], 3, 2), TwoMLPHead(WIDTH * 9, 32), FastRCNNPredictor(32, LABELS + 1),
                    0.5, 0.5, 64, 0.25, None, 0.05, 0.5, 100,
                ),
            }
        )  # fmt: skip
        self.rpn, self.roi_heads = self.classifier["rpn"], self.classifier["roi_heads"]
        predictor = self.roi_heads.box_predictor
        for last, std in ((self.rpn.head.cls_logits, 0.5), (self.rpn.head.bbox_pred, 0.1), (predictor.cls_score, 2.0)):
            nn.init.normal_(last.weight, std=std)
        self.train()
        with torch.no_grad():
            for _ in range(20):
                self.maps_of_image(torch.randn(4, 3, *SIZE))
        self.eval()

    def maps_of_image(self, pixel_values):
        """Both maps."""
        fine = self.backbone(pixel_values)
        return [fine, self.classifier["coarse"](fine)]
