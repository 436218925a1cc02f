"""Joules: counters of the machine where it has any, else an estimate that says so.

Readers take `root`, so that recorded trees of real boards can be read in tests. A counter (RAPL) is read before and
after; a sensor of power (INA3221, hwmon, battery, NVML) is sampled in between.
"""

import contextlib
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgepress.core.errors import EdgepressError

ROOT = Path("/")
EVERY = 0.02
"""Seconds between two samples of a sensor of power."""


class EnergyError(EdgepressError):
    """Why a reader gave no figure, in one line."""


@dataclass(frozen=True)
class Energy:
    """What `seconds` took: `joules`, from `source`; `estimate` where no counter or sensor saw it."""

    joules: float
    seconds: float
    source: str
    estimate: bool = False


class Reader(ABC):
    """A source of energy figures. `name` goes beside every figure."""

    name = ""

    @abstractmethod
    def reason(self) -> str | None:
        """Return None where this source can be read here, else why not, in one line."""

    @abstractmethod
    def measure(self, work: Callable[[], object]) -> Energy:
        """Do `work` and return what it took, the rest of the machine included. Raises `EnergyError`."""


class Rapl(Reader):
    """Intel's and AMD's counters of microjoules per processor package (powercap), which wrap around."""

    name = "RAPL"

    def __init__(self, root: Path = ROOT) -> None:
        self._zones = [
            zone
            for zone in sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
            # Packages (and the memory beside them), not their parts, which the package counts already, and not the
            # whole platform, which counts the package.
            if (zone.name.count(":") == 1 and _text(zone / "name") != "psys") or _text(zone / "name") == "dram"
        ]

    def reason(self) -> str | None:
        """Return None where every counter can be read; since 2020 that is for root alone, unless allowed."""
        if not self._zones:
            return "no RAPL counters (/sys/class/powercap/intel-rapl:*)"
        for zone in self._zones:
            try:
                int((zone / "energy_uj").read_text())
            except PermissionError:
                return f"no permission to read {zone / 'energy_uj'}: run as root, or `chmod a+r` it"
            except (OSError, ValueError):
                return f"{zone / 'energy_uj'} cannot be read"
        return None

    def measure(self, work: Callable[[], object]) -> Energy:
        """Do `work` and return the difference of the counters, of which each may have wrapped around once."""
        before, began = [self._read(zone) for zone in self._zones], time.perf_counter()
        work()
        seconds = time.perf_counter() - began
        total = 0
        for zone, first in zip(self._zones, before, strict=True):
            total += wrapped(first, self._read(zone), int(_text(zone / "max_energy_range_uj") or 2**32))
        return Energy(total / 1e6, seconds, self.name)

    def _read(self, zone: Path) -> int:
        with _read_or_told():
            return int((zone / "energy_uj").read_text())


def wrapped(before: int, after: int, most: int) -> int:
    """Return the distance from `before` to `after` of a counter that goes on at 0 behind `most`."""
    return after - before if after >= before else after - before + most + 1


class Power(Reader):
    """A sensor of power: `watts` is sampled while the work runs, and the mean is taken."""

    @abstractmethod
    def watts(self) -> float:
        """Return the power drawn now."""

    def measure(self, work: Callable[[], object]) -> Energy:
        """Do `work` and return mean power times seconds. Raises `EnergyError` where the sensor cannot be read."""
        samples, failed, over = list[float](), list[EnergyError](), threading.Event()

        def sample() -> None:
            try:
                with _read_or_told():
                    while True:
                        samples.append(self.watts())
                        if over.wait(EVERY):
                            return
            except EnergyError as error:
                failed.append(error)

        thread = threading.Thread(target=sample, daemon=True)
        began = time.perf_counter()
        thread.start()
        try:
            work()
        finally:
            seconds = time.perf_counter() - began
            over.set()
            thread.join()
        if failed:
            raise failed[0]
        return Energy(sum(samples) / len(samples) * seconds, seconds, self.name)


class Ina3221(Power):
    """The sensor of NVIDIA's Jetson boards: volts and amperes of up to three rails.

    The rail of the whole board (`VDD_IN`, `POM_5V_IN`) is taken where there is one, else the sum of all. Both layouts
    are known: hwmon (`in1_label`, millivolts, milliamperes) and the older iio (`rail_name_0`, milliwatts).
    """

    name = "INA3221"

    def __init__(self, root: Path = ROOT) -> None:
        self._rails: dict[str, tuple[Path, ...]] = {}
        for device in sorted((root / "sys/bus/i2c/drivers").glob("ina3221*/*-00*")):
            for label in sorted(device.glob("hwmon/hwmon*/in[1-3]_label")):
                number = label.name[2]
                both = label.parent / f"in{number}_input", label.parent / f"curr{number}_input"
                if all(path.exists() for path in both):
                    self._rails[_text(label)] = both
            for label in sorted(device.glob("iio:device*/rail_name_*")):
                power = label.parent / f"in_power{label.name[-1]}_input"
                if power.exists():
                    self._rails[_text(label)] = (power,)
        board = [rail for rail in self._rails if rail in ("VDD_IN", "POM_5V_IN")]
        self._rails = {rail: self._rails[rail] for rail in board or self._rails if not rail.startswith("sum of")}

    def reason(self) -> str | None:
        """Return None where a rail can be read."""
        if not self._rails:
            return "no INA3221 sensor (a Jetson board has one)"
        return _unreadable(self.watts)

    def watts(self) -> float:
        """Return the power of the board, or of all its rails."""
        total = 0.0
        for paths in self._rails.values():
            values = [int(path.read_text()) for path in paths]
            total += values[0] / 1e3 if len(values) == 1 else values[0] * values[1] / 1e6
        return total


