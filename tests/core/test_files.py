import errno
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from edgepress.core import files
from edgepress.core.errors import BusyError, EdgepressError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_write_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "a.json"
    files.write_json(path, {"é": 1})
    files.write_json(path, {"é": 2})
    assert path.read_text() == '{\n  "é": 2\n}\n'
    assert names(path.parent) == ["a.json"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_the_first_of_two_stays_where_that_is_asked(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write_json(path, 1, first=True)
    files.write_json(path, 2, first=True)
    assert path.read_text() == "1\n" and names(tmp_path) == ["a.json"]

    def refuse(*given):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(files.os, "link", refuse)
    files.write_json(path, 3, first=True)
    files.write_json(tmp_path / "b.json", 3, first=True)
    assert path.read_text() == "1\n" and (tmp_path / "b.json").read_text() == "3\n"


def test_json_is_finite_and_a_failure_changes_nothing(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, float("nan"))
    assert path.read_text() == "1\n"


def test_a_block_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a"
    files.write_bytes(path, b"old")
    with pytest.raises(KeyError), files.atomic_write(path) as file:
        file.write(b"half")
        raise KeyError
    assert path.read_bytes() == b"old" and names(tmp_path) == ["a"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failing_disk_is_explained_and_nothing_is_left(tmp_path, monkeypatch, code, step):
    path = tmp_path / "a"
    files.write_bytes(path, b"old")

    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, step, fail)
    with pytest.raises(EdgepressError, match=f"cannot write {path}: .*(free some space|choose another)"):
        files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old" and names(tmp_path) == ["a"]


def test_full_disk_inside_a_folder(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with files.atomic_folder(folder) as temporary:
        (temporary / "a").write_text("old")

    def fail(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(EdgepressError, match="the disk is full"), files.atomic_folder(folder) as temporary:
        (temporary / "a").write_text("new")
    assert (folder / "a").read_text() == "old" and names(tmp_path) == ["run"]


def test_a_real_limit_on_file_size_leaves_the_old_file(tmp_path):
    """The kernel itself refuses the write in mid-file, in a process of its own."""
    script = """
        import pathlib, resource, signal, sys
        from edgepress.core.files import write_bytes
        path = pathlib.Path(sys.argv[1])
        write_bytes(path, b"old")
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        write_bytes(path, bytes(100_000))
    """
    path = tmp_path / "a"
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), path], capture_output=True, text=True)
    assert done.returncode == 1 and "File too large" in done.stderr
    assert path.read_bytes() == b"old" and names(tmp_path) == ["a"]


def test_other_errors_of_the_system_pass(tmp_path):
    with pytest.raises(FileNotFoundError), files.explain_disk(tmp_path):
        raise FileNotFoundError(errno.ENOENT, "gone")


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "a").write_text("")
    for path in (tmp_path / "a" / "b", tmp_path / "a" / "b" / "c"):
        with pytest.raises(EdgepressError, match="a file, not a folder"):
            files.write_bytes(path, b"")
    assert names(tmp_path) == ["a"]


def test_folder_appears_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "run"
    with files.atomic_folder(folder) as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "a").write_text("1")
        assert not folder.exists()
    assert (folder / "deep" / "a").read_text() == "1"
    with pytest.raises(KeyError), files.atomic_folder(folder) as temporary:
        (temporary / "b").write_text("2")
        raise KeyError
    assert names(folder) == ["deep"] and names(tmp_path) == ["run"]


def test_folder_replaces_the_older_one(tmp_path):
    folder = tmp_path / "run"
    for name in ("a", "b"):
        with files.atomic_folder(folder) as temporary:
            (temporary / name).write_text("")
    assert names(folder) == ["b"] and names(tmp_path) == ["run"]


def test_killed_while_writing(tmp_path):
    """SIGKILL in the middle of a write: the old content stays under the name."""
    script = """
        import os, pathlib, signal, sys
        from edgepress.core.files import atomic_write
        with atomic_write(pathlib.Path(sys.argv[1])) as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    path = tmp_path / "a"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), path])
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"


HOLD = """
    import pathlib, sys
    from edgepress.core.files import lock
    with lock(pathlib.Path(sys.argv[1]), "busy"):
        print("held", flush=True)
        sys.stdin.read()
"""


def test_one_process_holds_a_folder(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(BusyError, match="the run is going on"), files.lock(tmp_path, "the run is going on"):
            pass
    finally:
        holder.kill()  # no clean end: the lock must not outlive the process
        holder.communicate()
    with files.lock(tmp_path, "free"):
        assert (tmp_path / ".lock").exists()


def test_a_lock_is_free_after_its_block_failed(tmp_path):
    with pytest.raises(KeyError), files.lock(tmp_path, "busy"):
        raise KeyError
    with files.lock(tmp_path, "busy"), pytest.raises(BusyError), files.lock(tmp_path, "busy"):
        pass


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert files.sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
