"""`python -m fgvr doctor RUN`: whether a run can go on, from where, what is damaged and what to type."""

from __future__ import annotations

import argparse
import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fgvr.errors import UserError, shown
from fgvr.runs.condition import Condition, Judged, Rows, examine
from fgvr.runs.fingerprint import code_fingerprint, own_files
from fgvr.runs.folder import RunFolder, Start, choose_start

DESCRIPTION = (
    "Reads the folder of a run as a start would, and changes nothing; also while the run is going. With options of fit "
    "behind it (--config FILE and others) these are compared with the checkpoint's as well. The exit code is 0 when "
    "the same command goes on or the run is complete, 1 when it does not, and 2 when RUN is no run's folder."
)


def doctor(args: Sequence[str]) -> int:
    """Prints what is found, the verdict and what to type; returns 0 when the run can go on or is complete, else 1."""
    parser = argparse.ArgumentParser("python -m fgvr doctor", description=DESCRIPTION, allow_abbrev=False)
    parser.usage = "python -m fgvr doctor RUN [--config FILE] [--SETTING VALUE ...]"
    parser.add_argument("run", metavar="RUN", type=Path, nargs="?", help="the run's folder: run.dir of its config")
    given, line = parser.parse_known_args(args)
    if given.run is None:
        raise UserError("A run's folder must be given: python -m fgvr doctor RUN.")
    with _silence():
        found = examine(given.run)
        if line:
            from fgvr.tools.asked import asked  # brings the whole of fit's settings

            run, now = asked([*line, "--run.dir", str(given.run)])
        else:
            run, now = found.run, _as_saved(found)
        start, obstacles = _start(found, run, now)
    command = f"python -m fgvr {shlex.join(['fit', *line]) if line else _same_command(run)}"
    for text in [str(run.dir), *_facts(found), *_verdict(found, start, obstacles, command)]:
        print(shown(text))
    return 1 if obstacles else 0


