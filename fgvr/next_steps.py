"""What to do after a command: the sentence that each ends with, with the very paths that it was given."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

MANY = 0.5  # share of unreadable answers from which on something is said
PHOTOS = "PHOTOS"  # stands for a folder, or one photo, of the user's
OWN, OWN_DATA, OWN_RL = Path("configs/photos.yaml"), Path("data/photos"), Path("configs/photos_grpo.yaml")
OWN_RUN, DRAWN_RUN, DRAWN_RL = Path("runs/photos"), Path("runs/quickstart"), Path("configs/aviary/grpo.yaml")

STORE = "replies.jsonl"  # what mining keeps of a model's replies
ROWS = "two_step"  # where a run keeps the rows of two-step inference
FIGURES = {"fit": "final_metrics.json", "validate": "validate_metrics.json", "test": "test_metrics.json"}


def typed(*words: str | Path) -> str:
    """A command of fgvr as a shell takes it."""
    return shlex.join(["python", "-m", "fgvr", *map(str, words)])


def next_steps(*steps: tuple[str, str]) -> str:
    """`Next, WHAT: COMMAND`; of several a line for each."""
    if len(steps) == 1:
        return f"Next, {steps[0][0]}: {steps[0][1]}"
    return "\n".join(["Next:", *(f"  {what}: {command}" for what, command in steps)])


def after_shards(out: Path) -> str:
    """Train on the set; where the configs are not at hand, with one that names it."""
    if not OWN.is_file():
        return f"Next, train on it: python -m fgvr fit --config FILE, with {_train(out)[1]} as data.init_args.train"
    words = ["fit", "--config", OWN]
    if out != OWN_DATA:
        words += [*_train(out), "--model.policy.backbone.vocabulary", out / "manifest.json"]
    return next_steps(("train on it", typed(*words)))


def after_audit(sets: Sequence[Path], page: Path, wrong: bool) -> str:
    """Look at what is wrong; else go on."""
    look = f"Next, look at {page}"
    if wrong:
        return f"{look}, mend what it shows, and pack again: python -m fgvr shards with --overwrite true"
    return f"{look}, or go on: {after_shards(sets[0]).partition(': ')[2]}" if len(sets) == 1 else look


def after_options(out: Path, options: Path, data: Path, split: str, photos: int) -> str:
    """Learn to choose among the options of so many training photos; those of others can only be looked at."""
    if not photos:
        return f"No photo has options, so nothing can be learned. Next, see what the model says: {out / STORE}"
    if split != "train":
        return f"Next, look at {out / 'sweep.png'}, or mine what can be trained on, with --split train."
    entry = f"[{{path: {data}, options: {options}}}]"
    return f"Next, learn to choose among them: {_config_with(entry, 'configs/aviary/divek.yaml', 'docs/divek.md')}"


def after_thoughts(shards: Path) -> str:
    """Teach them."""
    entry = f"[{{path: {shards}}}]"
    return f"Next, teach them: {_config_with(entry, 'configs/aviary/fine_r1_sft.yaml', 'docs/thoughts.md')}"


def after_run(
    verb: str,
    run: Path,
    settings: Mapping[str, Any],
    line: Sequence[str],
    checkpoint: Path | None = None,
    figures: Mapping[str, float] = MappingProxyType({}),
) -> str:
    """After `fit`, `validate`, `test` and `predict` with a config.

    `settings` are the run's, as its config.yaml has them, `line` are the options that were typed; `checkpoint` was
    evaluated, None being the model as the config builds it. `figures` are those that were found.
    """
    if _inside(settings, "trainer").get("fast_dev_run"):
        return f"Next, do it in earnest: {typed(verb, *without(line, '--trainer.fast_dev_run'))}"
    own = run if checkpoint is None or run.absolute() in checkpoint.absolute().parents else checkpoint
    if verb == "predict":
        photos = _inside(settings, "data", "init_args").get("predict") or PHOTOS
        return next_steps(("have a confidence for each name, and pictures", typed("predict", own, photos)))
    if verb == "fit":
        step = _after_fit(run, settings)
    elif verb == "test":
        step = next_steps(("see the run", typed("report", run, "--out", run / "report")))
    elif checkpoint is None:
        step = next_steps(("train from it", typed("fit", *without(line, "--ckpt_path"))))
    else:
        step = next_steps(("find from which confidence on its names can be trusted", typed("calibrate", own)))
    return f"The figures are in {run / FIGURES[verb]}.{_unread(figures)}\n{step}"


def _unread(figures: Mapping[str, float]) -> str:
    """What to try where most answers could not be read."""
    shares = [value for name, value in figures.items() if name.endswith("/parse_failures")]
    if not shares or max(shares) < MANY:
        return ""
    return (
        f" Up to {max(shares):.0%} of the answers could not be read: train longer (trainer.max_steps), or leave "
        "answers more room (model.init_args.max_new_tokens)."
    )


def _after_fit(run: Path, settings: Mapping[str, Any]) -> str:
    """See the run, name photos with it, and go on from it where it was taught and fgvr's configs are at hand."""
    backbone = _inside(settings, "model", "init_args", "policy", "backbone")
    kind = str(backbone.get("class_path")).rpartition(".")[2]
    origin = str(_inside(backbone, "init_args").get("run")) if kind == "Trained" else ""
    beside = [origin] if origin and Path(origin).is_dir() else []  # a run that goes on from another is seen beside it
    steps = [
        ("see the run", typed("report", run, *beside, "--out", run / "report")),
        ("name photos", typed("predict", run, PHOTOS)),
    ]
    sets = _inside(settings, "data", "init_args").get("train")
    first = sets[0] if isinstance(sets, list) and sets and isinstance(sets[0], Mapping) else {}
    drawn = str(_inside(first, "source").get("class_path")).endswith(".Aviary")
    config, usual = (DRAWN_RL, DRAWN_RUN) if drawn else (OWN_RL, OWN_RUN)
    if kind == "TinyQwen" and config.is_file():
        words: list[str | Path] = ["fit", "--config", config]
        words += [] if run == usual else ["--model.policy.backbone.run", run]
        words += [] if drawn or Path(str(first.get("path"))) == OWN_DATA else _train(Path(str(first.get("path"))))
        steps.append(("make its better answers likelier", typed(*words)))
    return next_steps(*steps)


