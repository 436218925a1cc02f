"""The state of an interrupted stage on disk: written whole, read without running code."""

import io
from pathlib import Path
from typing import Any

import torch

from edgepress.core.files import write_bytes


class FileCheckpoint:
    """A `core.stage.Checkpoint` in one file of tensors and plain values."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> dict[str, Any] | None:
        """Return the saved state, or None where there is none."""
        if not self.path.exists():
            return None
        return torch.load(self.path, map_location="cpu", weights_only=True)

    def save(self, state: dict[str, Any]) -> None:
        """Replace the saved state atomically."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_bytes(self.path, buffer.getvalue())


class NoCheckpoint:
    """A `core.stage.Checkpoint` for code that keeps nothing: every start is a fresh one."""

    def load(self) -> dict[str, Any] | None:
        """Return None."""
        return None

    def save(self, state: dict[str, Any]) -> None:
        """Keep nothing."""
