"""Stages that put edits and a training together: quantization-aware training."""
