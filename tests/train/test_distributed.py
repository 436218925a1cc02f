"""Two processes compute what one does; one that dies stops the other; a training goes on with another number."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from edgepress.core.errors import MissingExtraError, TrainingError
from edgepress.core.ranks import ALONE, processes_started
from edgepress.train.stages import Distill, Mutual, Train
from train.helpers import NET, context

pytest.importorskip("accelerate", reason="pip install 'edgepress[distributed]'")

from edgepress.train.distributed import Group
from train.processes import alone, run_recipe, together, train, train_and_die

pytestmark = pytest.mark.timeout(600)  # the processes import torch and Accelerate once more, on a busy machine slowly

BASE = Train(epochs=3, model=NET, batch=32, lr=0.05, augment={"pad": 1}, precision="fp32")
TAUGHT: dict[str, Any] = {"epochs": 3, "model": NET, "batch": 32, "lr": 0.02, "precision": "fp32", "teacher": "$t"}
SMALL = {"width": 4, "depth": 1}
STAGES = {
    "train": BASE,
    # 31 images are no equal shares; mixup blends images of both shares.
    "uneven": dataclasses.replace(BASE, batch=31, clip=1.0, ema=0.9, augment={"mixup": 0.4}),
    # One kept teacher, and losses that compare images with one another and features through connectors.
    "kept": Distill(**TAUGHT, views=2),
    # Batch norms in the connectors make rounding grow: at higher rates a millionth is a thousandth after 24 steps.
    "features": Distill(
        **{**TAUGHT, "lr": 0.005},
        losses=({"review": {"weight": 0.1}}, "dist", {"rkd": {"weight": 0.1}}, "crd"),
        views=0,
    ),
    # Void pixels lie unequally in the shares, and the loss over classes is one of the whole batch.
    "scenes": Train(epochs=6, model="unet", arguments=SMALL, batch=16, lr=0.05, losses=("dice",), precision="fp32"),
    "mutual": Mutual(epochs=3, model=NET, batch=32, lr=0.05, precision="fp32"),
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what one process and what two have made of every stage."""
    folder = tmp_path_factory.mktemp("pairs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgepress.train.precision.SECONDS", 0.01)
        teacher = dataclasses.replace(BASE(None, context(folder / "cache")), key="teacher")
        alone(STAGES, folder, {"$t": teacher})
        assert together(2, train, STAGES, folder, {"$t": teacher}) == [0, 0]
    return folder


@pytest.mark.parametrize("name", STAGES)
def test_losses_and_weights_are_those_of_one_process(pairs: Path, name: str) -> None:
    one, two = (json.loads((pairs / f"{name}-{count}-0.json").read_text()) for count in (1, 2))
    assert len(one["steps"]) == len(two["steps"]) == 24
    for ours, theirs in zip(one["steps"], two["steps"], strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], abs=1e-4)
        assert theirs["lr"] == ours["lr"]
    first, main, other = (torch.load(pairs / f"{name}-{run}.pt", weights_only=True) for run in ("1-0", "2-0", "2-1"))
    assert all(torch.equal(main[key], other[key]) for key in main), "the processes have drifted apart"
    for key, value in first.items():
        torch.testing.assert_close(main[key], value, rtol=1e-3, atol=1e-4, msg=key)


def test_only_the_main_process_speaks(pairs: Path) -> None:
    main, other = (json.loads((pairs / f"kept-2-{index}.json").read_text()) for index in (0, 1))
    records = [record for record in main["log"] if record["event"] == "epoch"]
    assert [record["epoch"] for record in records] == [1, 2, 3] and "top1" in records[0]["val"]
    assert other["log"] == [] and other["steps"] == [] and not other["ended"]
    assert main["notes"]["processes"] == 2 and main["notes"]["batch"] == 32
    alone_records = json.loads((pairs / "kept-1-0.json").read_text())["log"]
    for ours, theirs in zip(alone_records[0]["gradients"].items(), records[0]["gradients"].items(), strict=True):
        assert theirs[1] == pytest.approx(ours[1], rel=1e-3)


def test_a_process_that_dies_stops_the_other_and_one_process_goes_on(tmp_path: Path, pairs: Path) -> None:
    # In the memory layout of the others, which a stopwatch has chosen: dropout draws its mask in the order of memory.
    shutil.copytree(pairs / "cache", tmp_path / "cache")
    codes = together(2, train_and_die, BASE, tmp_path, 13)
    assert codes == [TrainingError.exit_code, -9]
    assert "process 0 of 2 has lost the others" in (tmp_path / "error-0.txt").read_text()
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert (state["at"]["epoch"], state["at"]["step"]) == (1, 4), "twelve steps were whole"
    (tmp_path / "train.state").write_bytes((tmp_path / "state.pt").read_bytes())
    alone({"train": BASE}, tmp_path, {})
    resumed = torch.load(tmp_path / "train-1-0.pt", weights_only=True)
    for key, value in torch.load(pairs / "train-1-0.pt", weights_only=True).items():
        torch.testing.assert_close(
            resumed[key], value, rtol=1e-3, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}"
        )
    found = json.loads((tmp_path / "train-1-0.json").read_text())
    assert [record["epoch"] for record in found["log"]] == [1, 2, 3] and found["steps"][0]["step"] == 13


def test_a_recipe_is_run_by_two_and_written_by_one(tmp_path: Path) -> None:
    tiny = {"model": "digits_cnn", "arguments": {"width": 4}, "epochs": 1, "batch": 32, "precision": "fp32"}
    recipe = {
        "name": "two",
        "data": {"synthetic": {"classes": 2, "size": 16, "train": 64, "val": 16, "test": 16}},
        "stages": [
            {"train": {"name": "teacher", **tiny}},
            {"distill": {"name": "student", **tiny, "teacher": "$teacher", "views": 1}},
            {"quantize": {"name": "int8", "calibrate": 16}},
        ],
        "measure": ["size"],
    }
    assert together(2, run_recipe, recipe, tmp_path) == [0, 0]
    assert sorted(path.parent.name.split("-")[0] for path in tmp_path.glob("*/done")) == [
        "distill",
        "quantize",
        "train",
    ]
    assert [path.name for path in tmp_path.glob("cache/teacher/*/view-*")] == ["view-000.npy"]
    run_recipe(ALONE, recipe, tmp_path)  # all of it is kept: the keys know nothing of processes
    assert len(list(tmp_path.glob("*/done"))) == 3


@dataclasses.dataclass
class _Process:
    process_index: int
    num_processes: int
    device = torch.device("cpu")


@pytest.mark.parametrize(("total", "count"), [(7, 2), (8, 3), (5, 5), (100, 7)])
def test_shares_are_a_batch_in_order(total: int, count: int) -> None:
    rows = torch.arange(total)
    shares = [Group(_Process(index, count)).share(rows) for index in range(count)]
    assert torch.equal(torch.cat(shares), rows)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_fewer_images_than_processes_are_refused() -> None:
    with pytest.raises(TrainingError, match="a batch of 2 cannot be shared by 3 processes; raise `batch`"):
        Group(_Process(0, 3)).share(torch.arange(2))


def test_a_process_started_by_itself_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgepress.train.distributed import join

    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert processes_started() == 1 and join() is ALONE
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert join() is ALONE, "a process alone asks for no library"
    rows = torch.arange(3)
    assert ALONE.share(rows) is rows and ALONE.gather(rows, 3) is rows and ALONE.agreed(lambda: 5) == 5


def test_without_accelerate_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgepress.train.distributed import join

    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MissingExtraError, match=r"pip install 'edgepress\[distributed\]'"):
        join()
