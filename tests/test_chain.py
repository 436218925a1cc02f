"""The whole chain on two tasks: one label an image and class maps pass through the same stages, gate and measures."""

import pytest

import edgepress
from edgepress.measure.base import Quiet
from edgepress.measure.report import write_report
from edgepress.recipes.recipe import parse_recipe
from edgepress.recipes.runner import Result, run

CHAINS = {
    "classification": (
        {"synthetic": {"size": 16, "train": 400, "val": 80, "test": 80}},
        {"model": "cifar_resnet8", "arguments": {"width": 8}, "batch": 16, "lr": 0.05},
        ("top1", 50),  # a guess among four classes: 25
    ),
    "segmentation": (
        {"shapes": {"size": 32, "train": 200, "val": 40, "test": 40}},
        {"model": "unet", "arguments": {"width": 8, "depth": 2}, "batch": 8, "lr": 0.1},
        ("miou", 30),  # background everywhere: at most 25
    ),
}


@pytest.fixture(scope="module", params=list(CHAINS))
def chain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Result]:
    """Teacher, student, FP32 file, INT8 file of one task, measured."""
    data, network, _ = CHAINS[request.param]
    common = {"augment": {"pad": 1}, "precision": "fp32", **network}
    recipe = {
        "name": request.param,
        "data": data,
        "stages": [
            {"train": {"name": "teacher", "epochs": 5, **common}},
            {"distill": {"name": "student", "epochs": 5, "teacher": "$teacher", "views": 2, **common}},
            {"export": {"name": "fp32", "to": "onnx"}},
            {"quantize": {"name": "quantized", "input": "student", "calibrate": 64}},
            {"export": {"name": "int8", "to": "onnx"}},
        ],
        "measure": ["quality", "agreement", "size"],
    }
    return request.param, run(parse_recipe(recipe), tmp_path_factory.mktemp("runs"), Quiet())


def value(result: Result, artifact: str, metric: str) -> float:
    [found] = [row.value for row in result.rows if (row.artifact, row.metric) == (artifact, metric)]
    return found


def test_it_learns_and_the_files_are_as_good(chain: tuple[str, Result]) -> None:
    task, result = chain
    score, floor = CHAINS[task][2]
    assert value(result, "student", score) > floor
    assert value(result, "fp32", score) == pytest.approx(value(result, "student", score), abs=0.05)
    assert value(result, "int8", score) == pytest.approx(value(result, "student", score), abs=3)
    assert value(result, "int8", "agreement_parent") >= 99


def test_the_integer_file_is_smaller(chain: tuple[str, Result]) -> None:
    _, result = chain
    assert value(result, "int8", "bytes") < 0.6 * value(result, "fp32", "bytes")


def test_the_bundle_answers_in_the_words_of_its_task(chain: tuple[str, Result]) -> None:
    import numpy as np

    task, result = chain
    net = edgepress.load(result.shelves["int8"].folder / "bundle")
    answer = net(np.full((40, 50, 3), 128, np.uint8))
    if task == "classification":
        assert answer.label in net.signature.labels and 0 <= answer.score <= 1
    else:
        assert answer.classes.shape == (40, 50)


def test_the_report_is_written_for_both(chain: tuple[str, Result]) -> None:
    text = write_report(chain[1].folder).read_text()
    assert all(label in text for label in chain[1].shelves)
