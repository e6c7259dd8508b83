"""What a move finds again of a record's sequence is what the door gave it."""

import pytest

from nilometer.log.envelope import Envelope
from nilometer.log.port import Position, Record
from nilometer.migrate_data.sequences import sequence_of
from tests.capture.door import Door, form, new_uuid, whole_event
from tests.capture.test_posthog_v0 import batch, post, sent


def found(envelope: Envelope) -> str | None:
    return sequence_of(Record(Position(0, 0), envelope.headers(), envelope.payload))


def test_of_an_event_with_its_blobs(door: Door):
    assert door.post(form(whole_event())).status_code == 200
    [envelope] = door.log.envelopes
    assert found(envelope) == envelope.sequence is not None


@pytest.mark.parametrize("uuids", [(new_uuid(), new_uuid()), (new_uuid().upper(), None)])
def test_of_a_batch(door: Door, uuids: tuple[str | None, ...]):
    assert post(door, batch(door, *(sent(uuid=each) for each in uuids))).status_code == 200
    [envelope] = door.log.envelopes
    assert found(envelope) == envelope.sequence is not None
