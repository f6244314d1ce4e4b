"""One scorer of language models for torch, ONNX and the device: how likely a text is to a model."""
