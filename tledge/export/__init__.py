"""A checkpoint to an ONNX graph, and the proof that both compute the same."""
