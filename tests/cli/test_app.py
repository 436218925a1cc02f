"""The group: help, exit codes, one clean message per error, closed pipes, and nothing heavy loaded in vain."""

import json
import re
import subprocess
import sys
import time

import pytest

import edgepress
from cli.helpers import Call, Small, command, fresh
from edgepress.cli.app import EPILOG, SECTIONS, app, message
from edgepress.core.errors import ConfigError, EdgepressError

NAMES = ("bench", "demo", "doctor", "eval", "gc", "ls", "predict", "recipes", "report", "run", "show")
HEAVY = ("torch", "torchvision", "timm", "onnx", "sklearn", "pyarrow")


def loaded_by(*words: str) -> set[str]:
    """Return the top-level modules that a command has imported when it ends."""
    program = (
        "import sys, json\nfrom edgepress.cli.app import app\n"
        "try:\n    app(sys.argv[1:])\nexcept SystemExit as end:\n    code = end.code or 0\n"
        "print('LOADED' + json.dumps([code, sorted({name.split('.')[0] for name in sys.modules})]))"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    code, names = json.loads(done.stdout.rpartition("LOADED")[2])
    assert code == 0, done.stderr
    return set(names)


def test_help_lists_every_command_with_a_text(call: Call) -> None:
    text = call("--help").stdout
    for name in NAMES:
        assert re.search(rf"^  {name} +\w.{{10,}}\.$", text, re.MULTILINE), name
    assert all(f"{section}:" in text for section in SECTIONS)
    assert max(len(line) for line in text.splitlines()) <= 80


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help(call: Call, name: str) -> None:
    result = call(name, "--help")
    assert result.exit_code == 0 and "Usage:" in result.stdout


def test_help_loads_nothing_but_click() -> None:
    assert not loaded_by("--help") & {"rich", "numpy", "pydantic", "onnxruntime", "PIL", "yaml", *HEAVY}


def test_help_is_quick() -> None:
    taken: list[float] = []
    for _ in range(3):
        begin = time.perf_counter()
        assert fresh("--help").returncode == 0
        taken.append(time.perf_counter() - begin)
    assert min(taken) < 1.0, "0.3 s on an idle machine; this bound allows for a busy one"


def test_looking_loads_no_torch(small: Small) -> None:
    runs = ["--runs", str(small.runs)]
    for words in (["ls"], ["show", "small"], ["show", "small/student"], ["report", "small"], ["gc"]):
        assert not loaded_by(*words, *runs) & {"torch", "timm", "onnx"}, words
    assert not loaded_by("doctor") & {"torch", "timm", "onnx", "sklearn"}
    assert not loaded_by("predict", str(small.bundle), str(small.image)) & {*HEAVY, "yaml", "altair"}


def test_the_epilog_tells_every_exit_code() -> None:
    told = {int(code) for code in re.findall(r"^  (\d+) ", EPILOG, re.MULTILINE)}
    kinds = [EdgepressError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert {kind.exit_code for kind in kinds} | {0, 130} <= told


def test_version(call: Call) -> None:
    assert call("--version").stdout == f"edgepress {edgepress.__version__}\n"


def test_a_misspelt_command_is_answered_with_the_nearest(call: Call) -> None:
    result = call("rnu")
    assert result.exit_code == 2 and "did you mean 'run'?" in result.stderr
    assert call("progress").exit_code == 2, "a helper module is no command"


def test_several_problems_are_listed() -> None:
    assert message(ConfigError("one")) == "Error: one"
    assert message(ConfigError(["one", "two"])) == "Error: 2 problems\n  - one\n  - two"


def test_an_error_is_one_message_and_a_traceback_only_when_asked_for(small: Small) -> None:
    plain = fresh("show", "nothing", "--runs", small.runs)
    assert (plain.returncode, plain.stdout) == (2, "")
    assert plain.stderr == f"Error: 'nothing' is not there; runs in {small.runs}: small\n"
    assert "Traceback" in fresh("show", "nothing", EDGEPRESS_DEBUG="1").stderr


def test_a_closed_pipe_is_no_error(small: Small) -> None:
    # The reader goes away at once, as `head -0` would.
    with subprocess.Popen(
        command("show", "small", "--json", "--runs", small.runs), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_click_may_call_the_group_as_a_function() -> None:
    assert app.main(["--version"], standalone_mode=False) == 0
