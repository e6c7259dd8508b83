"""The refusal of a part of a query."""

from __future__ import annotations


class Refusal(Exception):
    """Why a part of a query is refused, before its place in the user's text is looked up.

    `word` is a word of the query near the fault, to find that place by: where it follows `after`,
    if that is given.
    """

    def __init__(
        self,
        sentence: str,
        word: str | None = None,
        code: str = "invalid_query",
        *,
        after: str | None = None,
    ) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.word = word
        self.code = code
        self.after = after
