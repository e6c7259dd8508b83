"""Phase 3: where objects lie in the bucket, and that a bucket out of reach is seen.

The prefixes are what lifecycle rules and access policies name, so they are part of the contract.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.acceptance.llma import outage
from tests.acceptance.llma.blob import parse_key, place_of
from tests.acceptance.llma.generators import KILOBYTE
from tests.acceptance.llma.polling import until

pytestmark = pytest.mark.phase_3


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def test_an_object_lies_below_its_team_and_day_at_the_default_retention(sent, bucket, team, data):
    blob = data.blob("text", KILOBYTE)
    first_day = today()
    found = sent(blob)
    key = parse_key(place_of(found, blob).key)
    assert (key.prefix, key.team_id, key.event_uuid) == ("llma", team.id, found.uuid)
    assert key.date in (first_day, today())
    assert bucket.keys(f"llma/{team.id}/{key.date}/") == bucket.keys_of_team(team.id)


def test_another_retention_has_a_prefix_of_its_own_beside_the_default(
    sent, api, bucket, team, data
):
    api.update_team(team.id, retention_days=7)
    blob = data.blob("text", 100)

    def key_of_a_new_event():
        key = parse_key(place_of(sent(blob), blob).key)
        return key if key.prefix == "llma-7d" else None

    key = until(key_of_a_new_event, "the retention is followed", seconds=10)
    assert bucket.keys(f"llma-7d/{team.id}/{key.date}/") != []


def test_the_service_may_write_read_and_delete_its_objects(sent, api, bucket, teams, data):
    team, blob = teams.create(), data.blob("text", KILOBYTE)
    found = sent(blob, to=team)
    url = found.properties[blob.name]
    read = api.call("GET", f"projects/{team.id}/blobs/", params={"url": url})
    assert read.content == blob.data
    assert len(bucket.keys_of_team(team.id)) == 1
    api.delete_team(team.id)
    api.wait_until_deleted(team.id)
    assert bucket.keys_of_team(team.id) == []


def test_a_bucket_in_reach_is_ready(capture):
    assert capture.readiness() == (True, {"log": "ok", "blobs": "ok"})


@pytest.mark.outage
@pytest.mark.parametrize("pair", [outage.S3, outage.S3_RIGHTS], ids=["connection", "rights"])
def test_a_bucket_out_of_reach_is_seen_in_readiness_and_refuses_uploads(
    capture, team, data, outages, sent, pair
):
    blob = data.blob("text", KILOBYTE)
    with outages.of(pair) as s3:
        s3.begin()
        until(lambda: not capture.readiness()[0], "readiness sees the outage")
        checks = capture.readiness()[1]
        assert checks["blobs"] != "ok"
        assert checks["log"] == "ok"
        refused = capture.send_event(team.token, data.event(), data.properties(), [blob])
        assert refused.status_code == 503
        s3.end()
    until(lambda: capture.readiness()[0], "readiness sees the end of the outage")
    assert place_of(sent(blob), blob).size > 0
