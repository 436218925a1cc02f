"""Progress: silence for what is quick, then where it stands and how long it will take, loops within loops included."""

import io

import pytest
from rich.console import Console

from edgepress.cli.output import duration
from edgepress.cli.progress import EVERY, TerminalProgress


class Clock:
    """Time that passes when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_quick_things_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with TerminalProgress(live=False, clock=clock) as progress:
        assert list(progress.track(range(5), 5, "counting")) == [0, 1, 2, 3, 4]
        progress.say("a line that stays")
    assert capsys.readouterr().err == "a line that stays\n"


def test_a_line_now_and_then_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = TerminalProgress(live=False, clock=clock)
    for _ in progress.track(range(10), 10, "epoch 1/2"):
        clock.now += EVERY / 2
        progress.status("loss 0.5")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert lines[0] == "  epoch 1/2, 20%  4 min left  loss 0.5"


def test_time_left_is_told_for_a_series_even_if_it_began_half_way() -> None:
    clock = Clock()
    progress = TerminalProgress(live=False, clock=clock)
    for epoch in (9, 10):
        for step in progress.track(range(4), 4, f"epoch {epoch}/10"):
            if (epoch, step) == (10, 2):
                assert progress.lines() == [("epoch 10/10", 0.5, "20 s left")]
            clock.now += 10
    progress.say("done")
    for step in progress.track(range(4), 4, "epoch 9/10"):
        if step == 1:
            assert progress.lines() == [("epoch 9/10", 0.25, "70 s left")]
        clock.now += 10


def test_loops_within_loops_and_the_last_summary() -> None:
    clock = Clock()
    progress = TerminalProgress(live=False, clock=clock)
    for _ in progress.track(range(1), 1, "epoch 1/3"):
        pass
    progress.status("top1 88.12")
    outer = iter(progress.track(range(4), 4, "epoch 2/3"))
    next(outer)
    inner = iter(progress.track(range(2), 2, "teacher, view 8"))
    next(inner)
    clock.now += 5
    next(inner)
    progress.status("loss 0.4")
    console = Console(file=io.StringIO(), width=80)
    console.print(progress._render())
    first, second, third = [line.rstrip() for line in console.file.getvalue().splitlines()]  # pyright: ignore
    assert first.startswith("  epoch 2/3") and second.endswith("5.0 s left  loss 0.4")
    assert third == "  epoch 1/3: top1 88.12"
    assert [label for label, _, _ in progress.lines()] == ["epoch 2/3", "teacher, view 8"]
    assert list(inner) == [] and [label for label, _, _ in progress.lines()] == ["epoch 2/3"]


def test_a_bar_appears_after_two_seconds_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    with TerminalProgress(live=True, clock=clock) as progress:
        for step in progress.track(range(4), 4, "counting"):
            assert (progress._display is not None) is (step >= 2)
            clock.now += 1
        assert progress._display is None
        with pytest.raises(KeyboardInterrupt):
            for _ in progress.track(range(9), 9, "stopped"):
                clock.now += 1
                if progress._display is not None:
                    raise KeyboardInterrupt
    assert progress._display is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0 s"), (9.94, "9.9 s"), (42, "42 s"), (120, "2 min"), (3599, "1 h 00 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
