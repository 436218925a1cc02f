import pytest

from edgepress.core import errors
from edgepress.core.errors import ConfigError, EdgepressError, UnknownNameError, suggest


def test_suggest_names_the_nearest():
    assert suggest("resnt8", ["resnet8", "vgg11"]) == "; did you mean 'resnet8'?"


def test_suggest_lists_few_and_counts_many():
    assert suggest("zzz", ["b", "a"]) == "; allowed: a, b"
    assert suggest("zzz", [f"name{k:02}" for k in range(20)], most=3) == "; allowed: name00, name01, name02 and 17 more"
    assert suggest("zzz", []) == "; there are none here"


def test_config_error_keeps_every_problem():
    error = ConfigError(["first", "second"])
    assert error.problems == ["first", "second"]
    assert str(error) == "first\nsecond"
    assert ConfigError("one").problems == ["one"]


def test_unknown_name_says_what_was_given():
    error = UnknownNameError("model", "vgg12", ["vgg11", "vgg16"])
    assert str(error).startswith("unknown model 'vgg12'; did you mean 'vgg1")


def test_exit_codes_tell_the_classes_apart():
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, EdgepressError)]
    codes = [c.exit_code for c in classes if c is not UnknownNameError]  # a kind of ConfigError
    assert len(codes) == len(set(codes)) and all(0 < code < 64 for code in codes)
    assert UnknownNameError.exit_code == ConfigError.exit_code


@pytest.mark.parametrize("extra", ["train", "deploy"])
def test_missing_extra_gives_the_command(extra):
    assert f"pip install 'edgepress[{extra}]'" in str(errors.MissingExtraError("this", extra))
