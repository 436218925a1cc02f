"""The curves of a report: one line per stage, and per term of a loss that has several."""

from typing import Any

from edgepress.measure.charts import curves
from edgepress.measure.history import Run, Step
from edgepress.measure.summary import Metrics


def step(label: str, *terms: dict[str, Any]) -> Step:
    epochs = tuple({"event": "epoch", "epoch": n, "loss": 1.5 / n, "terms": each} for n, each in enumerate(terms, 1))
    return Step(label, "distill", "", None, "", "", "", False, {}, (), epochs)


def test_the_terms_of_a_loss_are_lines_of_their_own() -> None:
    steps = (step("alone", {"ce": 1.5}, {"ce": 0.75}), step("student", {"ce": 1.0, "kd": 0.5}, {"ce": 0.5, "kd": None}))
    found = curves(Run("r", {}, "", "", {}, steps), Metrics("", ""))
    values = found["weighted terms of the training loss"]["data"]["values"]
    assert [(v["stage"], v["epoch"], v["value"]) for v in values] == [
        ("student: ce", 1, 1.0), ("student: ce", 2, 0.5), ("student: kd", 1, 0.5),
    ]  # fmt: skip
    assert values[2]["about"] == "student: kd, epoch 1: 0.5"


def test_there_is_no_such_plot_where_every_loss_has_one_term() -> None:
    found = curves(Run("r", {}, "", "", {}, (step("alone", {"ce": 1.5}, {}),)), Metrics("", ""))
    assert list(found) == ["training loss"]
