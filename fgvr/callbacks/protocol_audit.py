"""Beside a validation or test: how far each choice of a closed-world protocol moves the policy's figure."""

from __future__ import annotations

import json
import logging
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fgvr.callbacks.final_metrics import PIPED
from fgvr.callbacks.protocol_photos import EncoderBaseline, Support, classes_of, compared
from fgvr.data.closed_world import ClosedWorld
from fgvr.data.collate import encode_prompt
from fgvr.data.tasks import Task
from fgvr.errors import UserError, refuse_below
from fgvr.metrics.protocol.audit import COLUMNS, Audit, as_markdown, audit, table_rows
from fgvr.metrics.protocol.open_world import Said, open_figures, said_in
from fgvr.metrics.protocol.passes import Pass, variants
from fgvr.metrics.protocol.questions import STRENGTHS, Questions
from fgvr.models.text_encoder import TextEncoder, own_text_encoder, text_encoder
from fgvr.modules import PolicyModule
from fgvr.ranks import of_all_ranks
from fgvr.similarity import Similarity, TowerCentroids
from fgvr.types import Example, PromptBatch
from fgvr.whole_files import write_whole

UNTOLD = "The policy was not told the options: they bound its answers, and nothing of their order could move them."
log = logging.getLogger(__name__)


class ProtocolAudit(Callback):
    """Asks about every photo of a validation or test among options, in as many ways as a protocol may differ.

    Our protocol: `options` names (those of `choice`, else 4), the distractors of `main` strength, shuffled under each
    of `seeds` seeds, one single choice; what names no option, or several, is wrong and counted. Beside it: the other
    `strengths` (random, siblings, hardest by `similarity`, stored); the label first, and the released rule of Fine-R1
    (`released`); a grey picture in the photo's place (`blank`); who always picks the first option; and `encoders` on
    the same questions, after the photos that are trained on. `choice` is how a choice is asked for; None takes the
    data's task if that is one, else its question and whether it thinks. It does nothing during a training.

    Where the data's task is open, its answers are figured by text inclusion and by semantic similarity too, the latter
    by the `text_encoder` in a folder, or by the embeddings of the policy's own tokens; `dropped_words` are the words
    that a data set's names do without at their ends (Fine-R1: two of cars').

    Writes audit.md, audit.json and audit_replies.jsonl into the Trainer's root folder, prints the table, and logs
    `audit/...`. Raises UserError for a strength that there is none of, fewer than one seed, two encoders of one name,
    and without a policy or a data module of fgvr.datamodules.
    """

    def __init__(
        self,
        choice: Task | None = None,
        options: int | None = None,
        seeds: int = 3,
        main: str = "siblings",
        strengths: list[str] | None = None,
        similarity: Similarity = TowerCentroids(),  # noqa: B008 - settings only
        released: bool = True,
        blank: bool = True,
        encoders: list[EncoderBaseline] | None = None,
        text_encoder: Path | None = None,
        dropped_words: dict[str, int] | None = None,
    ) -> None:
        self.strengths = ["random", "siblings", "hardest"] if strengths is None else list(strengths)
        if unknown := [name for name in (main, *self.strengths) if name not in STRENGTHS]:
            raise UserError(f"the strengths of distractors are {', '.join(STRENGTHS)}, got {unknown[0]!r}")
        if choice is not None and (not isinstance(choice, ClosedWorld) or choice.options == "all"):
            raise UserError("choice must be a fgvr.data.ClosedWorld with a number of options, as it asks among these")
        if choice is not None and choice.none_of_these:
            raise UserError("each question of an audit has a right option: set none_of_these to 0 in its choice")
        if choice is not None and options not in (None, choice.options):
            raise UserError(f"choice asks among {choice.options} options already, but options is {options}: drop it")
        names = [one.name for one in encoders or []]
        if twice := [name for name in names if names.count(name) > 1]:
            raise UserError(
                f"encoders must differ in the names of their folders or in their shots, but two are {twice[0]!r}: they "
                "would share a row of the table, so rename a folder or drop one"
            )
        refuse_below(1, "the audit", seeds=seeds)
        refuse_below(0, "dropped_words", **(dropped_words or {}))
        self.choice: ClosedWorld | None = choice
        self.seeds, self.main, self.similarity = seeds, main, similarity
        self.options = (4 if options is None else options) if choice is None else int(choice.options)
        self.released, self.blank, self.encoders = released, blank, list(encoders or [])
        self.text_folder, self.dropped = text_encoder, dict(dropped_words or {})
        ClosedWorld(self.options)  # refuses a number out of its range
        self.found: Audit | None = None
        self._pass: Pass | None = None
        self._said: list[Said] = []
        self._support: list[Support] = []
        self._encode: TextEncoder | None = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._pass, self._said, self._support, self.found, self._encode = None, [], [], None, None
        if trainer.state.fn not in (TrainerFn.VALIDATING, TrainerFn.TESTING):
            return
        data: Any = getattr(trainer, "datamodule", None)
        if data is None or not isinstance(pl_module, PolicyModule) or not hasattr(data, "eval_sets"):
            raise UserError(
                "an audit needs a policy, and a data module with photos and a taxonomy: use a module of fgvr.modules "
                "and a data module of fgvr.datamodules"
            )
        for one in self.encoders:
            one.check()
        if self.text_folder and not isinstance(data.task, ClosedWorld):  # now, not once everything has been asked
            self._encode = text_encoder(self.text_folder)
        task = self._task(data.task).bind(data.taxonomy).opened(pl_module.processor.opening)
        split = "test" if trainer.state.fn == TrainerFn.TESTING else "val"
        strengths = dict.fromkeys((self.main, *self.strengths))
        rankings = {}
        if "hardest" in strengths:
            self.similarity.check()
            classes = compared(data, split, pl_module.trained_policy)
            found = {name: self.similarity.nearest(one, self.options - 1) for name, one in classes.items()}
            rankings = of_all_ranks([found])[0]  # whatever a device rounds differently
        asked = variants(self.main, tuple(strengths), range(self.seeds), self.blank, self.released)
        self._pass = Pass(Questions(task, classes_of(data, split), rankings), asked)
        with trainer.precision_plugin.forward_context():
            self._support = [one.support(data, pl_module.trained_policy) for one in self.encoders]

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: PromptBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._pass is None or not isinstance(pl_module, PolicyModule):
            return
        task, module = self._pass.questions.task, pl_module

        def answers(examples: Sequence[Example]) -> list[str]:
            rng = random.Random(0)  # a choice that is drawn already draws nothing
            prompts = [encode_prompt(module.processor, task, one, rng) for one in examples]
            moved = [prompt.to(module.device) for prompt in prompts]
            written = module.trained_policy.answers(moved, module.max_new_tokens)
            return [module.processor.decode(ids) for ids in written]

        with trainer.precision_plugin.forward_context():
            self._pass.add(batch.examples, answers)
            for one in self._support:
                if batch.examples:
                    features = one.encode(batch.examples)
                    self._pass.add_encoded(batch.examples, one.name, one.heads, features, self.main)
        data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        if not isinstance(data.task, ClosedWorld):
            self._said += [
                Said(one.cohort, one.dataset, one.uid, one.label, said_in(text))
                for one, text in zip(batch.examples, outputs, strict=True)
            ]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._pass is None or not isinstance(pl_module, PolicyModule):
            return
        replies, said = sorted(of_all_ranks(self._pass.replies)), of_all_ranks(self._said)
        notes = sum(of_all_ranks([self._pass.notes]), Counter[str]())
        for one in self._support:
            notes |= one.notes
        told = self._pass.questions.task.told
        self._pass, self._said, self._support = None, [], []
        if not replies:
            log.warning("an audit found no photo to ask about")
            return
        data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        found = audit(replies, self.main, notes, self._open(pl_module, said, data.taxonomy.root))
        self.found = found if told else replace(found, said=(UNTOLD, *found.said))
        pl_module.log_dict(figures_of(self.found), sync_dist=True, reduce_fx="max")  # of all ranks already
        if trainer.is_global_zero:
            _write(Path(trainer.default_root_dir), self.found, [asdict(reply) for reply in replies])

    on_test_start = on_validation_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end

    def _task(self, task: Task) -> ClosedWorld:
        if self.choice is not None:
            return self.choice
        if isinstance(task, ClosedWorld):
            return ClosedWorld(self.options, task.letters, task.question, task.think)
        return ClosedWorld(self.options, question=task.question, think=task.think)

    def _open(self, module: PolicyModule, said: Sequence[Said], root: str) -> Mapping[str, Mapping[str, float]]:
        if not said:
            return {}
        if strange := sorted(self.dropped.keys() - {one.dataset for one in said}):
            log.info("dropped_words has %s, of which no photo was asked about.", ", ".join(strange))
        encode, self._encode = self._encode or own_text_encoder(module.trained_policy), None
        return open_figures(said, encode, root, self.dropped)


