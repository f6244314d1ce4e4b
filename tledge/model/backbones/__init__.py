"""Pretrained bodies, one file a family."""
