"""What all tests share: one thread per library, reproducible property tests, and where the real data lies."""

import os

# Read when torch and the BLAS libraries load, hence before any of them is imported. Test networks are tiny: a second
# thread costs more than it brings, and sums come out the same on every machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent.parent

# No deadlines: a shared machine is slow at odd moments. CI draws the same examples each time.
settings.register_profile("default", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; the test is skipped where `EDGEPRESS_DATA` names none."""
    folder = os.environ.get("EDGEPRESS_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("EDGEPRESS_DATA does not name a folder with real data")
    return Path(folder)
