"""Backbones, heads, what is frozen, and features of frozen backbones."""
