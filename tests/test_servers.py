"""The real servers: that a start, a stop, a kill and a pause are what they say."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError
from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests import services
from tests.private_servers import PostgresServer, private, private_cluster
from tests.running import wait_until
from tests.servers import shared
from tests.servers.process import ServerError, ServerProcess, descendants, started_at
from tests.servers.server import ROOT, Server, free_port
from tests.services import KafkaService, PostgresService, S3Service

SLEEP = ["sleep", "300"]


@pytest.fixture(scope="module")
def own() -> Iterator[PostgresServer]:
    """A server for the faults of this module."""
    with private(PostgresServer) as server:
        yield server


@pytest.fixture
def process(tmp_path: Path) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path)
    process.launch(SLEEP)
    yield process
    process.kill()


class FileServer(Server):
    """The quickest there is to start, for what all servers have in common."""

    name = "files"
    default_port = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def prepare(self) -> None:
        (self.folder / "data").mkdir(exist_ok=True)

    def launch(self) -> None:
        options = ["--bind", "127.0.0.1", "--directory", self.folder / "data"]
        self.process.launch([sys.executable, "-m", "http.server", str(self.port), *options])

    def healthy(self) -> bool:
        try:
            return httpx.get(self.address).status_code == 200
        except httpx.HTTPError:
            return False


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of the only server that tests share for now, in a folder of its own."""
    monkeypatch.setattr(FileServer, "default_port", free_port())
    monkeypatch.setattr(shared, "SERVICES", tmp_path)
    monkeypatch.setattr(shared, "KINDS", {"files": FileServer})
    yield "files"
    shared.server("files").kill()


def answers(server: PostgresServer) -> bool:
    try:
        return server.sql("SELECT 1") == "1"
    except ServerError:
        return False


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_the_shared_ones_answer(
    kafka: KafkaService, postgres: PostgresService, s3: S3Service
) -> None:
    host, port = kafka.bootstrap.split(":")
    with socket.create_connection((host, int(port)), timeout=5):
        pass
    assert postgres.server.sql("SELECT 6 * 7", "sentinai_test") == "42"
    assert s3.client().list_buckets()["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_a_test_that_needs_one_that_is_down_fails_and_says_what_to_run(files: str) -> None:
    with pytest.raises(pytest.fail.Exception, match="scripts/services start files"):
        services.running(files)


def test_a_second_start_finds_the_first(own: PostgresServer) -> None:
    before = own.process.pid
    assert PostgresServer(own.folder, own.port).start().process.pid == before


def test_a_paused_server_accepts_and_does_not_answer(own: PostgresServer) -> None:
    own.pause()
    try:
        with socket.create_connection(("127.0.0.1", own.port), timeout=5) as connection:
            connection.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")  # asks whether TLS is spoken
            connection.settimeout(0.3)
            with pytest.raises(TimeoutError):
                connection.recv(1)
        assert own.process.pid
        states = {state(pid) for pid in descendants(own.process.pid)}
        assert states == {"T"}  # also the processes of sessions that were open before
    finally:
        own.resume()
    assert answers(own)


def test_what_it_stored_survives_a_kill_and_a_stop(own: PostgresServer) -> None:
    url = own.create_database("survivor")
    own.sql("CREATE TABLE kept AS SELECT 7 AS number", "survivor")
    for end in (own.kill, own.stop):
        end()
        assert not own.running
        assert not answers(own)
        own.start()
        assert own.url("survivor") == url
        assert own.sql("SELECT number FROM kept", "survivor") == "7"


def test_a_kill_ends_its_children_too(own: PostgresServer) -> None:
    # PostgreSQL's are in sessions of their own, which a signal to the group would not reach.
    children = own.sql("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    numbers = [int(line) for line in children.splitlines()]
    assert len(numbers) > 2
    own.kill()
    assert [started_at(number) for number in numbers] == [None] * len(numbers)
    own.start()


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    port = free_port()
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(ServerError, match=f"files needs port {port}, and another program"),
    ):
        FileServer(tmp_path, port).start()


def test_a_server_that_ends_at_its_start_shows_its_log(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerError, match="invalid value for parameter"),
        private(PostgresServer, settings={"shared_buffers": "much"}),
    ):
        pass


def test_another_program_finds_the_process_and_stops_it(process: ServerProcess) -> None:
    other = ServerProcess(process.folder)
    assert other.pid == process.pid is not None
    other.stop()
    assert process.pid is None