def after_predict(
    model: Path, out: Path, stem: str, threshold: float | None, calibrated: bool | None, two_step: bool
) -> str:
    """Where to look, and what would be worth typing; `calibrated` is None without thresholds, False if none holds."""
    look = f"Next, look at {out / stem}.html; {out / stem}.csv has the same for a spreadsheet."
    if threshold is not None:
        return f"{look} Answers are the finest names with a confidence of at least {threshold:g}."
    if calibrated:
        return f"{look} With --abstain true it answers only as finely as it can without being wrong too often."
    how = ["--two_step", "true"] if two_step else []
    calibrate = typed("calibrate", model, *how)
    if calibrated is False:
        return f"{look} Its thresholds hold no risk: to have it abstain, calibrate it on more photos: {calibrate}"
    return f"{look} To have it abstain where it is not sure, calibrate it first: {calibrate}"


def after_calibrate(model: Path, two_step: bool) -> str:
    how = ["--two_step", "true"] if two_step else []
    return next_steps(
        ("name photos, no finer than is sure", typed("predict", model, PHOTOS, "--abstain", "true", *how))
    )


def after_export(out: Path, adapter: str, model: Path) -> str:
    """An adapter kept apart is no model by itself, so that it is the run that names photos."""
    named = typed("predict", out if adapter == "merge" else model, PHOTOS)
    return f"{next_steps(('name photos', named))} ({out / 'README.md'} says how to do it without fgvr)"


def after_report(page: Path, size: int, runs: Sequence[Path]) -> str:
    text = f"{page} is the report ({size / 1e6:.1f} MB). Next, open it in a browser, or send it to somebody."
    if len(runs) > 1:
        return text
    return f"{text} Beside another run: {typed('report', runs[0], 'runs/OTHER', '--out', page.parent)}"


def after_estimate(line: Sequence[str]) -> str:
    return next_steps(("train", typed("fit", *without(line, "--memory"))))


def after_tasks(options: str) -> str:
    return next_steps(("where lmms-eval and fgvr are installed", f"python -m lmms_eval {options}"))


def after_prefetch(line: Sequence[str], lacking: int) -> str:
    """Go without a network, or once more when what is lacking is there."""
    if lacking:
        return next_steps(("when these are mended, look again", typed("prefetch", *line)))
    return next_steps(("train, also where there is no network", f"HF_HUB_OFFLINE=1 {typed('fit', *line)}"))


def after_ladder(untrained: Path, trained: Path | None) -> str:
    """Look at the runs that the rows are of: that of the trained weights, and beside it that which it began from."""
    if trained is None:
        return "Next, give the rows of the trained weights too, with --trained, to see what training adds."
    runs = list(dict.fromkeys(file.parent.parent for file in (trained, untrained) if file.parent.name == ROWS))
    if not runs:
        return f"Next, see the runs that these rows are of: {typed('report', 'RUN', 'OTHER')} --out DIR"
    what = "see the run" if len(runs) == 1 else "see the runs side by side"
    return next_steps((what, typed("report", *runs, "--out", runs[0] / "report")))


def after_judgements_out(file: Path) -> str:
    own = typed("judgements", "--merge", file, "--cache", "CACHE")
    return next_steps(("on the other machine, put them into its cache", own))


def after_judgements_merge(cache: str) -> str:
    return f"Next, replay them without a server: a judge with offline: true and the cache {cache}"


def after_env() -> str:
    return f"Next, give all of this with what you ran and what it said; {typed('doctor', 'RUN')} tells of a run."


def without(line: Sequence[str], option: str) -> list[str]:
    """A command line less one option and its value."""
    kept, skips = list[str](), False
    for word in line:
        if not skips and word != option and not word.startswith(f"{option}="):
            kept.append(word)
        skips = word == option
    return kept


def _train(folder: Path) -> list[str]:
    return ["--data.train", json.dumps([{"path": str(folder)}], ensure_ascii=False)]


def _config_with(sets: str, example: str, page: str) -> str:
    """A training whose config depends on what the model is."""
    return f"python -m fgvr fit --config FILE, whose data.init_args.train is {sets}, as in {example} ({page})"


def _inside(settings: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """A section of a config, empty where there is none."""
    for key in keys:
        found = settings.get(key)
        settings = found if isinstance(found, Mapping) else {}
    return settings
