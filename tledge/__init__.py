"""Fine-tune a pretrained model, ship it as a small ONNX bundle, and keep the evidence that it is good enough."""

__version__ = "0.1.0"
