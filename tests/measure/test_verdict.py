import dataclasses
from pathlib import Path

import pytest

from edgepress.measure.cell import Cell
from edgepress.measure.matrix import Result, occasion
from edgepress.measure.verdict import Budget, finalists, judge


def result(runtime: str, precision: str, ms: float, score: float = 90.0, size: float = 1e6, **more: float) -> Result:
    """Return a cell measured in two turns of three steady calls."""
    cell = Cell("net", runtime, runtime, precision, 1, 1, Path("bundles") / f"{runtime}-{precision}")
    layers = [{"name": "features.1", "kind": "depthwise", "share": 61.0}]
    facts = {"score": score, "bytes": size, **more}
    return Result(cell, "", facts, layers=layers, turns=[[ms / 1e3] * 3, [ms / 1e3] * 3])


FIELD = [
    result("pt2", "fp32", 4.0, size=6.1e6),
    result("onnxruntime", "fp32", 1.0, size=6e6),
    result("onnxruntime", "w8a8", 1.6, 89.5, size=1.7e6),
    result("openvino", "bf16", 0.8, 89.9, size=3.2e6),
    result("openvino", "w8a8", 0.79, 87.0, size=1.8e6),
]


def test_the_fastest_within_the_budget_is_chosen_and_held_against_both_baselines() -> None:
    verdict = judge(FIELD, Budget(drop=1.0))
    assert verdict.chosen is FIELD[3]
    assert verdict.sentences[0] == "Ship openvino bf16: 0.800 ms, 3.2 MB, 89.90 % (-0.10)."
    assert "Against FP32 PyTorch: 5.0x faster, 1.9x smaller." in verdict.sentences
    assert any("features.1 (depthwise) 61 %" in sentence for sentence in verdict.sentences)
    assert verdict.did_not_help == (
        "onnxruntime w8a8 is 1.6x slower than FP32 on the same engine here, time goes to depthwise 61 %.",
    )


def test_of_files_equally_fast_the_smallest_is_shipped() -> None:
    assert judge(FIELD, Budget(drop=5.0)).chosen is FIELD[4]


@pytest.mark.parametrize(
    ("budget", "runtime", "precision"),
    [
        (Budget(mb=2.0), "onnxruntime", "w8a8"),
        (Budget(drop=0.05), "onnxruntime", "fp32"),
        (Budget(None), "openvino", "w8a8"),
    ],
)
def test_every_part_of_the_budget_counts(budget: Budget, runtime: str, precision: str) -> None:
    chosen = judge(FIELD, budget).chosen
    assert chosen is not None and (chosen.cell.runtime, chosen.cell.precision) == (runtime, precision)


def test_a_budget_nobody_keeps_names_the_nearest() -> None:
    verdict = judge(FIELD, Budget(ms=0.5))
    assert verdict.chosen is None and "The nearest is openvino bf16: 0.800 ms, 0.5 are allowed." in verdict.sentences
    assert judge(FIELD, Budget(mj=1.0)).chosen is None, "what has no energy figure keeps no energy budget"


def final(result: Result, ms: float, *others: Result) -> Result:
    """Return the cell with the time it had among those that may be shipped, itself and `others`."""
    among = occasion([one.cell for one in (result, *others)])
    return dataclasses.replace(result, finals={among: [[ms / 1e3] * 3] * 2})


def test_what_was_timed_again_among_few_decides() -> None:
    close = [result("ncnn", "fp32", 0.81, size=2e6), *FIELD[:2], FIELD[3], result("litert", "fp32", 1.5)]
    assert [r.ms for r in finalists(close, Budget())] == [pytest.approx(0.8), pytest.approx(0.81)]
    assert judge(close, Budget()).chosen is close[0], "equally fast, and smaller"
    timed = [final(close[0], 0.85, close[3]), *close[1:3], final(close[3], 0.7, close[0]), close[4]]
    assert judge(timed, Budget()).chosen is timed[3]
    for others in ((), (close[3],), (close[4],)):
        slow = [final(close[0], 2.0, *others), *close[1:]]
        assert judge(slow, Budget()).chosen is slow[0], "a final counts only where just those that may win were in it"


