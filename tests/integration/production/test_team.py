"""The key reaches one team, and what it reads is of that team."""

import pytest

NOBODYS = 999_999_999_999


def test_the_key_sees_one_project(api, configuration):
    answer = api.get("/api/projects/")
    assert answer.status_code == 200, answer.text
    seen = [str(project["id"]) for project in answer.json()["results"]]
    assert seen == [configuration.project_id], (
        "the key sees other projects; use one of an organization with this project alone"
    )


@pytest.mark.parametrize("offset", [-2, -1, 1, 2])
@pytest.mark.parametrize("rest", ["", "events/", "keys/"])
def test_a_project_beside_it_is_as_if_there_were_none(api, configuration, offset, rest):
    other = abs(int(configuration.project_id) + offset) or NOBODYS + 1
    theirs = api.get(f"/api/projects/{other}/{rest}")
    nobodys = api.get(f"/api/projects/{NOBODYS}/{rest}")
    assert theirs.status_code in (401, 403, 404)
    assert (theirs.status_code, theirs.content) == (nobodys.status_code, nobodys.content)


def test_every_row_is_of_the_team(api, configuration):
    rows = api.query("SELECT DISTINCT team_id FROM ai_events LIMIT 10")
    assert [str(row["team_id"]) for row in rows] in ([], [configuration.team_id])
