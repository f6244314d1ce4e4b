"""Tiny random detectors of transformers whose answers differ from image to image, for what needs no training."""

import torch
import transformers

from tledge.model.detectors.transformers import HOW, SetDetector

SIZE = (64, 96)
N_LABELS = 3
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1] * 4, "layer_type": "basic"}
TRANSFORMER = {
    "d_model": 16,
    "decoder_ffn_dim": 32,
    "encoder_ffn_dim": 32,
    "decoder_attention_heads": 2,
    "encoder_attention_heads": 2,
    "decoder_layers": 2,
    "num_queries": 10,
    "num_labels": N_LABELS,
}
PYRAMID = {
    "encoder_hidden_dim": 16,
    "encoder_in_channels": [8, 16, 16],
    "decoder_in_channels": [16] * 3,
    "num_denoising": 4,
}
HGNET = {
    "embedding_size": 8,
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1] * 4,
    "stem_channels": [3, 8, 8],
    "stage_in_channels": [8, 8, 8, 16],
    "stage_mid_channels": [8] * 4,
    "stage_out_channels": [8, 8, 16, 16],
    "stage_num_blocks": [1] * 4,
    "stage_numb_of_layers": [1] * 4,
}
STAGES = {"out_features": ["stage2", "stage3", "stage4"]}


def yolos():
    """Queries among the patches of a vision transformer."""
    return transformers.YolosConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=list(SIZE),
        patch_size=16,
        num_detection_tokens=10,
        num_labels=N_LABELS,
        use_mid_position_embeddings=False,
    )


def detr():
    """Queries that are learned, on one map of a ResNet."""
    body = transformers.ResNetConfig(**RESNET, out_features=["stage4"])
    return transformers.DetrConfig(backbone_config=body, encoder_layers=1, **TRANSFORMER)


def rt_detr_v2():
    """Queries that are chosen among places of three maps."""
    body = transformers.RTDetrResNetConfig(**RESNET, **STAGES)
    return transformers.RTDetrV2Config(backbone_config=body, **PYRAMID, **TRANSFORMER)


def d_fine():
    """The same, with sides of boxes as distributions."""
    body = transformers.HGNetV2Config(**HGNET, **STAGES)
    return transformers.DFineConfig(backbone_config=body, **PYRAMID, **TRANSFORMER)


def deim_v2():
    """The same again."""
    body = transformers.HGNetV2Config(**HGNET, **STAGES)
    return transformers.Deimv2Config(backbone_config=body, **PYRAMID, **TRANSFORMER)


FAMILIES = {each.__name__: each for each in (yolos, detr, rt_detr_v2, d_fine, deim_v2)}


def made(family):
    """A detector of a family, in eval mode; fresh layers give all places the same score, which is no answer."""
    torch.manual_seed(0)
    network = transformers.AutoModelForObjectDetection.from_config(FAMILIES[family]()).float()
    answering(network.eval())
    return SetDetector(network, size=SIZE, suppression=HOW).eval()


def answering(network, size=SIZE):
    """Random weights in place of those of fresh layers, and batch norms that keep what they see."""
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for module in network.modules():
            fan_in = module.weight[0].numel() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d) else 0
            if fan_in and (isinstance(module, torch.nn.Linear) or module.weight.std() < 0.5 * fan_in**-0.5):
                module.weight.normal_(std=fan_in**-0.5)
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        network(torch.randn(8, 3, *size))
    network.eval()
