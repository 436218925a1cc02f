"""Energy readers on recorded trees: the layouts of real boards, built in a temporary folder."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepress.core.errors import EdgepressError
from edgepress.measure.energy import (
    Battery,
    EnergyError,
    Hwmon,
    Ina3221,
    Nvml,
    Power,
    Rapl,
    estimate,
    find,
    wrapped,
)


def tree(root: Path, files: dict[str, object]) -> Path:
    """Write `files`, paths below `root`, and return `root`."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def rapl(root: Path, energy: int = 262_143_000_000) -> Path:
    """A server of one package with its cores and memory, as Linux shows an Intel Xeon."""
    zone = "sys/class/powercap/intel-rapl:0"
    return tree(
        root,
        {
            f"{zone}/name": "package-0",
            f"{zone}/energy_uj": energy,
            f"{zone}/max_energy_range_uj": 262_143_328_850,
            "sys/class/powercap/intel-rapl:0:0/name": "core",
            "sys/class/powercap/intel-rapl:0:0/energy_uj": 5,
            "sys/class/powercap/intel-rapl:0:0/max_energy_range_uj": 262_143_328_850,
            "sys/class/powercap/intel-rapl:0:1/name": "dram",
            "sys/class/powercap/intel-rapl:0:1/energy_uj": 1_000_000,
            "sys/class/powercap/intel-rapl:0:1/max_energy_range_uj": 65_712_999_613,
        },
    )


def writes(path: Path, value: int) -> Callable[[], object]:
    """Return work during which a counter goes on to `value`."""
    return lambda: path.write_text(f"{value}\n")


def test_rapl_counts_packages_and_memory_across_the_wrap(tmp_path: Path) -> None:
    root = rapl(tmp_path)
    folder = root / "sys/class/powercap"

    def work() -> None:
        (folder / "intel-rapl:0/energy_uj").write_text("1671149\n")  # 328,851 to the end and over, 1,671,149 after
        (folder / "intel-rapl:0:0/energy_uj").write_text("900000000\n")  # the cores are in the package already
        (folder / "intel-rapl:0:1/energy_uj").write_text("1500000\n")

    found = Rapl(root).measure(work)
    assert found.joules == pytest.approx(2.0 + 0.5)
    assert (found.source, found.estimate) == ("RAPL", False)


def test_rapl_leaves_out_the_zone_of_the_whole_platform(tmp_path: Path) -> None:
    root, zone = rapl(tmp_path), "sys/class/powercap/intel-rapl:1"
    tree(root, {f"{zone}/name": "psys", f"{zone}/energy_uj": 0, f"{zone}/max_energy_range_uj": 262_143_328_850})
    work = writes(root / zone / "energy_uj", 9_000_000)
    assert Rapl(root).measure(work).joules == 0, "it counts what the package counts"


@given(st.integers(0, 2**40), st.integers(0, 2**40), st.integers(2**40, 2**45))
def test_a_wrapped_counter_has_moved_by_what_was_added(before: int, used: int, most: int) -> None:
    assert wrapped(before, (before + used) % (most + 1), most) == used


def test_rapl_without_permission_says_how_to_mend_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, plain = rapl(tmp_path), Path.read_text

    def refuse(path: Path, *more: str, **words: str) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path, *more, **words)

    monkeypatch.setattr(Path, "read_text", refuse)
    assert "no permission" in str(Rapl(root).reason()) and "chmod" in str(Rapl(root).reason())
    reader, reasons = find(root)
    assert reader is None and any("RAPL: no permission" in reason for reason in reasons)


ORIN = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"


def test_jetson_orin_takes_the_rail_of_the_whole_board(tmp_path: Path) -> None:
    """Jetson Orin Nano, L4T 35: three rails, the first of which feeds the others."""
    rails = {"1": ("VDD_IN", 4960, 1200), "2": ("VDD_CPU_GPU_CV", 4960, 400), "3": ("VDD_SOC", 4952, 300)}
    files = {f"{ORIN}/in{n}_label": label for n, (label, _, _) in rails.items()}
    files |= {f"{ORIN}/in{n}_input": str(mv) for n, (_, mv, _) in rails.items()}
    files |= {f"{ORIN}/curr{n}_input": str(ma) for n, (_, _, ma) in rails.items()}
    reader = Ina3221(tree(tmp_path, dict(files)))
    assert reader.reason() is None and reader.watts() == pytest.approx(4.960 * 1.2)
    found = reader.measure(lambda: None)
    assert found.joules == pytest.approx(4.960 * 1.2 * found.seconds)


