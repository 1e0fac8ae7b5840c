"""What a run that was refused before its first step has left in its folder, taken away again."""

from __future__ import annotations

from contextlib import suppress

from fgvr.runs.folder import RunFolder


class Traces:
    """Remembers what stands in a run's folder; `undo` takes away what has come since, and puts config.yaml back."""

    def __init__(self, run: RunFolder) -> None:
        self._folder, self._config = run.dir, run.dir / "config.yaml"
        self._before = {*run.dir.rglob("*")}
        self._asked = self._config.read_bytes() if self._config in self._before else None

    def undo(self) -> None:
        for path in sorted(self._folder.rglob("*"), reverse=True):  # what a folder holds comes before the folder
            if path not in self._before:
                with suppress(OSError):  # another process writes there too
                    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        if self._asked is not None and self._config.exists() and self._config.read_bytes() != self._asked:
            self._config.write_bytes(self._asked)