@contextmanager
def _silence() -> Iterator[None]:
    """What a start puts on the log, of damage say, stands in the answer already."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def _as_saved(found: Condition) -> Mapping[str, Any]:
    """What the newest checkpoint was made of, but by the code that stands here."""
    manifest = found.newest.manifest if found.newest else None
    if manifest is None:
        return {}
    package = code_fingerprint()
    others = (manifest.fingerprint.get("code") or {}).keys() - package.keys()
    own = own_files([name.removesuffix(".py").replace("/", ".") for name in others if name.endswith(".py")])
    return {**manifest.fingerprint, "code": {**package, **own}}


def _start(found: Condition, run: RunFolder, now: Mapping[str, Any]) -> tuple[Start, list[str]]:
    """Where the same command would begin, and each reason for which it would not, or not come to its next save."""
    try:
        start, obstacles = choose_start(run, now), list[str]()
    except UserError as error:
        start, obstacles = Start(), [str(error)]
    if found.holder and found.holder.writes:
        obstacles.append(f"{_name(found)} is writing to it: wait for that to end, or end it.")
    if found.starts is not None and _starts_no_more(run, found.starts, start):
        obstacles.append(
            f"It was started {found.starts[0]} times in a row at step {found.starts[1]} (run.restarts), so the same "
            "command is refused once, and goes on when it is given again: see in the log what ended these."
        )
    if start.complete:
        return start, obstacles
    obstacles += [f"What the run began with is damaged. {text}" for one in found.base for text in one.damage]
    if not found.writable:
        obstacles.append(f"{run.dir} must be writable, but it is not: mount it so, or copy it, and give --run.dir.")
    if found.free < found.next_save:
        obstacles.append(
            f"The next checkpoint needs {_megabytes(found.next_save)}, but {_megabytes(found.free)} are free there: "
            "make room."
        )
    return start, obstacles


def _starts_no_more(run: RunFolder, starts: tuple[int, int], start: Start) -> bool:
    """By the settings given, or by those that the run has left."""
    from fgvr.settings.given import content_of

    file = run.dir / "config.yaml"
    section = content_of(file).get("run") if run.restarts is None and file.exists() else None
    most = section.get("restarts") if isinstance(section, dict) else run.restarts
    return most is not None and starts[0] > most and starts[1] == (start.manifest.step if start.manifest else 0)


def _facts(found: Condition) -> Iterator[str]:
    run, writes = found.run, bool(found.holder and found.holder.writes)
    for one in (*found.checkpoints, *found.base):
        yield from _of_checkpoint(one, run.dir)
    for path in found.left:
        what = "a save under way" if writes else "left half-done by a process that was stopped; a start clears it"
        yield f"  {path.relative_to(run.dir)}: {what}"
    for text in found.damage:
        yield f"  damaged: {text}"
    for rows in found.rows:
        yield f"  {rows.path.name}: {_of_rows(rows)}"
    if found.starts is not None:
        yield f"  starts in a row at step {found.starts[1]}: {found.starts[0]}"
    if found.holder is not None:
        yield f"  lock: {_of_lock(found)}"
    takes = f", the next checkpoint takes about {_megabytes(found.next_save)}" if found.next_save else ""
    yield f"  disk: {_megabytes(found.free)} free{takes}"


def _of_checkpoint(one: Judged, folder: Path) -> Iterator[str]:
    name = one.path.relative_to(folder)
    if one.whole and one.manifest:
        yield f"  {name}: whole, step {one.manifest.step}, {_megabytes(one.manifest.size)}"
    yield from (f"  {name}: damaged. {text}" for text in one.damage)


def _of_rows(rows: Rows) -> str:
    parts = [f"{rows.count} whole rows"]
    if rows.later:
        parts.append(f"{rows.later} of steps after the checkpoint, which a start drops and does again")
    if rows.damaged:
        parts.append(f"damaged lines {', '.join(map(str, rows.damaged[:8]))}{' ...' if len(rows.damaged) > 8 else ''}")
    if rows.lacks:
        parts.append("none of the last step before the checkpoint, which it should have")
    return "; ".join(parts)


def _of_lock(found: Condition) -> str:
    assert found.holder is not None
    if found.holder.writes is None:
        return f"{_name(found)} wrote to it last; whether it still does can be told there only"
    return f"held by {_name(found)}" if found.holder.writes else f"free; {_name(found)} had it last"


def _name(found: Condition) -> str:
    assert found.holder is not None
    return f"process {found.holder.process} on {found.holder.machine}"


def _verdict(found: Condition, start: Start, obstacles: Sequence[str], command: str) -> Iterator[str]:
    if obstacles:
        yield "It does not go on as it is:"
        yield from (f"- {text}" for text in obstacles)
        yield f"Then type: {command}"
    elif start.complete and start.manifest:
        yield f"It is complete, at step {start.manifest.step}. To evaluate its final weights again, type: {command}"
    elif start.checkpoint and start.manifest:
        where = start.checkpoint
        where = where.relative_to(found.run.dir) if where.is_relative_to(found.run.dir) else where
        yield f"It goes on from {where}, at step {start.manifest.step}. Type: {command}"
    else:
        yield f"Nothing was saved yet, so it starts from the beginning. Type: {command}"


def _same_command(run: RunFolder) -> str:
    """With the config that the run has left, and where it has been moved since the folder that it is in now."""
    from fgvr.settings.given import content_of

    file = run.dir / "config.yaml"
    section = content_of(file).get("run")
    if not isinstance(section, dict):
        return shlex.join(["fit", "--config", "FILE", "--run.dir", str(run.dir)])
    moved = Path(str(section.get("dir"))).absolute() != run.dir.absolute()
    return shlex.join(["fit", "--config", str(file), *(["--run.dir", str(run.dir)] if moved else [])])


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