class Hwmon(Power):
    """Sensors of power of any other chip: `power*_input` or `power*_average`, in microwatts."""

    name = "hwmon"

    def __init__(self, root: Path = ROOT) -> None:
        self._paths: list[Path] = []
        for device in sorted((root / "sys/class/hwmon").glob("hwmon*")):
            if _text(device / "name") in ("ina3221", "amdgpu", "i915", "xe", "nouveau"):
                continue  # rails have their own reader; a graphics card does not feed the processor
            if (device / "device/type").exists():
                continue  # a battery or a charger, which tells what goes in, too
            first = [*sorted(device.glob("power[0-9]*_input")), *sorted(device.glob("power[0-9]*_average"))]
            self._paths += first[:1]

    def reason(self) -> str | None:
        """Return None where a sensor can be read."""
        return _unreadable(self.watts) if self._paths else "no sensor of power below /sys/class/hwmon"

    def watts(self) -> float:
        """Return the power of all chips together."""
        return sum(int(path.read_text()) for path in self._paths) / 1e6


class Battery(Power):
    """What a battery gives while it discharges."""

    name = "battery"

    def __init__(self, root: Path = ROOT) -> None:
        supplies = sorted((root / "sys/class/power_supply").glob("*"))
        self._batteries = [supply for supply in supplies if _text(supply / "type") == "Battery"]

    def reason(self) -> str | None:
        """Return None where a battery discharges."""
        if not self._batteries:
            return "no battery"
        if not any(_text(battery / "status") == "Discharging" for battery in self._batteries):
            return "the battery does not discharge: unplug the machine to measure"
        return _unreadable(self.watts)

    def watts(self) -> float:
        """Return the power of all discharging batteries."""
        total = 0.0
        for battery in self._batteries:
            if _text(battery / "status") != "Discharging":
                continue
            if (battery / "power_now").exists():
                total += abs(int((battery / "power_now").read_text())) / 1e6
            else:
                volts, amperes = (int((battery / f"{what}_now").read_text()) for what in ("voltage", "current"))
                total += volts * abs(amperes) / 1e12
        return total


class Nvml(Power):
    """NVIDIA cards, by `nvidia-smi`. For engines that compute there."""

    name = "NVML"

    def __init__(self, command: tuple[str, ...] = ("nvidia-smi",)) -> None:
        self._command = [*command, "--query-gpu=power.draw", "--format=csv,noheader,nounits"]

    def reason(self) -> str | None:
        """Return None where the driver tells the power."""
        try:
            self.watts()
        except (OSError, ValueError, subprocess.SubprocessError):
            return "no NVIDIA card that tells its power (nvidia-smi)"
        return None

    def watts(self) -> float:
        """Return the power of all cards."""
        done = subprocess.run(self._command, capture_output=True, text=True, timeout=10, check=True)
        return sum(float(line) for line in done.stdout.split())


def readers(root: Path = ROOT, device: str = "cpu") -> list[Reader]:
    """Return the readers that see what a network on `device` draws, best first."""
    if device == "cuda":
        return [Ina3221(root), Nvml()]
    return [Rapl(root), Ina3221(root), Hwmon(root), Battery(root)]


def find(root: Path = ROOT, device: str = "cpu") -> tuple[Reader | None, list[str]]:
    """Return the best reader that works here, or None, and why the better ones do not."""
    reasons: list[str] = []
    for reader in readers(root, device):
        reason = reader.reason()
        if reason is None:
            return reader, reasons
        reasons.append(f"{reader.name}: {reason}")
    return None, reasons


def estimate(cpu_seconds: float, seconds: float, tdp: float, cores: int) -> Energy:
    """Return an estimate: the `cpu_seconds` of all threads times an equal share of the stated `tdp` for each core."""
    if tdp <= 0 or cores < 1:
        raise EdgepressError(f"a TDP must be above 0 watts and there is at least one core, got {tdp:g} W and {cores}")
    return Energy(cpu_seconds * tdp / cores, seconds, f"estimate from CPU time, {tdp:g} W TDP", estimate=True)


@contextlib.contextmanager
def _read_or_told() -> Iterator[None]:
    """Turn what reading a sensor may raise into an `EnergyError`."""
    try:
        yield
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise EnergyError(f"the sensor cannot be read: {error}") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _unreadable(watts: Callable[[], float]) -> str | None:
    try:
        watts()
    except PermissionError as error:
        return f"no permission to read {error.filename}"
    except (OSError, ValueError) as error:
        return f"cannot be read: {error}"
    return None
