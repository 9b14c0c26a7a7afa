"""What a live benchmark has measured so far: a folder with one JSON line a run, so that an interrupt loses one run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metasd.core import files, jsontext
from metasd.core.errors import UsageError

NAME = "runs.jsonl"


class Kept:
    """The lines in ``folder``: the first says what is measured, the second what all share, the others are runs.

    Args:
        about: must be that of the folder where there is one; a line of JSON.
        resume: whether to go on with what is there.

    Raises UsageError for a folder of other measurements, and for one that is there without ``resume``; FileError.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], *, resume: bool) -> None:
        self.file = folder / NAME
        self.scene: dict[str, Any] | None = None
        self.runs: list[dict[str, Any]] = []
        files.make_folder(folder)
        lines = self._lines()
        if lines and not resume:
            raise UsageError(f"{self.file} is there already; --resume goes on with it, or give another --out")
        if not lines:
            self._append({"about": about})
            return
        told = jsontext.loads(jsontext.dumps(about))
        if lines[0].get("about") != told:
            named = ", ".join(sorted(k for k in told if lines[0].get("about", {}).get(k) != told[k]))
            raise UsageError(f"{self.file} was measured with other settings ({named or 'unknown'}); give another --out")
        for line in lines[1:]:
            if "scene" in line:
                self.scene = line["scene"]
            else:
                self.runs.append(line)

    def set_scene(self, scene: dict[str, Any]) -> None:
        """Keep what all contenders share."""
        self.scene = scene
        self._append({"scene": scene})

    def add(self, run: dict[str, Any]) -> None:
        """Keep one run."""
        self.runs.append(run)
        self._append(run)

    def has(self, name: str, repeat: int) -> bool:
        """Whether that run went well before."""
        return any(r["contender"] == name and r["repeat"] == repeat and not r.get("error") for r in self.runs)

    def _lines(self) -> list[dict[str, Any]]:
        """The whole lines; what an interrupt left of the last is cut off."""
        try:
            data = self.file.read_bytes() if self.file.exists() else b""
            whole = data[: data.rfind(b"\n") + 1]
            if len(whole) < len(data):
                os.truncate(self.file, len(whole))
            return [jsontext.loads(line) for line in whole.splitlines()]
        except OSError as error:
            raise files.unwritable(self.file, error) from error
        except ValueError:
            raise UsageError(f"{self.file} is not what metasd bench live writes; give another --out") from None

    def _append(self, line: Mapping[str, Any]) -> None:
        try:
            handle = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise files.unwritable(self.file, error) from error
        try:
            files.append(self.file, handle, (jsontext.dumps(line, compact=True) + "\n").encode())
        finally:
            os.close(handle)
