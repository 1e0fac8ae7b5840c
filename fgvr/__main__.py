"""`python -m fgvr COMMAND`: the commands of a run and the tools, with every error of the user's as one sentence."""

from __future__ import annotations

import importlib
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import fgvr
from fgvr.errors import Unfinished, UserError, sentence_of_disk, shown
from fgvr.signals import Stop, importing, listening
from fgvr.watchdog.beats import watched


class Tool(NamedTuple):
    """A plain function that becomes a command; its parameters become options. It returns what to do next.

    `words` are those that the command's first words stand for, without their names; "runs..." takes all as a list.
    """

    module: str
    function: str
    help: str
    words: tuple[str, ...] = ()


RUNS = {
    "fit": "train, or go on training, and evaluate the final weights",
    "validate": "evaluate a checkpoint of a run on the validation data",
    "test": "evaluate a checkpoint of a run on the test data",
    "predict": "name photos without labels: predict MODEL PHOTOS, a table and a page with pictures",
    "estimate": "tell what a training would hold in memory, from its config alone",
    "prefetch": "tell what a training needs where there is no network, and fetch what the hub has of it",
    "doctor": "tell whether a run can go on, from where, what is damaged, and what to type",
}
AUDIT = "--audit"
WATCHED = ("fit", "validate", "test", "predict")
QUIET = "--quiet"
PREDICT = Tool("fgvr.tools.predict", "predict", RUNS["predict"], ("model", "photos"))
OF_A_CONFIG = ("--config", "-c", "--run", "--trainer", "--data.", "--model.", "--ckpt_path", "--seed_everything")
TOOLS = {
    "shards": Tool("fgvr.tools.shards", "shards", "pack labelled photos into shards"),
    "audit": Tool("fgvr.tools.audit", "audit", "look for what should not be in shard sets: copies, look-alikes, leaks"),
    "mine": Tool("fgvr.tools.mine_options", "mine", "sample a model's answers and make options of choice of them"),
    "cot": Tool("fgvr.tools.build_cot", "cot", "let a teacher write reasoning for labelled photos, checked"),
    "export": Tool("fgvr.tools.export", "export", "write a run's model as a folder that transformers opens"),
    "tasks": Tool("fgvr.tools.tasks", "tasks", "write shard sets as tasks of lmms-eval, judged as fgvr judges"),
    "calibrate": Tool(
        "fgvr.tools.calibrate", "calibrate", "find from which confidence on a model's names can be trusted", ("model",)
    ),
    "judgements": Tool("fgvr.tools.judgements", "judgements", "carry a judge's verdicts from one machine to another"),
    "env": Tool(
        "fgvr.tools.environment", "env", "tell what an account of a problem needs: versions, devices, variables"
    ),
    "ladder": Tool("fgvr.tools.ladder", "ladder", "tell what two-step inference and its training add, rung by rung"),
    "report": Tool(
        "fgvr.tools.report", "report", "show runs as a page of HTML: report RUN [RUN ...] --out DIR", ("runs...",)
    ),
}


def main(args: list[str] | None = None) -> int:
    """Returns 0, 2 for an error the user can mend, 75 for a training that the next job goes on with, 76 for one that a
    callback has ended, 129 for SIGHUP, 130 for Ctrl-C, 143 for SIGTERM; a bug keeps its traceback.
    """
    if args is None:
        args = sys.argv[1:]
        _import_from_here()
        if args and args[0] in WATCHED and not _names_photos(args):  # this process is the run's own
            with watched():
                return main(args)
    # Before torch is loaded: on a shared CPU its threads, which wait by spinning, make a step ten times slower.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    # until a start is counted its warnings wait: a job that is always warned at once must come to an end
    held = Stop.USR1 if args[:1] == ["fit"] else Stop.NONE
    try:
        with listening(held):
            return _run(args)
    except UserError as error:
        return _refuse(str(error))
    except KeyboardInterrupt as stop:
        return _stopped(stop, "Ctrl-C", 130)
    except Unfinished as stop:
        return _stopped(stop, stop.by, stop.exit_code)
    except SystemExit as leave:
        if isinstance(leave.__context__, KeyboardInterrupt):  # lightning turns Ctrl-C into exit 1
            return _stopped(leave, "Ctrl-C", 130)
        return leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    except OSError as error:
        sentence = sentence_of_disk(error)
        if sentence is None:
            raise
        return _refuse(sentence)


