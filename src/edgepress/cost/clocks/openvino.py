"""Times on OpenVINO's CPU plugin."""

from edgepress.core.artifact import Program
from edgepress.core.errors import MissingExtraError
from edgepress.cost.clocks.base import Clock, LayerFile, clocks, faster_half, repeated
from edgepress.runtime.openvino_engine import plugin_options

_OUTSIDE = ("Reorder", "Parameter", "Input", "Result", "Output", "Constant", "Const")
"""Operations at the edges of a file of one layer, which a layer within a network does not have."""


@clocks.register("openvino")
class OpenVinoClock(Clock):
    """A kernel's time is what the plugin counts for its operation."""

    def program(self, program: Program) -> Program:
        """Return the file as OpenVINO's. Raises `MissingExtraError` where OpenVINO is absent."""
        from edgepress.export.openvino import to_openvino

        return to_openvino(program)

    def kernel_ms(self, layer: LayerFile, threads: int) -> float:
        """Return the milliseconds of the operations of `layer`. Raises `MissingExtraError`."""
        try:
            import openvino
        except ImportError:
            raise MissingExtraError("timing layers on OpenVINO", "openvino") from None
        core = openvino.Core()
        options = plugin_options(threads, profile=True)
        request = core.compile_model(core.read_model(layer.data), "CPU", options).create_infer_request()
        times: list[float] = []

        def run() -> None:
            request.infer({0: layer.images}, share_inputs=True)
            found = [info for info in request.get_profiling_info() if info.node_type not in _OUTSIDE]
            times.append(sum(info.real_time.total_seconds() for info in found) * 1e6)

        repeated(run)
        return faster_half(times) / 1e3
