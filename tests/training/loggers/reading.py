"""Offline Weights & Biases runs read back from their files."""

from __future__ import annotations

import json
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Pictures, tables and charts, which are stored field by field.
MEDIA = ("figures/", "progress/", "tables/", "charts/")


def wandb_records(path: Path) -> Iterator[Any]:
    """Records of an offline run: 7 bytes of header, then 32 KiB blocks of (crc, length, kind) and payload."""
    from wandb.proto import wandb_internal_pb2

    data, place, payload = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        if kind == 0:  # padding
            place += left
            continue
        payload += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(payload)
            yield record
            payload = b""


def history_row(record: Any) -> dict[str, Any]:
    """One row by name; a picture or table, stored field by field, under its own name."""
    row: dict[str, Any] = {"_step": record.history.step.num}
    for item in record.history.item:
        name = "/".join(item.nested_key) or item.key
        head, _, field = name.rpartition("/")
        if head.startswith(MEDIA):
            row.setdefault(head, {})[field] = json.loads(item.value_json)
        else:
            row[name] = json.loads(item.value_json)
    return row


class OfflineRun:
    """What the file of an offline run holds.

    Attributes:
        file: the .wandb file.
        run: the record of the run itself.
        config: by key.
        history: rows.
        summaries: of each metric that was defined: which of its values the summary keeps.
        artifacts: by type.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.config: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.metrics: dict[str, Any] = {}
        self.artifacts: dict[str, list[Any]] = defaultdict(list)
        for record in wandb_records(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.run = record.run
                self._take_config(record.run.config.update)
            if kind == "config":
                self._take_config(record.config.update)
            if kind == "history":
                self.history.append(history_row(record))
            if kind == "metric":
                self.metrics[record.metric.name or record.metric.glob_name] = record.metric
            if kind == "artifact":
                self.artifacts[record.artifact.type].append(record.artifact)

    def _take_config(self, items: Any) -> None:
        self.config |= {item.key: json.loads(item.value_json) for item in items if item.key}

    def column(self, key: str) -> dict[int, Any]:
        """What was logged under `key`, by iteration."""
        return {row["iteration"]: row[key] for row in self.history if key in row}

    @property
    def keys(self) -> set[str]:
        """Everything that was ever logged."""
        return {key for row in self.history for key in row}

    def table(self, key: str) -> dict[str, Any]:
        """Columns and data of the table logged under `key`."""
        (found,) = self.column(key).values()
        return json.loads((self.file.parent / "files" / found["path"]).read_text())


def offline_runs(folder: Path) -> list[OfflineRun]:
    """The offline W&B runs of a run folder, oldest first."""
    return [OfflineRun(file) for file in sorted(folder.glob("wandb/offline-run-*/*.wandb"))]
