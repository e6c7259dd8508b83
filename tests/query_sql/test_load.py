"""What the queries and exports of one project leave to the others."""

import http.client
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from urllib.parse import urlsplit

import httpx
import pytest

from nilometer.api.routes import query as route
from nilometer.query.sql.queries import SqlQueries
from tests.running import wait_until

LONG = "SELECT arrayJoin(range(3000000)) AS n, repeat('x', 100) AS s"


@pytest.fixture
def projects(world):
    return [world.project() for _ in range(3)]


def ask(project, sql, **more):
    return project.world.ask(
        "POST", project.path("query/"), project.reader, json={"query": {"query": sql}}, **more
    )


def export(project, sql="SELECT 1 AS n", **more):
    return ask(project, sql, params={"format": "jsonl"}, **more)


def stalled(project):
    """A connection whose client reads the head of a long export, and nothing more."""
    connection = http.client.HTTPConnection(urlsplit(project.world.url).netloc, timeout=20)
    connection.request(
        "POST",
        project.path("query/?format=jsonl"),
        b'{"query":{"query":"%s"}}' % LONG.encode(),
        {"Authorization": f"Bearer {project.reader}"},
    )
    answer = connection.getresponse()
    assert answer.status == 200
    return connection, answer


def test_an_export_that_nobody_reads_keeps_no_other_project_waiting(projects):
    stalling, other, _ = projects
    connection, _ = stalled(stalling)
    with closing(connection):
        assert export(other, timeout=60).text == '{"n":1}\n'
        with pytest.raises(httpx.ReadTimeout):
            export(stalling, timeout=1)


def test_exports_that_nobody_reads_end_when_their_time_is_over(projects, monkeypatch, caplog):
    monkeypatch.setattr(route, "MOST_EXPORT_SECONDS", 6)
    with ExitStack() as stack:
        answers = []
        for project in projects[:2]:  # as many as there are places
            connection, answer = stalled(project)
            stack.enter_context(closing(connection))
            answers.append(answer)
        monkeypatch.undo()
        for project in projects:
            assert export(project, timeout=60).text == '{"n":1}\n'
        for answer in answers:
            with pytest.raises(http.client.IncompleteRead):
                answer.read()
    assert caplog.text.count("an export was cut") == 2
    assert "Traceback" not in caplog.text


def test_an_export_whose_client_goes_away_ends(projects):
    project = projects[0]
    for _ in range(3):  # more than there are places
        connection, _ = stalled(project)
        connection.close()
    assert export(project, timeout=60).text == '{"n":1}\n'


@pytest.fixture
def held(monkeypatch):
    """Queries of `slow` run until the event is set; the texts of those that were begun."""
    release, begun, run = threading.Event(), [], SqlQueries.run

    def slow(self, project_id, sql, values=None):
        begun.append(sql)
        if "slow" in sql:
            assert release.wait(90)
        return run(self, project_id, sql, values)

    monkeypatch.setattr(SqlQueries, "run", slow)
    yield release, begun
    release.set()


def test_a_project_with_many_slow_queries_keeps_no_other_waiting(projects, held):
    release, begun = held
    busy, other, _ = projects
    with ThreadPoolExecutor(8) as clients:
        answers = [clients.submit(ask, busy, "SELECT 'slow'") for _ in range(8)]
        wait_until(lambda: begun)
        assert ask(other, "SELECT 1", timeout=10).json()["results"] == [[1]]
        assert begun == ["SELECT 'slow'", "SELECT 1"]
        release.set()
        assert {answer.result().status_code for answer in answers} == {200}


def test_more_than_may_wait_are_told_when_to_come_again(projects, held):
    release, begun = held
    busy = projects[0]
    with ThreadPoolExecutor(20) as clients:
        answers = [clients.submit(ask, busy, "SELECT 'slow'") for _ in range(20)]
        wait_until(lambda: begun and sum(answer.done() for answer in answers) == 3)
        refused = [answer.result() for answer in answers if answer.done()]
        assert {answer.status_code for answer in refused} == {429}
        assert {answer.headers["retry-after"] for answer in refused} == {"5"}
        assert refused[0].json()["type"] == "throttled_error"
        assert len(begun) == 1
        release.set()


def test_a_query_that_waits_is_not_run_when_its_client_has_gone(projects, held):
    release, begun = held
    busy, other, _ = projects
    with ThreadPoolExecutor(1) as clients:
        answer = clients.submit(ask, busy, "SELECT 'slow'")
        wait_until(lambda: begun)
        with pytest.raises(httpx.ReadTimeout):
            ask(busy, "SELECT 'nobody'", timeout=0.5)
        assert ask(other, "SELECT 1").status_code == 200  # the server has seen that it went
        release.set()
        assert answer.result().status_code == 200
    assert ask(busy, "SELECT 2").status_code == 200
    assert begun == ["SELECT 'slow'", "SELECT 1", "SELECT 2"]
