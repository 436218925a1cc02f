"""Images in parquet files as Hugging Face `datasets` writes them: a struct `{bytes, path}` (or the bytes themselves)
and an integer label."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.core.errors import DataError, MissingExtraError
from edgepress.core.inputs import InputSpec
from edgepress.data.cache import Arrays
from edgepress.data.images import decode_all


def find_parquet(folder: Path, split: str) -> list[Path]:
    """Return the parquet files of `split` in `folder`: `train.parquet`, or shards `train-00000-of-00001.parquet` there
    or one folder deeper; empty where there are none."""
    for pattern in (f"{split}.parquet", f"{split}-*.parquet", f"*/{split}-*.parquet"):
        found = sorted(folder.glob(pattern))
        if found:
            return found
    return []


def read_parquet(files: Sequence[Path], images: Sequence[str], label: Sequence[str], spec: InputSpec) -> Arrays:
    """Return the arrays `images`, `targets` and `bad` (one line per image left out) of `files`.

    `images` and `label` are the column names to look for, the first that exists is read. Raises `DataError` for a
    file that cannot be read, a missing column, a row without label, or where there are no rows.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtraError("reading parquet", "train") from None
    sources: list[bytes] = []
    names: list[str] = []
    targets: list[int] = []
    for path in files:
        try:
            file = parquet.ParquetFile(path)
            image_column, label_column = _column(file, images, path), _column(file, label, path)
            table = file.read([image_column, label_column])
        except (arrow.ArrowException, OSError) as error:
            raise DataError(f"{path} cannot be read as parquet: {error}; fetch the file again") from error
        _check_types(arrow, table.schema, image_column, label_column, path)
        cells, labels = table[image_column].to_pylist(), table[label_column].to_pylist()
        if None in labels:
            raise DataError(f"{path}: row {labels.index(None)} has no {label_column!r}")
        sources += [(cell.get("bytes") if isinstance(cell, dict) else cell) or b"" for cell in cells]
        names += [f"{path.name} row {row}" for row in range(len(cells))]
        targets += labels
    if not sources:
        raise DataError(f"{', '.join(map(str, files))}: no rows")
    arrays, kept, bad = decode_all(sources, names, spec)
    return {"images": arrays, "targets": np.array(targets, np.int64)[kept], "bad": np.array(bad, dtype=str)}


def _check_types(arrow: Any, schema: Any, image: str, label: str, path: Path) -> None:
    """Raise `DataError` where a column holds something else than encoded images, or than class numbers."""
    held, number = schema.field(image).type, schema.field(label).type
    inner = held.field("bytes").type if arrow.types.is_struct(held) and held.get_field_index("bytes") >= 0 else held
    if not (arrow.types.is_binary(inner) or arrow.types.is_large_binary(inner)):
        raise DataError(f"{path}: column {image!r} holds {held}, not encoded images (binary, or a struct with 'bytes')")
    if not arrow.types.is_integer(number):
        raise DataError(f"{path}: column {label!r} holds {number}, not the numbers of classes (integers)")


def _column(file: Any, wanted: Sequence[str], path: Path) -> str:
    have = file.schema_arrow.names
    for name in wanted:
        if name in have:
            return name
    raise DataError(f"{path} has no column {' or '.join(map(repr, wanted))}; its columns: {', '.join(have)}")
