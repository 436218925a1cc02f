import pytest


@pytest.fixture(autouse=True)
def quick_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny networks need no two seconds of measuring."""
    monkeypatch.setattr("edgepress.train.precision.SECONDS", 0.01)
