"""The ladder climbs only as far as it must, and says what each rung brought."""

from typing import Any

import numpy as np
import pytest

from edgepress.core.artifact import Model
from edgepress.core.errors import DataError, ParityError
from edgepress.models.predictor import TorchPredictor
from edgepress.quantize.config import Budget, QuantizeConfig
from edgepress.quantize.judge import FileJudge
from edgepress.quantize.ladder import climb
from edgepress.quantize.stages import Quantize
from quantize.nets import images, make

NAMES = [
    "nearest codes, min-max ranges",
    "ranges by mse",
    "bias correction",
    "cross-layer equalization",
    "learned rounding",
]


class Scores:
    """A judge that gives these scores, one after the other; None for a file that disagrees."""

    def __init__(self, *scores: float | None) -> None:
        self.scores = list(scores)
        self.judged: list[dict[str, Any]] = []

    def __call__(self, model: Model) -> float:
        score = self.scores.pop(0)
        self.judged.append(dict(model.edits[-1]) if model.edits else {})
        if score is None:
            raise ParityError("they differ")
        return score


def test_it_stops_at_the_first_rung_that_reaches_the_target() -> None:
    judge, said = Scores(90, 85, 89.2, 89.6), []
    result = climb(make("Residual"), images(8), QuantizeConfig(weights=4), judge, 0.5, said.append, "top1")
    assert result.reached and result.score == 89.6 and [r.name for r in result.rungs] == NAMES[:3]
    assert [round(r.gained, 1) for r in result.rungs] == [0, 4.2, 0.4]
    assert result.model.edits[-1]["ladder"]["rungs"][2]["score"] == 89.6
    assert all(len(line) <= 80 for line in said) and "top1" in said[1] and said[-1].startswith("reached: 89.60, 0.40")


def test_a_rung_that_costs_score_is_left_out_of_those_after_it() -> None:
    judge, said = Scores(90, 85, 84, None, 86, 90), []
    result = climb(make("Residual"), images(8), QuantizeConfig(weights=4), judge, 0.5, said.append)
    assert [r.kept for r in result.rungs] == [True, False, False, True, True] and result.rungs[2].score is None
    last = judge.judged[-1]
    assert (last["estimator"], last["equalization"], last["rounding"]) == ("minmax", True, "learned")
    assert any("did not pass the parity gate" in line for line in said)


def test_at_the_top_sensitive_layers_get_more_bits_and_training_is_offered() -> None:
    judge, said = Scores(90, 80, 80, 80, 80, 80, 81, 80.5), []
    result = climb(make("SqueezeExcite"), images(8), QuantizeConfig(weights=2, first_last=2), judge, 0.5, said.append)
    assert not result.reached and result.score == 81
    assert [r.name for r in result.rungs[-2:]] == ["more bits for 1 layers", "more bits for 2 layers"]
    assert list(result.rungs[-2].layers.values()) == [8] and len(result.sensitivity) == 5
    assert list(result.rungs[-2].layers) == [max(result.sensitivity, key=lambda n: result.sensitivity[n])]
    assert said[-2].startswith("not reached: the best rung has 81.00") and "qat" in said[-1]
    assert result.model.edits[-1]["bits"] == dict(result.rungs[-2].layers) and result.model.precision == "w2-8a8"
    assert all(len(line) <= 80 for line in said)


def test_a_budget_is_never_exceeded_by_a_rung() -> None:
    judge = Scores(90, 80, 80, 80, 80, 80)
    result = climb(make("Residual"), images(8), QuantizeConfig(budget=Budget(1500)), judge, 0.5)
    assert not result.reached and [r.name for r in result.rungs] == NAMES
    bits = [edit["bits"] for edit in judge.judged[1:]]
    assert all(b == bits[0] for b in bits) and min(bits[0].values()) < 8


def test_no_file_at_all_is_an_error() -> None:
    with pytest.raises(ParityError, match="no rung"):
        climb(make("Residual"), images(8), QuantizeConfig(), Scores(90, *[None] * 20), 0.5)


class Split:
    """Images with the network's own answers as targets."""

    resident = True

    def __init__(self, model: Model, count: int) -> None:
        self.images = images(max(count, 1))[:count]
        self.targets = TorchPredictor(model)(self.images).argmax(1) if count else np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Any) -> Any:
        return self.images[indices], self.targets[indices]


def data_of(model: Model, count: int) -> Any:
    from edgepress.data.base import Data

    split = Split(model, count)
    s = model.signature
    return Data("own", s.task, s.labels, s.input, split, split, split, "0")


def test_the_judge_scores_the_exported_file_on_the_validation_split() -> None:
    model = make("Residual")
    judge = FileJudge(data_of(model, 40))
    assert judge.metric == "top1" and judge.images == 40 and judge(model) == 100
    assert FileJudge(data_of(model, 40), 10).images == 10
    with pytest.raises(DataError, match="no validation split"):
        FileJudge(data_of(model, 0))


def test_the_stage_keeps_the_record(tmp_path: Any) -> None:
    from edgepress.core.stage import Context

    model, said = make("Residual"), []

    class Progress:
        def say(self, text: str) -> None:
            said.append(text)

    ctx: Any = Context(data_of(model, 40), 0, Progress(), None, lambda _: None, tmp_path, {}, {})  # type: ignore[arg-type]
    made = Quantize(calibrate=16, max_drop=50.0)(model, ctx)
    assert isinstance(made, Model) and ctx.notes["ladder"]["reached"] and ctx.notes["ladder"]["images"] == 40
    assert made.edits[-1]["ladder"]["rungs"] == ctx.notes["ladder"]["rungs"] and len(said) == 5


def test_fields_of_the_stage_are_checked() -> None:
    assert Quantize(weights=4).config.rounding == "learned" and Quantize().config.rounding == "nearest"
    assert "qat" in Quantize(activations=4).check()[0]
    assert len(Quantize(max_drop=-1, validate=-1, calibrate=0).check()) == 3
    assert "max_drop" in Quantize(validate=100).check()[0]
    assert "equalization" in Quantize(max_drop=0.5, equalization=True).check()[0]
    assert Quantize(max_drop=0.5, validate=100).check() == []
