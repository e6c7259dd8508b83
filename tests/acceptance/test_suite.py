"""The suite itself: how it is configured, what it refuses, and what it may know."""

from __future__ import annotations

import ast
import email
import email.policy
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance import phase
from tests.acceptance.blocks import LOCAL, PRODUCTION, pasted
from tests.acceptance.broken.__main__ import failures
from tests.acceptance.broken.table import BREAKAGES
from tests.acceptance.llma import outage
from tests.acceptance.llma.configuration import Configuration, Misconfigured, read
from tests.acceptance.llma.generators import EVENT_TYPES, KINDS, Generators
from tests.acceptance.llma.multipart import Blob, choose_boundary, event_parts, form
from tests.acceptance.llma.outage import Outages

HERE = Path(__file__).parent
TESTS = list(HERE.glob("test_*.py"))
PAGE = HERE.parents[1] / "docs" / "acceptance.md"


def test_the_local_block_pasted_into_a_shell_configures_everything():
    assert read(pasted(LOCAL.read_text())) == Configuration(
        host="http://localhost:8000",
        capture_endpoint="http://localhost:3000",
        api_key="test_api_key_123",
        project_id=1,
        team_id=1,
        bucket="posthog-llma-test",
        region="us-east-1",
        s3_endpoint="http://localhost:9000",
        access_key_id="minioadmin",
        secret_access_key="minioadmin",
        mode="local",
        processes=("http://localhost:8000",),
    )


def test_the_production_block_pasted_into_a_shell_configures_everything():
    assert read(pasted(PRODUCTION.read_text())) == Configuration(
        host="https://app.posthog.com",
        capture_endpoint="https://app.posthog.com",
        api_key="your_posthog_api_key",
        project_id=12345,
        team_id=123,
        bucket="your-llma-bucket",
        region="us-east-1",
        s3_endpoint=None,
        access_key_id="your_limited_access_key",
        secret_access_key="your_limited_secret_key",
        mode="production",
        processes=("https://app.posthog.com",),
    )


def test_the_page_shows_both_blocks_as_they_are():
    page = PAGE.read_text()
    for block in (LOCAL, PRODUCTION):
        assert block.read_text() in page


def test_what_is_missing_is_named():
    with pytest.raises(Misconfigured, match="POSTHOG_API_KEY or POSTHOG_PROJECT_API_KEY") as error:
        read({"POSTHOG_HOST": "http://localhost:8000"})
    assert "LLMA_S3_BUCKET" in str(error.value)
    assert "POSTHOG_HOST" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POSTHOG_HOST", "localhost:8000"),
        ("CAPTURE_ENDPOINT", "ftp://localhost"),
        ("POSTHOG_PROJECT_ID", "one"),
        ("LLMA_TEAM_ID", "-1"),
        ("LLMA_TEST_MODE", "prod"),
        ("LLMA_PROCESSES", "http://localhost:1 localhost:2"),
    ],
)
def test_a_value_that_cannot_be_is_named(name, value):
    with pytest.raises(Misconfigured, match=name):
        read({**pasted(LOCAL.read_text()), name: value})


def outages(**changed):
    environment = {**pasted(LOCAL.read_text()), **dict.fromkeys(outage.COMMANDS, "true"), **changed}
    return Outages(read(environment), environment)


def test_servers_are_stopped_by_the_commands_and_started_again_however_the_test_ends(tmp_path):
    record = tmp_path / "record"
    made = outages(
        LLMA_STOP_S3_COMMAND=f"echo stop >> {record}",
        LLMA_START_S3_COMMAND=f"echo start >> {record}",
    )

    def interrupted():
        with made.of(outage.S3) as s3:
            s3.begin()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert record.read_text().split() == ["stop", "start"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LLMA_TEST_MODE", "production"),
        ("POSTHOG_HOST", "https://app.posthog.com"),
        ("CAPTURE_ENDPOINT", "http://10.0.0.1:3000"),
        ("AWS_ENDPOINT_URL", "http://localhost.example.com:9000"),
        ("AWS_ENDPOINT_URL", ""),
    ],
)
@pytest.mark.parametrize("pair", [outage.S3, outage.S3_RIGHTS, outage.LOG])
def test_no_server_is_stopped_that_is_not_local(name, value, pair):
    with pytest.raises(Misconfigured, match="not outage"), outages(**{name: value}).of(pair):
        pass