def test_the_pid_of_another_process_is_not_taken_for_its_own(
    process: ServerProcess, tmp_path: Path
) -> None:
    record = (process.folder / "pid.json").read_text()
    folder = tmp_path / "stale"
    folder.mkdir()
    (folder / "pid.json").write_text(re.sub(r'"started": \d+', '"started": 1', record))
    stale = ServerProcess(folder)
    assert stale.pid is None
    stale.stop()
    stale.kill()
    assert process.pid is not None


def test_the_server_of_a_test_process_that_was_killed_is_ended_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "PRIVATE", tmp_path)
    code = (
        "import os, pathlib, signal; from tests.servers.process import ServerProcess; "
        f"ServerProcess(pathlib.Path({str(tmp_path / 'one')!r}), os.getpid()).launch({SLEEP}); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as ended:
        ended_pid = ended.pid
    assert ended.returncode == -signal.SIGKILL
    left = ServerProcess(tmp_path / "one")
    assert left.pid is not None
    mine = ServerProcess(tmp_path / "two", os.getpid())
    mine.launch(SLEEP)
    try:
        for pid in (ended_pid, os.getpid()):
            (tmp_path / f"kafka-{pid}-data").mkdir()
        shared.end_orphans()
        assert left.pid is None
        assert mine.pid is not None
        assert not (tmp_path / f"kafka-{ended_pid}-data").exists()
        assert (tmp_path / f"kafka-{os.getpid()}-data").exists()
    finally:
        mine.kill()


def test_one_started_for_a_command_is_empty_and_ends_with_the_last_that_uses_it(
    files: str,
) -> None:
    before = shared.start(files)
    (before.folder / "data" / "left").touch()
    before.stop()
    first = shared.start_empty(files)
    assert "left" not in httpx.get(first.address).text
    assert first.port == FileServer.default_port
    with shared.in_use():
        with shared.in_use():
            assert shared.start_empty(files).process.pid == first.process.pid
        assert first.running
    assert not first.running


def test_one_that_ran_before_a_command_runs_after_it(files: str) -> None:
    started = shared.start(files)
    with shared.in_use():
        assert shared.start_empty(files).process.pid == started.process.pid
    assert started.running


def test_one_that_is_started_by_hand_outlives_the_command_that_started_it(files: str) -> None:
    with shared.in_use():
        for_the_command = shared.start_empty(files)
        assert shared.start(files).process.pid == for_the_command.process.pid
    assert for_the_command.running


def test_a_command_gets_a_free_port_where_another_program_has_the_usual_one(files: str) -> None:
    with socket.create_server(("127.0.0.1", FileServer.default_port)):
        with pytest.raises(ServerError, match="another program"):
            shared.start(files)
        with shared.in_use():
            port = shared.start_empty(files).port
            assert services.running(files).port == port != FileServer.default_port


def test_a_kafka_cluster_refuses_a_record_that_too_few_copies_would_have() -> None:
    # One node would take it: a topic never asks for more copies than it has replicas.
    with private_cluster(2) as kafka:
        servers = {"bootstrap.servers": kafka.address, "log_level": 0}
        admin = AdminClient(servers)
        wanted = NewTopic("records", 1, 2, config={"min.insync.replicas": "2"})
        admin.create_topics([wanted])["records"].result(90)
        producer = Producer(servers | {"acks": "all", "retries": 0})
        errors: list[int | None] = []

        def sent() -> int | None:
            producer.produce(
                "records",
                b"one",
                on_delivery=lambda error, _: errors.append(error and error.code()),
            )
            assert producer.flush(30) == 0
            return errors.pop()

        assert sent() is None
        kafka.nodes[1].stop()
        wait_until(lambda: sent() == KafkaError.NOT_ENOUGH_REPLICAS, what="the refusal")


def test_s3_checks_signatures_and_policies(s3: S3Service, s3_bucket: str) -> None:
    s3.client().put_object(Bucket=s3_bucket, Key="llma/1/kept", Body=b"sixteen cubits")
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        s3.client(aws_secret_access_key="wrong").list_buckets()
    identities = s3.client("iam")
    identities.create_user(UserName=s3_bucket)
    statement = (
        '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", '
        f'"Resource": "arn:aws:s3:::{s3_bucket}/llma/1/*"}}]}}'
    )
    identities.put_user_policy(UserName=s3_bucket, PolicyName="read", PolicyDocument=statement)
    key = identities.create_access_key(UserName=s3_bucket)["AccessKey"]
    reader = s3.client(
        aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"]
    )
    answer = wait_until(
        lambda: allowed(lambda: reader.get_object(Bucket=s3_bucket, Key="llma/1/kept")),
        what="the new user's policy",
    )
    assert answer["Body"].read() == b"sixteen cubits"
    with pytest.raises(ClientError, match="AccessDenied"):
        reader.get_object(Bucket=s3_bucket, Key="llma/2/other")
    with pytest.raises(ClientError, match="AccessDenied"):
        reader.put_object(Bucket=s3_bucket, Key="llma/1/mine", Body=b"")


def allowed(call: Callable[[], Any]) -> Any:
    """What the call gives; None while it is refused."""
    try:
        return call()
    except ClientError:
        return None


def test_s3_does_what_the_product_asks_of_one(s3: S3Service, s3_bucket: str) -> None:
    client = s3.client()
    upload = client.create_multipart_upload(Bucket=s3_bucket, Key="big")["UploadId"]
    part = {"Bucket": s3_bucket, "Key": "big", "UploadId": upload}
    size = 5 * 1024 * 1024  # the smallest part but for the last
    tags = [
        client.upload_part(**part, PartNumber=1, Body=b"a" * size)["ETag"],
        client.upload_part(**part, PartNumber=2, Body=b"b" * 10)["ETag"],
    ]
    parts = [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(tags, 1)]
    client.complete_multipart_upload(**part, MultipartUpload={"Parts": parts})
    ranged = client.get_object(Bucket=s3_bucket, Key="big", Range=f"bytes={size - 2}-{size + 1}")
    assert ranged["Body"].read() == b"aabb"
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=s3_bucket, Key="big", Body=b"", IfNoneMatch="*")
    sealed = client.put_object(
        Bucket=s3_bucket, Key="sealed", Body=b"x", ServerSideEncryption="AES256"
    )
    assert sealed["ServerSideEncryption"] == "AES256"
    rule = {
        "ID": "30 days",
        "Status": "Enabled",
        "Filter": {"Prefix": "llma/"},
        "Expiration": {"Days": 30},
    }
    client.put_bucket_lifecycle_configuration(
        Bucket=s3_bucket, LifecycleConfiguration={"Rules": [rule]}
    )
    assert client.get_bucket_lifecycle_configuration(Bucket=s3_bucket)["Rules"] == [rule]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        check=False,
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_kafka_is_left_out_when_asked_and_the_run_says_so() -> None:
    collect = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider"]
    asked = run(*collect, __file__, SKIP_KAFKA_INTEGRATION_TESTS="true")
    assert "SKIP_KAFKA_INTEGRATION_TESTS leaves out 1 tests" in asked.stdout
    assert "1 deselected" in asked.stdout
    assert "test_the_shared_ones_answer" not in asked.stdout