def test_jetson_xavier_without_a_rail_of_the_board_sums_both_chips(tmp_path: Path) -> None:
    """Jetson AGX Xavier, L4T 32: two chips below iio, no VDD_IN."""
    folder, files = "sys/bus/i2c/drivers/ina3221x", dict[str, object]()
    for chip, rails in (("1-0040", ("GPU", "CPU", "SOC")), ("1-0041", ("CV", "VDDRQ", "SYS5V"))):
        for number, rail in enumerate(rails):
            files[f"{folder}/{chip}/iio:device{chip[-1]}/rail_name_{number}"] = rail
            files[f"{folder}/{chip}/iio:device{chip[-1]}/in_power{number}_input"] = 1000 + number
    assert Ina3221(tree(tmp_path, files)).watts() == pytest.approx(6.006)


def test_jetson_nano_names_its_board_rail_otherwise(tmp_path: Path) -> None:
    folder = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    files = {f"{folder}/rail_name_0": "POM_5V_IN", f"{folder}/in_power0_input": 2500}
    files |= {f"{folder}/rail_name_1": "POM_5V_GPU", f"{folder}/in_power1_input": 900}
    assert Ina3221(tree(tmp_path, dict(files))).watts() == 2.5


def test_hwmon_takes_one_sensor_of_a_chip_and_no_graphics_card(tmp_path: Path) -> None:
    files = {"sys/class/hwmon/hwmon0/name": "coretemp", "sys/class/hwmon/hwmon1/name": "amdgpu"}
    files |= {"sys/class/hwmon/hwmon1/power1_average": 30_000_000, "sys/class/hwmon/hwmon2/name": "ina226"}
    files |= {"sys/class/hwmon/hwmon2/power1_input": 7_250_000, "sys/class/hwmon/hwmon2/power1_average": 7_000_000}
    assert Hwmon(tree(tmp_path, dict(files))).watts() == 7.25
    assert "no sensor" in str(Hwmon(tmp_path / "nothing").reason())


def test_hwmon_leaves_out_what_a_battery_is_charged_with(tmp_path: Path) -> None:
    files = {"sys/class/hwmon/hwmon4/name": "BAT0", "sys/class/hwmon/hwmon4/power1_input": 20_000_000}
    files |= {"sys/class/hwmon/hwmon4/device/type": "Battery"}
    assert "no sensor" in str(Hwmon(tree(tmp_path, dict(files))).reason())


class Failing(Power):
    """A sensor that works once, or draws 5 W for ever."""

    name = "sensor"

    def __init__(self, fails: bool) -> None:
        self.asked, self._fails = 0, fails

    def reason(self) -> None:
        """It works, at first."""

    def watts(self) -> float:
        """Return 5, or fail from the second time on."""
        self.asked += 1
        if self._fails and self.asked > 1:
            raise OSError(5, "Input/output error")
        return 5.0


def test_a_sensor_is_sampled_during_the_work_and_may_fail() -> None:
    steady = Failing(fails=False)
    found = steady.measure(lambda: time.sleep(0.1))
    assert found.joules == pytest.approx(5 * found.seconds) and 3 <= steady.asked <= 7
    with pytest.raises(EnergyError, match=r"cannot be read: .*Input/output"):
        Failing(fails=True).measure(lambda: time.sleep(0.1))


@pytest.mark.parametrize("layout", ["power", "current"])
def test_a_battery_tells_only_while_it_discharges(tmp_path: Path, layout: str) -> None:
    folder = "sys/class/power_supply/BAT0"
    files: dict[str, object] = {f"{folder}/type": "Battery", f"{folder}/status": "Discharging"}
    if layout == "power":
        files[f"{folder}/power_now"] = 6_000_000
    else:  # some drivers count the current of a discharge as negative
        files |= {f"{folder}/voltage_now": 12_000_000, f"{folder}/current_now": -500_000}
    root = tree(tmp_path, {**files, "sys/class/power_supply/AC/type": "Mains"})
    assert Battery(root).reason() is None and Battery(root).watts() == pytest.approx(6.0)
    (root / folder / "status").write_text("Charging\n")
    assert "unplug" in str(Battery(root).reason())


def test_nvml_reads_what_the_driver_prints(tmp_path: Path) -> None:
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\necho 41.50\necho 8.25\n")
    script.chmod(0o755)
    assert Nvml((str(script),)).reason() is None and Nvml((str(script),)).watts() == 49.75
    assert "no NVIDIA card" in str(Nvml((str(tmp_path / "absent"),)).reason())


def test_the_best_reader_is_found_and_the_reasons_against_the_others(tmp_path: Path) -> None:
    reader, reasons = find(tmp_path)
    assert reader is None and len(reasons) == 4
    assert find(rapl(tmp_path))[0].name == "RAPL"  # type: ignore[union-attr]


def test_an_estimate_says_so() -> None:
    found = estimate(cpu_seconds=0.5, seconds=0.25, tdp=15, cores=4)
    assert found.joules == pytest.approx(0.5 * 15 / 4) and found.estimate and "15 W TDP" in found.source
    with pytest.raises(EdgepressError, match="above 0 watts"):
        estimate(1, 1, 0, 4)
