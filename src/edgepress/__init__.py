"""edgepress: make neural networks small and fast for edge devices, and prove it on the exported file.

Importing this package never imports torch: it is what goes onto the device.
"""

from typing import TYPE_CHECKING, Any

from edgepress.core.errors import EdgepressError

if TYPE_CHECKING:
    from edgepress.runtime import load

__all__ = ["EdgepressError", "__version__", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # `edgepress.load` is found when asked for: the command line starts faster without numpy and the manifest's schema.
    if name == "load":
        from edgepress.runtime import load

        return load
    raise AttributeError(f"module 'edgepress' has no attribute {name!r}")