def test_a_file_is_held_against_its_own_network_and_another_is_named() -> None:
    def of(artifact: str, *found: Result) -> list[Result]:
        return [dataclasses.replace(r, cell=dataclasses.replace(r.cell, artifact=artifact)) for r in found]

    small = of("small", result("onnxruntime", "fp32", 0.1, 89.5), result("onnxruntime", "w8a8", 0.2, 89.5))
    large = of("large", result("onnxruntime", "fp32", 1.0), result("onnxruntime", "w8a8", 0.5))
    verdict = judge([*large, *small], Budget())
    assert verdict.sentences[0].startswith("Ship small on onnxruntime fp32: 0.100 ms")
    assert verdict.did_not_help == (
        "small on onnxruntime w8a8 is 2.0x slower than FP32 on the same engine here, time goes to depthwise 61 %.",
    )
    edited = judge([*large[:1], *of("edited", result("onnxruntime", "w8a8", 0.5))], Budget())
    assert "Against large in FP32 on onnxruntime: 2.0x faster, 1.0x smaller." in edited.sentences


def test_a_drop_that_could_not_be_checked_is_said() -> None:
    alone = [result("openvino", "w8a8", 0.5, 80.0), result("openvino", "w4a8", 0.4, 10.0)]
    assert "not checked: no FP32 network was scored." in judge(alone, Budget()).sentences[-1]
    assert not any("not checked" in sentence for sentence in judge(alone, Budget(drop=None)).sentences)
    known = [dataclasses.replace(one, facts={**one.facts, "float_score": 80.5}) for one in alone]
    verdict = judge(known, Budget())
    assert verdict.chosen is known[0] and not any("not checked" in sentence for sentence in verdict.sentences)


def test_a_final_has_few_files_close_to_the_fastest() -> None:
    field = [result(f"engine{number}", "fp32", 1 + 0.01 * number) for number in range(9)]
    assert [r.cell.runtime for r in finalists(field[::-1], Budget())] == [f"engine{number}" for number in range(4)]
    assert finalists(field, Budget(ms=0.5)) == []


def test_of_a_restless_machine_every_engine_within_reach_is_in_the_final() -> None:
    twins = [
        result("openvino", kind, 1.0 + 0.01 * k) for k, kind in enumerate(("w8a8", "w8a8+bf16", "w8a8+fp16", "bf16"))
    ]
    restless = [dataclasses.replace(one, turns=[[1e-3] * 3, [2.5e-3] * 2]) for one in twins]
    other = result("litert", "w8a8", 1.8)
    assert other not in finalists([*twins, other], Budget())
    few = finalists([*restless, other], Budget())
    assert other in few and len(few) == 4


def test_empty_cells_are_never_chosen() -> None:
    broken = dataclasses.replace(FIELD[3], error="crashed with SIGSEGV")
    assert judge([*FIELD[:3], broken], Budget()).chosen is FIELD[1]
    assert judge([broken], Budget()).sentences == ("Nothing was measured: no engine ran this network here.",)


def test_a_restless_machine_is_told() -> None:
    shaky = dataclasses.replace(FIELD[3], turns=[[0.5e-3, 0.8e-3, 1.4e-3]])
    assert any("restless" in sentence for sentence in judge([shaky], Budget()).sentences)


def test_pytorch_is_held_against_but_never_shipped() -> None:
    eager = result("torch", "fp32", 0.1, size=6e6)
    verdict = judge([eager, *FIELD], Budget(drop=1.0))
    assert verdict.chosen is FIELD[3], "the network in PyTorch is no file"
    assert "Against FP32 PyTorch: 8.0x slower, 1.9x smaller." in verdict.sentences
    nothing = judge([eager, FIELD[1]], Budget(ms=0.2))
    assert nothing.chosen is None and any("nearest is onnxruntime fp32" in line for line in nothing.sentences)


def test_what_is_slow_is_told_by_kind_and_without_names_of_nodes() -> None:
    layers = [
        {"name": "n20", "kind": "Quantize", "share": 30.0, "layer": None},
        {"name": "a.conv", "kind": "Conv", "share": 25.0, "layer": 0},
        {"name": "b.conv", "kind": "Conv", "share": 20.0, "layer": 1},
    ]
    slow = dataclasses.replace(FIELD[2], layers=layers)
    verdict = judge([FIELD[1], slow], Budget(mb=2.0))
    assert verdict.sentences[-1] == "Its time goes to: Quantize 30 %; a.conv (Conv) 25 %; b.conv (Conv) 20 %."
    assert verdict.did_not_help[0].endswith("time goes to Conv 45 %; Quantize 30 %.")
