"""Dead letters, read again: by a release that knows more, or with a repository said by hand, which
is also of records that name one by what is no name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from nilometer.importers import parsing
from nilometer.importers.ingestion import Work
from nilometer.importers.priced import Pricer
from nilometer.importers.store.letters import Letter
from nilometer.importers.store.store import Run
from nilometer.importers.trace_call import Reason

_OF_A_PART = (Reason.NOT_JSON, Reason.NOT_UTF8)
"""What a record that is cut short is by itself."""


@dataclass(slots=True)
class Replayed:
    """How many letters were read, and how many are left."""

    read: int = 0
    left: int = 0


def replay(run: Run, letters: Iterable[Letter], work: Work) -> Replayed:
    """Read each again. What can be read is kept, and its letter deleted, in one transaction; what
    cannot stays, with why this time: a part of a line stays one, until its file has the rest."""
    pricer, done = Pricer(work.prices), Replayed()
    options = replace(work.options, is_replay=True)
    for letter in letters:
        if not letter.whole or not letter.raw:
            done.left += 1
            continue
        parsed = parsing.parse_record(
            letter.raw, options, line=letter.line or 1, offset=letter.offset
        )
        if parsed.rejected:
            again = parsed.rejected[0]
            why = (str(again.reason), again.detail)
            if letter.reason == Reason.CUT_SHORT and again.reason in _OF_A_PART:
                why = (letter.reason, letter.detail)
            with run.store.transaction():
                run.store.letters.tried_again(letter.id, *why)
            done.left += 1
        else:
            run.keep(pricer.rows(parsed.calls).rows, answered=[letter.id])
            done.read += 1
    return done