def figures_of(found: Audit) -> dict[str, float]:
    """What is logged of an audit."""
    ours = found.lines[0].scores
    named = {f"audit/{name}": figure[0] for name, figure in ours.means.items()}
    low, high = ours.means["all"][1:]
    named |= {"audit/all_low": low, "audit/all_high": high, "audit/swing": found.swing, "audit/chance": found.chance}
    return named | {
        "audit/position_bias": ours.position_bias,
        "audit/outside": ours.outside,
        "audit/unread": ours.unread,
    }


def _table(found: Audit) -> Table:
    """As wide as it may be; where that is not enough words go on below, as what is cut tells no two rows apart."""
    table = Table(title="Audit of the closed-world protocol (per cent)")
    for column in COLUMNS:
        table.add_column(column, overflow="fold")
    for row in table_rows(found):
        table.add_row(*map(escape, row))
    return table


def _write(folder: Path, found: Audit, replies: Sequence[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "audit.json", (json.dumps(found.as_dict(), ensure_ascii=True, indent=1) + "\n").encode())
    write_whole(folder / "audit.md", as_markdown(found).encode("utf-8", "backslashreplace"))
    write_whole(folder / "audit_replies.jsonl", "".join(json.dumps(row) + "\n" for row in replies).encode())
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, PIPED)
    console.print(_table(found))
    for sentence in found.said:
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    for note, count in found.notes.items():
        if count:
            log.info("%s: %d photos", note, count)
