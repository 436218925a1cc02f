import sys

import pytest

from edgepress.core.errors import UnknownNameError
from edgepress.core.registry import Registry


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package whose modules count their imports and register one function each."""
    folder = tmp_path / "sample_rooms"
    folder.mkdir()
    (folder / "__init__.py").write_text("from edgepress.core.registry import Registry\nimported = []\n")
    for name in ("one", "two"):
        (folder / f"{name}.py").write_text(f"import sample_rooms\nsample_rooms.imported.append('{name}')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "sample_rooms"]:
        del sys.modules[name]


def test_modules_are_imported_at_the_first_look_up_and_once(package):
    registry = Registry("thing", ("sample_rooms",))
    assert "sample_rooms" not in sys.modules
    assert list(registry) == []
    assert "x" not in registry
    assert sorted(sys.modules["sample_rooms"].imported) == ["one", "two"]


def test_register_get_and_names():
    registry = Registry("thing", ())

    @registry.register("beta")
    def beta(): ...

    registry.register("alpha")(print)
    assert registry.get("beta") is beta
    assert registry.name_of(print) == "alpha"
    assert list(registry) == ["alpha", "beta"]
    assert "beta" in registry and "gamma" not in registry


def test_unknown_name_is_explained():
    registry = Registry("thing", ())
    registry.register("resnet8")(print)
    with pytest.raises(UnknownNameError, match="unknown thing 'resnet9'; did you mean 'resnet8'"):
        registry.get("resnet9")


def test_a_name_is_taken_once():
    registry = Registry("thing", ())
    registry.register("a")(print)
    registry.register("a")(print)  # the same object: a module imported again
    with pytest.raises(ValueError, match="two things are named 'a'"):
        registry.register("a")(len)