def _import_from_here() -> None:
    """Classes of one's own lie where the command is typed: `fgvr` finds them there as `python -m fgvr` does."""
    if not sys.flags.safe_path and not {"", os.getcwd()} & {*sys.path}:
        sys.path.insert(0, os.getcwd())


def _run(args: list[str]) -> int:
    quiet = QUIET in args
    args = [arg for arg in args if arg != QUIET]
    if not args or args[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if args[0] in ("-V", "--version"):
        print(f"fgvr {fgvr.__version__}")
        return 0
    command = args[0]
    if command.startswith("-"):
        verb = next((arg for arg in args if arg in RUNS or arg in TOOLS), None)
        rest = " ".join(arg for arg in args if arg != verb)
        raise UserError(f"The command comes first: python -m fgvr {verb or 'COMMAND'} {rest}.")
    if command == "doctor":
        (tool,) = _imported("fgvr.tools.doctor")
        return tool.doctor(args[1:])
    if _names_photos(args):
        _tell(_run_tool(command, args[1:], PREDICT), quiet)
        return 0
    if command in RUNS:
        return _run_lightning(args, quiet)
    if command == "shards" and any(_is_audit(arg) for arg in args):
        sets = [f"--sets{arg[len(AUDIT) :]}" if _is_audit(arg) else arg for arg in args[1:]]
        return _run(["audit", *sets, *[QUIET] * quiet])
    if command in TOOLS:
        options = _with_auto(args[1:]) if command == "shards" else args[1:]
        _tell(_run_tool(command, options, TOOLS[command]), quiet)
    else:
        import difflib

        near = difflib.get_close_matches(command, [*RUNS, *TOOLS], n=1)
        hint = f"the nearest is {near[0]}" if near else f"there are {', '.join([*RUNS, *TOOLS])}"
        raise UserError(f"There is no command {command}; {hint}.")
    return 0


def _is_audit(arg: str) -> bool:
    return arg.split("=")[0] == AUDIT


def _names_photos(args: list[str]) -> bool:
    """Whether `predict` is given a model to name photos, and not a run's config to do it with the Trainer."""
    if args[:1] != ["predict"]:
        return False
    by_word = len(args) > 1 and not args[1].startswith("-")
    return by_word or not any(arg.startswith(OF_A_CONFIG) for arg in args[1:])


def _worded(words: tuple[str, ...], args: list[str]) -> list[str]:
    """The words that a command begins with, as the options that they are."""
    count = next((place for place, arg in enumerate(args) if arg.startswith("-")), len(args))
    options = list[str]()
    for place, name in enumerate(words[:count]):
        whole = name.removesuffix("...")
        if whole != name:
            return [*options, f"--{whole}={_as_yaml(args[place:count])}", *args[count:]]
        options += [f"--{name}", args[place]]
    return [*options, *args[min(count, len(words)) :]]


def _as_yaml(words: list[str]) -> str:
    """A list in one line."""
    import yaml

    return yaml.safe_dump(words, default_flow_style=True, allow_unicode=True, width=10**9).strip()


def _with_auto(args: list[str]) -> list[str]:
    """`--source auto DIR` in full: the class that recognises layouts, and its root."""
    args = [part for arg in args for part in (["--source", arg[9:]] if arg.startswith("--source=") else [arg])]
    if args and not args[0].startswith("-"):
        folder = shlex.quote(next((word for word in args[:2] if os.path.isdir(word)), "FOLDER"))
        raise UserError(f"What is packed must be named by --source, got {args[0]}: give it as --source auto {folder}.")
    for place in range(1, len(args)):
        if args[place - 1] == "--source" and args[place].casefold() == "auto":
            given = args[place + 1 : place + 2]
            root = [] if not given or given[0].startswith("-") else ["--source.root", given[0]]
            return [*args[:place], "Auto", *root, *args[place + 1 + len(given) * bool(root) :]]
    return args


def _with_within(args: list[str]) -> list[str]:
    """`--within NAME` in full, behind the config that says which data it is a setting of."""
    kept, given = list[str](), list[str]()
    words = iter(args)
    for word in words:
        if word == "--within":
            name = next(words, None)
            if name is None:
                raise UserError("--within needs a name of the taxonomy, as in --within NAME")
            given += ["--data.init_args.within", name]
        elif word.startswith("--within="):
            given.append(f"--data.init_args.{word[2:]}")
        else:
            kept.append(word)
    return [*kept, *given]


def _run_lightning(args: list[str], quiet: bool) -> int:
    exceptions, cli = _imported("lightning.fabric.utilities.exceptions", "fgvr.cli")
    args = _with_within(args)
    try:
        if args[0] == "estimate":
            from fgvr.tools.estimate import estimate

            _tell(estimate(args[1:]), quiet)
        elif args[0] == "prefetch":
            from fgvr.tools.prefetch import prefetch

            return prefetch(args[1:], quiet)
        else:
            cli.run_cli(args, quiet)
    except exceptions.MisconfigurationException as error:
        raise UserError(str(error)) from error
    return 0


def _run_tool(command: str, args: list[str], tool: Tool) -> str | None:
    module, _ = _imported(tool.module, "fgvr.cli_help")
    from jsonargparse import ActionConfigFile, ArgumentError  # pyright: ignore[reportPrivateImportUsage]

    from fgvr.cli_help import explain
    from fgvr.settings.lacking import form_of
    from fgvr.settings.said import SayingParser, complete_help

    function: Callable[..., Any] = getattr(module, tool.function)
    prog = f"python -m fgvr {command}"
    parser = SayingParser(prog=prog, description=tool.help, parser_mode="omegaconf", exit_on_error=False)
    parser.add_argument("-c", "--config", action=ActionConfigFile, help="a yaml file with the options below")
    parser.add_function_arguments(function)
    parser.form = form_of(prog, function, tool.words)
    args = complete_help(parser, _worded(tool.words, args))
    try:
        options = parser.instantiate(parser.parse_args(args))
    except (ArgumentError, ValueError, TypeError) as error:
        raise UserError(explain(parser, args, error)) from error
    return function(**{key: value for key, value in options.items() if key != "config"})


def _imported(*modules: str) -> list[Any]:
    """The modules, which bring torch and others with them."""
    with importing():
        return [importlib.import_module(module) for module in modules]


def _tell(next_steps: str | None, quiet: bool) -> None:
    """The last sentence of a tool."""
    if next_steps and not quiet:
        print(shown(next_steps, keep="\n"))


def _overview() -> str:
    width = max(map(len, [*RUNS, *TOOLS])) + 2
    runs = [f"  {name:<{width}}{text}" for name, text in RUNS.items()]
    tools = [f"  {name:<{width}}{tool.help}" for name, tool in TOOLS.items()]
    return "\n".join(
        [
            f"fgvr {fgvr.__version__}: name what is in a photo as finely as one can without being wrong",
            "",
            "usage: python -m fgvr COMMAND [--config FILE ...] [--SETTING VALUE ...]     (or fgvr COMMAND ...)",
            "",
            "runs:",
            *runs,
            "",
            "tools:",
            *tools,
            "",
            "python -m fgvr COMMAND --help says what a command takes, with --model.help, --data.help or --source.help",
            "what their settings mean; --print_config prints the whole config of a run. Each command ends with what to",
            "do next, which --quiet leaves out; a run then tells of warnings and figures alone.",
        ]
    )


def _refuse(message: str) -> int:
    from fgvr.cli_help import one_line

    _say(f"fgvr: {shown(one_line(message))}")
    return 2


def _stopped(stop: BaseException, by: str, code: int) -> int:
    notes: list[str] = getattr(stop, "__notes__", [])  # a training says how it goes on
    _say(" ".join([f"fgvr: stopped by {by}.", *notes]))
    return code


def _say(sentence: str) -> None:
    """Where nobody can hear it, the terminal being closed, the exit code stays the truth."""
    with suppress(OSError):
        print(sentence, file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with open(os.devnull, "w") as nothing:
                os.dup2(nothing.fileno(), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