def test_ci_refuses_to_leave_kafka_out() -> None:
    refused = run("bash", ".ci/run", SKIP_KAFKA_INTEGRATION_TESTS="True")
    assert refused.returncode == 1
    assert "here all must run" in refused.stderr


def test_a_command_run_among_the_servers_gives_its_own_exit_code() -> None:
    assert run("scripts/services", "run", "--", "sh", "-c", "exit 7").returncode == 7


def test_a_command_ends_with_what_runs_it() -> None:
    shell = ["sh", "-c", "echo up; exec sleep 60"]
    command = [sys.executable, "-m", "tests.servers", "run", "--", *shell]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout
        assert runner.stdout.readline() == "up\n"
        (sleeping,) = descendants(runner.pid)[1:2]
        runner.terminate()
        try:
            assert runner.wait(90) == 128 + signal.SIGTERM
        finally:
            runner.kill()
        wait_until(lambda: started_at(sleeping) is None, what="the command's end")


def test_the_command_tells_which_run() -> None:
    names = [name for name, kind in shared.KINDS.items() if kind.for_tests]
    told = run("scripts/services", "status", *names)
    assert told.returncode == 0
    for name in names:
        assert re.search(rf"^{name} +running .*pid \d+$", told.stdout, re.MULTILINE)
    assert run("scripts/services", "start", "nothing").returncode == 1
