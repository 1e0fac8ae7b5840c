"""Data that were tokenised elsewhere: their ids are not taken."""

from __future__ import annotations

from collections.abc import Iterable

from fgvr.errors import UserError

# what data that was tokenised elsewhere calls its ids: of these nobody can say what they would put into a prompt
TOKEN_IDS = frozenset(
    {"input_ids", "token_ids", "prompt_ids", "prompt_token_ids", "completion_ids", "response_ids", "response_token_ids"}
)


def refuse_token_ids(file: object, columns: Iterable[str]) -> None:
    """Raises UserError when data bring tokens by their ids: texts alone enter a prompt or a target."""
    if given := sorted(TOKEN_IDS & {*columns}):
        raise UserError(
            f"{file} must bring texts, which are checked for control tokens, but it has token ids under "
            f"{', '.join(given)}: take them out, and the texts are tokenised for the model that is asked"
        )
