"""What reads of incidents and of their tools' executions leave out, on either database."""

import pytest

from nilometer.database.fence import EVERY_ROW
from nilometer.incidents.incident import Status
from nilometer.incidents.packs.store import Packs
from nilometer.incidents.reads import IncidentReads
from nilometer.incidents.tools import history
from nilometer.incidents.tools.history import History
from nilometer.incidents.views import LetterState
from tests.database.both import KINDS, opened
from tests.incidents.handling import PACK, REFUSED, Handling

REDACTED = {**PACK, "normalisation": {"redaction": {"paths": ["order"]}}}


@pytest.fixture(params=KINDS)
def handling(request, tmp_path):
    with opened(request, tmp_path) as database:
        yield Handling(database, PACK)


@pytest.fixture
def read(handling):
    """Asks the reads of the project for something."""

    def ask(wanted):
        with handling.database.read(EVERY_ROW) as session:
            return wanted(IncidentReads(session, handling.project_id))

    return ask


def test_a_payload_is_withheld_until_intake_has_redacted_it(handling, read):
    packs = Packs(handling.database)
    packs.add(handling.project_id, REDACTED)
    packs.activate(handling.project_id, "orders", 1)
    handling.use(REDACTED)
    given = handling.one()
    assert read(lambda reads: reads.withholds_payload(given))
    handling.run()
    assert handling.incident(given).payload == {"order": "[redacted:path]"}
    assert not read(lambda reads: reads.withholds_payload(given))


def test_a_list_of_dead_letters_is_without_what_their_stages_were_given(handling, read):
    handling.tools.next(REFUSED)
    given = handling.one()
    handling.run()
    assert handling.incident(given).status is Status.FAILED
    everything = {"queue": None, "incident_id": None, "limit": 10, "before": None}
    page = read(lambda reads: reads.dead_letters(LetterState.OPEN, **everything))
    [letter] = page.rows
    assert (letter.incident_id, letter.queue) == (given, "tool")
    assert not hasattr(letter, "payload")
    whole = read(lambda reads: reads.dead_letter(letter.id))
    assert whole.payload["tool"] == "notify"
    assert whole.id == letter.id


def test_a_page_of_executions_holds_one_at_least(handling, monkeypatch):
    for _ in range(2):
        handling.one()
    handling.run()
    monkeypatch.setattr(history, "MAX_PAGE", 1)
    own = History(handling.database)
    first = own.list(handling.project_id)
    second = own.list(handling.project_id, cursor=first.next)
    assert (len(first.rows), len(second.rows), second.next) == (1, 1, None)
    assert first.rows[0].id != second.rows[0].id
