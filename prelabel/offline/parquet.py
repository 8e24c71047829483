"""Shards -> Parquet files with the same rows."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prelabel.labelstudio.task_rows import TaskRow, read_line
from prelabel.offline.buckets import require_pyarrow


def require_parquet() -> None:
    """Raise InputError if Parquet files cannot be written here."""
    require_pyarrow("Parquet")


def write_parquet(shards: list[Path], folder: Path) -> None:
    """Write one Parquet file for each shard; shards that have one already are left out.

    Raises:
        OSError: A file cannot be written.
    """
    parquet: Any = importlib.import_module("pyarrow.parquet")
    folder.mkdir(exist_ok=True)
    wanted = {shard.with_suffix(".parquet").name for shard in shards}
    for path in folder.glob("tasks-*.parquet"):
        if path.name not in wanted:
            path.unlink()
    for shard in shards:
        path = folder / shard.with_suffix(".parquet").name
        if path.exists() and path.stat().st_mtime >= shard.stat().st_mtime:
            continue
        with shard.open("rb") as lines:
            table = to_table(lines)
        part = path.with_name(f".{path.name}.part")
        parquet.write_table(table, part)
        part.replace(path)


def to_table(lines: Iterable[bytes]) -> Any:
    """Return the rows of a shard as an Arrow table.

    Columns: `input`, `data` and `prediction` as JSON, `score`, `model_version`, and `boxes` with
    `picture`, `label`, `score`, `x0`, `y0`, `x1`, `y1` in pixels of the upright picture.
    """
    pa: Any = importlib.import_module("pyarrow")
    box = [("picture", pa.int32()), ("label", pa.string()), ("score", pa.float64())]
    corners = [(name, pa.float64()) for name in ("x0", "y0", "x1", "y1")]
    schema = pa.schema(
        [
            ("input", pa.string()),
            ("data", pa.string()),
            ("prediction", pa.string()),
            ("score", pa.float64()),
            ("model_version", pa.string()),
            ("boxes", pa.list_(pa.struct([*box, *corners]))),
        ]
    )
    return pa.Table.from_pylist([_columns(read_line(line)) for line in lines], schema=schema)


def _columns(row: TaskRow) -> dict[str, object]:
    return {
        "input": row.key,
        "data": json.dumps(row.data),
        "prediction": json.dumps(row.prediction),
        "score": row.prediction["score"],
        "model_version": row.prediction["model_version"],
        "boxes": [
            {
                "picture": box.picture,
                "label": box.label,
                "score": box.score,
                **dict(zip(("x0", "y0", "x1", "y1"), box.box_xyxy, strict=True)),
            }
            for box in row.boxes
        ],
    }
