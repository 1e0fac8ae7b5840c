"""What a user meets instead of tracebacks: what must hold, what was given, what to change. And what may be shown.

A sentence holds names from data, and a name can hold what a terminal obeys. So whatever is printed or logged goes
through `shown`; the errors do it themselves.
"""

from __future__ import annotations

import errno
import unicodedata

AGAIN = 75  # exit code of a run that the next job goes on with; sysexits.h calls it "try again"
FULL = (errno.ENOSPC, errno.EDQUOT)  # no room on the disk, or none that its user may have
ENOUGH = 76  # exit code of a run that a callback has ended before its last step
BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
UNSEEN = frozenset(("Cc", "Cs", "Co", "Zl", "Zp"))


def unseen(letter: str) -> bool:
    """True for what is not seen but obeyed or guessed at: control characters, direction marks, lone surrogates."""
    return letter in BIDI or unicodedata.category(letter) in UNSEEN


def shown(text: str, keep: str = "") -> str:
    """Text that came from data, fit for a terminal and a log: what is `unseen` stands as an escape, save `keep`.

    A byte of a file name that is not UTF-8 stands as that byte (\\xff).
    """
    if text.isprintable():
        return text
    return "".join(_escape(letter) if unseen(letter) and letter not in keep else letter for letter in text)


def _escape(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode("ascii")


class _Sentence(ValueError):
    def __str__(self) -> str:
        return shown(super().__str__(), keep="\n\t")


class UserError(_Sentence):
    """Something the user can mend: a setting, a path, a file. Shown without a traceback by the command line."""


class SampleError(_Sentence):
    """One sample cannot be used. It is counted, named and quarantined; past the stated share the run stops."""


def refuse_below(least: int, owner: str, /, **numbers: float | None) -> None:
    """Raises UserError for the first of an owner's numbers that is below `least`; None is a number left out."""
    for name, value in numbers.items():
        if value is not None and not value >= least:
            raise UserError(f"{owner}.{name} must be at least {least}, got {value}")


def refuse_no_share(owner: str, /, **shares: float) -> None:
    """Raises UserError for the first of an owner's shares that is not between 0 and 1."""
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise UserError(f"{owner}.{name} is a share and must be between 0 and 1, got {value}")


def sentence_of_disk(error: OSError) -> str | None:
    """What a user is told of a file that could not be read or written; None where no file is known."""
    if error.errno in FULL:
        what = error.filename or "The output"
        gone = "the disk is full" if error.errno == errno.ENOSPC else "its user's share of the disk is used up"
        return f"{what} must find room, but {gone} ({error.strerror}): make room, then start again."
    return None if error.filename is None else f"{error.filename}: {error.strerror}."


class Unfinished(SystemExit):
    """A training that ends before it is complete, because of `by`; the same command goes on with it.

    Its exit code is AGAIN where a job is to be queued again, ENOUGH where the run's own settings have ended it.
    """

    def __init__(self, by: str, code: int = AGAIN) -> None:
        super().__init__(code)
        self.by, self.exit_code = by, code