@pytest.mark.parametrize("pair", [outage.S3, outage.S3_RIGHTS, outage.LOG])
def test_without_the_commands_a_test_says_which_to_set(pair):
    with (
        pytest.raises(Misconfigured, match=rf'{pair[1]}.*-m "not outage"'),
        outages(**{pair[1]: ""}).of(pair),
    ):
        pass


def test_the_suite_refuses_to_write_to_production():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", f"{HERE}/test_llm_analytics.py", "-k", "basic"],
        env=pasted(PRODUCTION.read_text()),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "run tests/integration/production, which only reads" in done.stdout


@pytest.mark.parametrize("words", [["phase", "3"], ["phase", "N=3"]], ids=" ".join)
def test_make_phase_takes_the_number_as_a_second_word_or_as_a_variable(words):
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        ["make", "-n", *words],
        cwd=HERE.parents[1],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "-m tests.acceptance.phase 3 \n" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [[], ["0"], ["9"], ["three"]])
def test_a_phase_that_does_not_exist_is_told_so(capsys, arguments):
    assert phase.main(arguments) == 2
    assert "1 to 8" in capsys.readouterr().err


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        block = dict.fromkeys(("POSTHOG_HOST", "CAPTURE_ENDPOINT"), "http://localhost:1")
        block["AWS_ENDPOINT_URL"] = f"http://localhost:{port}"
        assert list(phase.taken(block)) == [f"port {port} (S3)"]


def test_failures_are_told_by_phase(tmp_path):
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuite><testcase name="test_a[1]"><properties><property name="phase" value="2"/>'
        '</properties><failure/></testcase><testcase name="test_b"/></testsuite>'
    )
    assert failures(report) == {(2, "test_a")}


def test_the_suite_knows_nothing_of_the_server_but_its_front_doors():
    for module in HERE.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(re.match(r"nilometer\b", name) for name in names), module


def test_the_same_seed_gives_the_same_data():
    def made(seed):
        data = Generators(seed)
        return [data.event(), data.properties(), data.blobs(10), data.uuid()]

    assert made(1) == made(1)
    assert made(1) != made(2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 2, 10, 31, 32, 33, 1024, 100_001])
def test_a_blob_has_exactly_the_size_that_was_asked_for(kind, size):
    assert len(Generators(size).blob(kind, size).data) == size


def test_a_form_is_what_a_mime_reader_understands():
    blobs = [Blob("$ai_input", "text/plain", b"hello"), Blob("b", "text/plain", b"x", gzipped=True)]
    made = form(event_parts({"event": "e"}, {"$ai_model": "m"}, blobs))
    head = f"Content-Type: {made.headers['Content-Type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + made.body, policy=email.policy.HTTP)
    names = [part.get_param("name", header="Content-Disposition") for part in message.iter_parts()]
    assert names == [
        "event",
        "event.properties",
        "event.properties.$ai_input",
        "event.properties.b",
    ]
    assert not message.defects


def test_a_boundary_is_chosen_that_no_part_holds():
    parts = event_parts({}, {}, [Blob("b", "text/plain", b"x" * 100)])
    boundary = choose_boundary(parts)
    assert boundary.encode() not in b"".join(part.encoded() for part in parts)
    assert choose_boundary(parts) != boundary


def test_every_type_of_event_can_be_made():
    data = Generators(0)
    assert {data.event(each)["event"] for each in EVENT_TYPES} == set(EVENT_TYPES)
    assert all(data.properties(each)["$ai_model"] for each in EVENT_TYPES)


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.name)
def test_a_breakage_still_applies_to_the_code(breakage):
    compile(breakage.text(), breakage.file, "exec")
    assert any(f"def {breakage.caught_by}(" in module.read_text() for module in TESTS)


def test_every_phase_has_breakages():
    assert {breakage.phase for breakage in BREAKAGES} == set(phase.PHASES)
