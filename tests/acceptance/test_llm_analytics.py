"""Every scenario of the LLM-analytics acceptance plan, by its number and phase.

1.1, 2.1 to 2.4, 4.1 to 4.3, 5.1, cross-team isolation, 7.1, E.1 and E.2. The phases that the plan
leaves to the implementation (3, 6 and 8), and more of phases 1 and 5, are in modules of their own
beside this one.

Each test uses teams of its own, speaks HTTP and S3 only, and leaves nothing behind.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from tests.acceptance.llma import blob as stored
from tests.acceptance.llma import outage
from tests.acceptance.llma.api import Api
from tests.acceptance.llma.generators import EVENT_TYPES, KILOBYTE, KINDS, MEGABYTE, SIZES
from tests.acceptance.llma.multipart import Blob, Form, event_parts, form
from tests.acceptance.llma.polling import until

# Phase 1: HTTP endpoint. Scenario 1.1: event processing verification


@pytest.mark.phase_1
def test_basic_ai_generation_event(capture, api, team, data):
    event, properties = data.event(), data.properties()
    blobs = [data.blob("json", KILOBYTE), data.blob("text", 100, "$ai_output")]
    answer = capture.send_event(team.token, event, properties, blobs)

    assert answer.status_code == 200, answer.text
    parts = event_parts(event, properties, blobs)
    assert answer.json() == {
        "accepted_parts": [
            {
                "name": part.name,
                "length": len(part.body),
                "content-type": part.headers["Content-Type"],
                "content-encoding": None,
            }
            for part in parts
        ]
    }
    found = api.wait_for_event(team.id, event["uuid"])
    assert (found.event, found.distinct_id) == (event["event"], event["distinct_id"])
    assert {name: found.properties[name] for name in properties} == properties
    assert set(found.properties) == {*properties, "$ai_input", "$ai_output"}
    places = [stored.place_of(found, blob) for blob in blobs]
    assert places[0].key == places[1].key
    assert len({(place.start, place.end) for place in places}) == 2


@pytest.mark.phase_1
@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_all_accepted_ai_event_types(sent, data, event_type):
    blob = data.blob("json", 200, "$ai_blob")
    found = sent(blob, event_type=event_type)
    assert found.event == event_type
    assert found.properties["$ai_model"]
    assert stored.place_of(found, blob).size > len(blob.data)


@pytest.mark.phase_1
def test_an_event_without_blobs_is_stored_without_an_object(sent, bucket, team):
    found = sent()
    assert found.properties["$ai_model"]
    assert bucket.keys_of_team(team.id) == []


# Phase 2: basic S3 uploads. Scenario 2.1: individual blob upload


@pytest.mark.phase_2
@pytest.mark.parametrize(
    ("kind", "size"),
    [(kind, size) for kind in KINDS for size in ("1KB", "100KB", "1MB", "10MB")]
    + [("binary", "24MB")],
)
def test_a_blob_of_any_size_and_kind_is_stored_as_it_was_sent(sent, bucket, data, kind, size):
    blob = data.blob(kind, SIZES[size])
    part = bucket.get_part(stored.place_of(sent(blob), blob))
    assert (part.name, part.content_type) == (blob.name, blob.content_type)
    assert part.data == blob.data


@pytest.mark.phase_2
def test_each_event_has_an_object_of_its_own(sent, bucket, team, data):
    blob = data.blob("text", KILOBYTE)
    first, second = sent(blob), sent(blob)
    keys = {stored.place_of(event, blob).key for event in (first, second)}
    assert len(keys) == 2
    assert set(bucket.keys_of_team(team.id)) == keys


# Scenario 2.2: S3 URL generation and access


@pytest.mark.phase_2
@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_the_urls_of_an_event_lead_to_its_blobs(sent, bucket, data, event_type):
    blobs = [data.blob("json", 3 * KILOBYTE, "$ai_first"), data.blob("binary", 9, "$ai_second")]
    found = sent(*blobs, event_type=event_type)
    for blob in blobs:
        place = stored.place_of(found, blob)
        assert place.bucket == bucket.name
        assert bucket.get(place.key)[place.start : place.end + 1] == bucket.get_range(place)
        assert bucket.get_part(place).data == blob.data


@pytest.mark.phase_2
def test_a_url_leads_to_the_same_blob_through_the_api(sent, api, team, data):
    blob = data.blob("text", 5 * KILOBYTE)
    found = sent(blob)
    answer = api.call(
        "GET", f"projects/{team.id}/blobs/", params={"url": found.properties[blob.name]}
    )
    assert answer.status_code == 200, answer.text
    assert answer.content == blob.data
    assert answer.headers["Content-Type"].startswith("text/plain")


# Scenario 2.3: blob metadata storage


@pytest.mark.phase_2
@pytest.mark.parametrize("size", ["1KB", "1MB"])
def test_an_object_tells_its_type_size_and_team(sent, bucket, team, data, size):
    blob = data.blob("binary", SIZES[size])
    found = sent(blob)
    place = stored.place_of(found, blob)
    head = bucket.head(place.key)
    assert head.content_type.startswith("multipart/mixed; boundary=")
    assert head.size == len(bucket.get(place.key)) > place.end
    assert head.metadata["team_id"] == str(team.id)
    assert head.metadata["event_id"] == found.uuid


# Scenario 2.4: team data isolation


@pytest.mark.phase_2
def test_teams_that_upload_at_once_write_below_their_own_prefixes(sent, bucket, teams, data):
    owners = [teams.create() for _ in range(3)]
    blobs = {owner.id: data.blob("text", 20 * KILOBYTE) for owner in owners}
    with ThreadPoolExecutor(6) as pool:
        sendings = [(owner, pool.submit(sent, blobs[owner.id], to=owner)) for owner in owners * 4]
    for owner, sending in sendings:
        place = stored.place_of(sending.result(), blobs[owner.id])
        assert stored.parse_key(place.key).team_id == owner.id
        assert bucket.get_part(place).data == blobs[owner.id].data
    for owner in owners:
        keys = bucket.keys_of_team(owner.id)
        assert len(keys) == 4
        assert {stored.parse_key(key).team_id for key in keys} == {owner.id}


# Phase 4: multipart file processing. Scenario 4.1: multipart file creation


@pytest.mark.phase_4
@pytest.mark.parametrize("count", range(2, 11))
def test_all_blobs_of_an_event_are_in_one_multipart_file(sent, bucket, team, data, count):
    blobs = data.blobs(count)
    found = sent(*blobs)
    [key] = bucket.keys_of_team(team.id)
    assert {stored.place_of(found, blob).key for blob in blobs} == {key}
    parts = stored.parse_object(bucket.head(key).content_type, bucket.get(key))
    assert [(part.name, part.content_type, part.data) for part in parts] == [
        (blob.name, blob.content_type, blob.data) for blob in blobs
    ]


@pytest.mark.phase_4
def test_a_multipart_file_keeps_its_parts_apart_whatever_they_hold(sent, bucket, data):
    nested = form(event_parts(data.event(), data.properties(), data.blobs(2, 500)))
    blobs = [
        Blob("$ai_form", "application/octet-stream", nested.body),
        Blob("$ai_lines", "text/plain", b"\r\n\r\n--\r\n----\r\n\r\n"),
        Blob("$ai_head", "text/plain", b"Content-Type: text/html\r\n\r\nnot a head"),
    ]
    found = sent(*blobs)
    key = stored.place_of(found, blobs[0]).key
    parts = stored.parse_object(bucket.head(key).content_type, bucket.get(key))
    assert [part.data for part in parts] == [blob.data for blob in blobs]


@pytest.mark.phase_4
@pytest.mark.parametrize("count", [2, 40])
def test_a_multipart_file_has_an_index_of_its_parts(sent, bucket, data, count):
    blobs = data.blobs(count, 100)
    found = sent(*blobs)
    place = stored.place_of(found, blobs[0])
    index = stored.index_of(bucket.head(place.key).metadata, bucket.get(place.key))
    assert [(each["name"], each["range"], each["type"]) for each in index] == [
        (
            blob.name,
            f"{stored.place_of(found, blob).start}-{stored.place_of(found, blob).end}",
            blob.content_type,
        )
        for blob in blobs
    ]


# Scenario 4.2: byte range URLs and access


@pytest.mark.phase_4
@pytest.mark.parametrize("count", [2, 5, 10])
def test_the_ranges_of_an_event_follow_each_other_and_hold_a_part_each(sent, bucket, data, count):
    blobs = data.blobs(count)
    found = sent(*blobs)
    places = [stored.place_of(found, blob) for blob in blobs]
    body = bucket.get(places[0].key)
    boundary = body.partition(b"\r\n")[0]
    assert places[0].start == len(boundary) + 2
    for before, after in pairwise(places):
        assert body[before.end + 1 : after.start] == b"\r\n" + boundary + b"\r\n"
    assert body[places[-1].end + 1 :].startswith(b"\r\n" + boundary + b"--\r\n")
    for blob, place in zip(blobs, places, strict=True):
        part = bucket.get_part(place)
        assert (part.name, part.data) == (blob.name, blob.data)


# Scenario 4.3: content type handling


@pytest.mark.phase_4
@pytest.mark.parametrize("size", ["1KB", "1MB"])
def test_json_text_and_binary_keep_their_types_side_by_side(sent, bucket, data, size):
    blobs = [data.blob(kind, SIZES[size], f"$ai_{kind}") for kind in KINDS]
    found = sent(*blobs)
    key = stored.place_of(found, blobs[0]).key
    parts = stored.parse_object(bucket.head(key).content_type, bucket.get(key))
    assert {part.name: part.content_type for part in parts} == {
        "$ai_json": "application/json",
        "$ai_text": "text/plain",
        "$ai_text-charset": "text/plain; charset=utf-8",
        "$ai_base64": "text/plain",
        "$ai_binary": "application/octet-stream",
    }
    assert [part.data for part in parts] == [blob.data for blob in blobs]


# Phase 5: authorization. Scenario 5.1: API key authentication

INVALID_KEYS = {
    "missing": (None, "event submitted without an api_key"),
    "empty": ("", "API key is not valid: empty"),
    "unknown": ("phc_this-key-belongs-to-nobody", "API key is not valid: "),
    "personal": ("phx_1234567890", "API key is not valid: personal_api_key"),
    "too long": ("k" * 65, "API key is not valid: too_long"),
}


@pytest.mark.phase_5
@pytest.mark.parametrize("case", INVALID_KEYS)
def test_ai_endpoint_invalid_auth_returns_401(capture, data, case):
    key, text = INVALID_KEYS[case]
    answer = capture.send_form(key, form(event_parts(data.event(), data.properties())))
    assert answer.status_code == 401
    assert answer.text.startswith(text)
    assert key is None or len(key) < 10 or key not in answer.text


@pytest.mark.phase_5
def test_a_valid_key_is_accepted(sent):
    assert sent().event == "$ai_generation"


@pytest.mark.phase_5
def test_a_refused_event_leaves_neither_row_nor_object(capture, api, bucket, team, data, sent):
    event, blob = data.event(), data.blob("text", KILOBYTE)
    answer = capture.send_event(team.token + "x", event, data.properties(), [blob])
    assert answer.status_code == 401
    later = sent()  # whatever was accepted before it is stored before it
    assert [each.uuid for each in api.events(team.id)] == [later.uuid]
    assert bucket.keys_of_team(team.id) == []


# Cross-team isolation testing


@pytest.mark.phase_5
def test_an_event_belongs_to_the_team_of_its_key_whatever_it_says(capture, api, teams, data):
    ours, theirs = teams.create(), teams.create()
    event = {**data.event(), "team_id": theirs.id, "project_id": theirs.id, "token": theirs.token}
    properties = {**data.properties(), "team_id": theirs.id, "$project_id": theirs.id}
    answer = capture.send_event(ours.token, event, properties, [data.blob("text", 100)])
    assert answer.status_code == 200, answer.text
    found = api.wait_for_event(ours.id, event["uuid"])
    assert stored.parse_key(stored.parse_url(found.properties["$ai_input"]).key).team_id == ours.id
    assert api.events(theirs.id) == []


@pytest.mark.phase_5
def test_the_same_uuid_in_two_teams_is_two_events(capture, api, bucket, teams, data):
    event, owners = data.event(), [teams.create(), teams.create()]
    for owner in owners:
        blob = Blob("$ai_input", "text/plain", f"of team {owner.id}".encode())
        answer = capture.send_event(owner.token, event, data.properties(), [blob])
        assert answer.status_code == 200, answer.text
    for owner in owners:
        found = api.wait_for_event(owner.id, event["uuid"])
        place = stored.parse_url(found.properties["$ai_input"])
        assert bucket.get_part(place).data == f"of team {owner.id}".encode()


@pytest.mark.phase_5
def test_a_blob_is_not_read_through_another_team(sent, api, teams, data):
    other = teams.create()
    blob = data.blob("text", KILOBYTE)
    place = {"url": sent(blob).properties[blob.name]}
    assert api.call("GET", f"projects/{other.id}/blobs/", params=place).status_code == 404


@pytest.mark.phase_5
def test_a_query_sees_one_team_only(sent, api, teams):
    found, other = sent(), teams.create()
    for condition in (f"uuid = '{found.uuid}'", "1 = 1", "1 = 1 OR team_id > 0"):
        table = "ai_events" if "team_id" in condition else "events"
        assert api.rows(other.id, f"SELECT uuid FROM {table} WHERE {condition}") == []


@pytest.mark.phase_5
def test_another_organization_sees_nothing_and_learns_nothing(
    configuration, sent, team, teams, data
):
    blob = data.blob("text", 100)
    found = sent(blob)
    stranger = Api(configuration, teams.create_organization().personal_key)
    nobody = 10**9
    place = {"url": found.properties[blob.name]}
    for team_id in (team.id, nobody):
        answers = [
            stranger.ask(team_id, "SELECT count() FROM events"),
            stranger.call("GET", f"projects/{team_id}/"),
            stranger.call("PATCH", f"projects/{team_id}/", json={"name": "mine"}),
            stranger.call("DELETE", f"projects/{team_id}/"),
            stranger.call("GET", f"projects/{team_id}/events/{found.uuid}/"),
            stranger.call("GET", f"projects/{team_id}/blobs/", params=place),
            stranger.call("GET", f"projects/{team_id}/keys/"),
        ]
        assert [answer.status_code for answer in answers] == [404] * len(answers)
        assert len({answer.text for answer in answers}) == 1, [a.text for a in answers]
    stranger.close()


# Phase 7: compression. Scenario 7.1: mixed compression


@pytest.mark.phase_7
@pytest.mark.parametrize("whole", [False, True], ids=["plain request", "gzip request"])
def test_compressed_and_plain_blobs_in_one_request_each_keep_their_state(sent, bucket, data, whole):
    blobs = [
        data.blob("json", 50 * KILOBYTE, "$ai_gzipped", gzipped=True),
        data.blob("binary", 50 * KILOBYTE, "$ai_gzipped_binary", gzipped=True),
        data.blob("text", 100, "$ai_plain"),
        data.blob("binary", 50 * KILOBYTE, "$ai_plain_binary"),
    ]
    found = sent(*blobs, gzipped=whole)
    parts = [bucket.get_part(stored.place_of(found, blob)) for blob in blobs]
    assert [part.content_encoding for part in parts] == ["gzip", "gzip", None, None]
    assert [part.data for part in parts] == [blob.data for blob in blobs]


@pytest.mark.phase_7
@pytest.mark.parametrize(
    ("kind", "size"),
    [(kind, size) for kind in KINDS for size in ("1KB", "1MB")] + [("json", "10MB")],
)
def test_a_compressed_part_is_stored_as_it_came(sent, bucket, data, kind, size):
    blob = data.blob(kind, SIZES[size], gzipped=True)
    part = bucket.get_part(stored.place_of(sent(blob), blob))
    assert (part.content_encoding, part.content_type) == ("gzip", blob.content_type)
    assert part.data == blob.data


@pytest.mark.phase_7
@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_a_gzip_request_is_one_like_any_other(sent, bucket, data, event_type):
    blob = data.blob("text", MEGABYTE, "$ai_blob")
    found = sent(blob, event_type=event_type, gzipped=True)
    assert bucket.get_part(stored.place_of(found, blob)).data == blob.data


@pytest.mark.phase_7
@pytest.mark.parametrize("kind", ["json", "text", "text-charset"])
def test_plain_text_is_compressed_in_storage_and_marked_so(sent, api, team, bucket, data, kind):
    blob = data.blob(kind, 100 * KILOBYTE)
    found = sent(blob)
    place = stored.place_of(found, blob)
    part = bucket.get_part(place)
    assert part.content_encoding == "gzip"
    assert part.stored_size < len(blob.data) / 2
    [index] = stored.index_of(bucket.head(place.key).metadata, bucket.get(place.key))
    assert (index["encoding"], index["encoded_by"]) == ("gzip", "nilometer")
    read = api.call(
        "GET", f"projects/{team.id}/blobs/", params={"url": found.properties[blob.name]}
    )
    assert read.content == blob.data


@pytest.mark.phase_7
def test_what_a_client_compressed_is_marked_as_the_clients(sent, bucket, data):
    blob = data.blob("text", 10 * KILOBYTE, gzipped=True)
    place = stored.place_of(sent(blob), blob)
    [index] = stored.index_of(bucket.head(place.key).metadata, bucket.get(place.key))
    assert (index["encoding"], index["encoded_by"]) == ("gzip", "client")


@pytest.mark.phase_7
def test_a_broken_gzip_request_is_refused(capture, team, data):
    good = form(event_parts(data.event(), data.properties()), gzipped=True)
    cut = Form(good.body[:-20], good.headers)
    answer = capture.send_form(team.token, cut)
    assert answer.status_code == 400
    assert answer.text.startswith("failed to decode request: Failed to decompress gzip body: ")


# Error recovery and edge cases


def retried(send):
    """What a client that tries again when it is told to is answered in the end."""
    answers = []

    def settled():
        answers.append(send())
        assert answers[-1].status_code in (200, 503), answers[-1].text
        if answers[-1].status_code == 503:
            assert int(answers[-1].headers["Retry-After"]) > 0
        return answers[-1].status_code == 200

    until(settled, "a repeated request is accepted")
    return answers[-1]


# Scenario E.1: S3 service interruption


@pytest.mark.phase_6
@pytest.mark.outage
def test_with_s3_away_uploads_are_refused_and_nothing_is_lost(
    capture, api, bucket, team, data, outages, sent
):
    blob = data.blob("text", 20 * KILOBYTE)
    before = sent(blob)
    event, properties = data.event(), data.properties()

    def send():
        return capture.send_event(team.token, event, properties, [blob])

    with outages.of(outage.S3) as s3:
        s3.begin()
        refused = send()
        assert refused.status_code == 503, refused.text
        assert int(refused.headers["Retry-After"]) > 0
        assert "blob storage" in refused.text
        without_blobs = sent()  # needs no S3
        s3.end()
    assert retried(send).status_code == 200
    after = api.wait_for_event(team.id, event["uuid"])
    for found in (before, after):
        assert bucket.get_part(stored.place_of(found, blob)).data == blob.data
    assert sorted(each.uuid for each in api.events(team.id)) == sorted(
        [before.uuid, without_blobs.uuid, after.uuid]
    )


# Scenario E.2: Kafka unavailability


@pytest.mark.phase_6
@pytest.mark.outage
def test_with_the_log_away_clients_are_told_and_nothing_is_lost(
    capture, api, bucket, team, data, outages, sent
):
    blob = data.blob("text", 20 * KILOBYTE)
    before = sent(blob)
    event, properties = data.event(), data.properties()

    def send():
        return capture.send_event(team.token, event, properties, [blob])

    with outages.of(outage.LOG) as log:
        log.begin()
        until(lambda: not capture.readiness()[0], "readiness tells that the log is away")
        for _ in range(3):
            refused = send()
            assert refused.status_code == 503, refused.text
            assert int(refused.headers["Retry-After"]) > 0
        log.end()
    assert retried(send).status_code == 200
    after = api.wait_for_event(team.id, event["uuid"])
    assert bucket.get_part(stored.place_of(after, blob)).data == blob.data
    assert sorted(each.uuid for each in api.events(team.id)) == sorted([before.uuid, after.uuid])
