"""The other end of a copy over ssh: sent there as text and run by the Python of the board; it needs no more than that.

Standard input holds a JSON line for every file (`path`, `size`, `sha256`), an empty line, and then, after this program
has answered with one JSON line (the bytes it has of each file already), the bytes that are missing, file by file.
"""

import hashlib
import io
import json
import os
import sys
from typing import Any


def main(folder: str) -> None:
    """Receive files below `folder`; what is interrupted goes on where it was."""
    given, wanted = io.BufferedReader(io.FileIO(0)), list[dict[str, Any]]()
    while True:
        line = given.readline()
        if line in (b"", b"\n"):
            break
        wanted.append(json.loads(line))
    folder = os.path.expanduser(folder)
    have = [_have(os.path.join(folder, one["path"]), one) for one in wanted]
    print(json.dumps(have))
    sys.stdout.flush()
    for one, begin in zip(wanted, have, strict=True):
        if begin == one["size"]:
            continue
        path = os.path.join(folder, one["path"])
        with open(path + ".part", "ab") as file:
            left = one["size"] - begin
            while left:
                part = given.read1(min(left, 1 << 16))
                if not part:
                    sys.exit("the link broke off")
                file.write(part)
                left -= len(part)
        if _digest(path + ".part") != one["sha256"]:
            os.remove(path + ".part")
            sys.exit(f"{one['path']} did not arrive as it was sent")
        os.replace(path + ".part", path)


def _have(path: str, one: dict[str, Any]) -> int:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.exists(path) and os.path.getsize(path) == one["size"] and _digest(path) == one["sha256"]:
        return one["size"]
    part = path + ".part"
    if os.path.exists(part) and os.path.getsize(part) >= one["size"]:
        os.remove(part)
    return os.path.getsize(part) if os.path.exists(part) else 0


def _digest(path: str) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()


if __name__ == "__main__":
    main(sys.argv[1])
