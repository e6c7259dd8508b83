"""Phase 5 beyond its scenario: when and how keys are checked, by capture and by the API."""

from __future__ import annotations

import pytest

from tests.acceptance.llma.api import Api
from tests.acceptance.llma.multipart import Part, event_parts, form
from tests.acceptance.llma.polling import until

pytestmark = pytest.mark.phase_5


@pytest.mark.parametrize("scheme", ["Basic", "bearer", "Token", ""])
def test_a_key_that_is_no_bearer_token_is_refused(capture, team, data, scheme):
    good = form(event_parts(data.event(), data.properties()))
    answer = capture.send_form(None, good, Authorization=f"{scheme} {team.token}".strip())
    assert answer.status_code == 401


def test_the_key_is_checked_before_the_body_is_looked_at(capture):
    unknown = "phc_this-key-belongs-to-nobody"
    broken = form([Part("nonsense", b"\xff")], gzipped=True)
    answer = capture.send_form(unknown, broken, Content_Type="text/nonsense")
    assert answer.status_code == 401


def test_a_replaced_key_ends_within_seconds_and_the_new_one_works(capture, api, team, data, sent):
    def status(key):
        return capture.send_event(key, data.event(), data.properties()).status_code

    assert status(team.token) == 200
    new = api.rotate_token(team.id)
    until(lambda: status(team.token) == 401, "the old key is refused", seconds=6)
    assert status(new) == 200


def test_a_project_key_only_captures(configuration, team):
    with_project_key = Api(configuration, team.token)
    assert with_project_key.ask(team.id, "SELECT 1").status_code == 403
    assert with_project_key.call("GET", "projects/").status_code == 403
    with_project_key.close()


def test_a_query_with_a_wrong_key_is_told_so(configuration, team):
    wrong = Api(configuration, "phx_this-key-belongs-to-nobody")
    answer = wrong.ask(team.id, "SELECT 1")
    assert answer.status_code == 401
    assert answer.json() == {
        "type": "authentication_error",
        "code": "authentication_failed",
        "detail": "Personal API key found in request Authorization header is invalid.",
        "attr": None,
    }
    wrong.close()
