"""OTLP over gRPC: the same rules as over HTTP, with gRPC's statuses."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
import uvloop
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc

from nilometer.access.types import CaptureMode
from nilometer.capture.app import CaptureApp
from nilometer.capture.otlp_grpc import OtlpGrpcServer
from nilometer.domain import otlp_record
from nilometer.errors import ConfigurationError
from nilometer.log.port import LogUnavailable
from nilometer.settings import Settings
from tests.capture.door import Access, MemoryLog
from tests.capture.otlp import request, span

RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


class Port:
    """A running gRPC door with one project."""

    def __init__(self, number: int, log: MemoryLog, key: str) -> None:
        self.number, self.log, self.key = number, log, key

    def export(
        self, made: Any, *, key: str | None = None, compression: Any = None, **metadata: str
    ) -> Any:
        pairs = metadata or {"authorization": f"Bearer {key or self.key}"}
        options = [("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(f"127.0.0.1:{self.number}", options) as channel:
            stub = trace_service_pb2_grpc.TraceServiceStub(channel)
            return stub.Export(
                made, timeout=20, compression=compression, metadata=tuple(pairs.items())
            )

    def refused(self, made: Any, **options: Any) -> Any:
        with pytest.raises(grpc.RpcError) as refusal:
            self.export(made, **options)
        assert self.log.envelopes == []
        return refusal.value


@contextmanager
def served(access: Access, directory: Any, **settings: Any) -> Iterator[Port]:
    """The door on a loop in a thread, as `serve` runs it."""
    log, (_, key) = MemoryLog(), access.project()
    configured = Settings(data_dir=directory, **settings)
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> tuple[OtlpGrpcServer, int]:
        app = CaptureApp(
            log=log,  # type: ignore[arg-type]
            blobs=None,  # type: ignore[arg-type]  (spans have none)
            keyring=access.keyring,
            settings=configured,
        )
        server = OtlpGrpcServer(app.gate, "127.0.0.1:0")
        return server, await server.start()

    server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(90)
    try:
        yield Port(port, log, key)
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(5), loop).result(90)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(90)
        loop.close()


@pytest.fixture(scope="module")
def running(access: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Port]:
    with served(access, tmp_path_factory.mktemp("grpc")) as port:
        yield port


@pytest.fixture
def port(running: Port) -> Port:
    running.log.envelopes.clear()
    running.log.error = None
    return running


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_spans_are_in_the_log_when_the_answer_comes(port: Port, compression: Any):
    made = request(span(), span())
    answer = port.export(made, compression=compression)
    assert not answer.HasField("partial_success")
    [envelope] = port.log.envelopes
    record = otlp_record.decode(envelope.payload)
    assert (record.request, record.protocol) == (made.SerializeToString(), "grpc")
    assert record.ip == "127.0.0.1"


def test_bad_spans_are_told_as_partial_success(port: Port):
    answer = port.export(request(span(), span(trace_id=bytes(16))))
    assert answer.partial_success.rejected_spans == 1
    assert "1 of 2 spans" in answer.partial_success.error_message
    assert len(port.log.envelopes) == 1


def test_the_key_may_be_alone_in_its_metadata(port: Port):
    port.export(request(span()), **{"x-api-key": port.key})
    assert len(port.log.envelopes) == 1


@pytest.mark.parametrize(
    "metadata", [{"authorization": "Bearer nobody"}, {"x-api-key": "phx_1"}, {"user": "me"}]
)
def test_no_key_or_a_wrong_one_is_unauthenticated(port: Port, metadata: dict[str, str]):
    refusal = port.refused(request(span()), **metadata)
    assert refusal.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_strangers_message_is_not_read(port: Port):
    """4 MiB and one byte would be RESOURCE_EXHAUSTED, had anybody looked at it."""
    large = request(span({"big": "x" * (4 * 1024 * 1024 + 1)}))
    refusal = port.refused(large, authorization="Bearer nobody")
    assert refusal.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
def test_a_message_over_the_limit_is_refused_also_as_a_bomb(port: Port, compression: Any):
    large = request(span({"big": "x" * (64 * 1024 * 1024)}))
    assert port.refused(large, compression=compression).code() is RESOURCE_EXHAUSTED


def test_what_may_be_tried_again_says_so(port: Port, access: Access):
    port.log.error = LogUnavailable("away")
    refusal = port.refused(request(span()))
    assert refusal.code() is grpc.StatusCode.UNAVAILABLE
    assert b"google.rpc.RetryInfo" in dict(refusal.trailing_metadata())["grpc-status-details-bin"]
    _, full = access.project(CaptureMode.OVER_QUOTA)
    refusal = port.refused(request(span()), key=full)
    assert refusal.code() is RESOURCE_EXHAUSTED
    details = dict(refusal.trailing_metadata())["grpc-status-details-bin"]
    assert details.endswith(b"\x12\x04\x0a\x02\x08\x3c")  # a delay of 60 seconds


def test_a_dropping_project_is_answered_as_a_success(port: Port, access: Access):
    _, key = access.project(CaptureMode.DROP)
    assert not port.export(request(span()), key=key).HasField("partial_success")
    assert port.log.envelopes == []


def test_what_is_no_request_is_an_invalid_argument(port: Port):
    with grpc.insecure_channel(f"127.0.0.1:{port.number}") as channel:
        export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        with pytest.raises(grpc.RpcError) as refusal:
            export(b"\x0a\xff", metadata=(("authorization", f"Bearer {port.key}"),), timeout=20)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_logs_are_told_that_they_are_not_kept(port: Port):
    made = logs_service_pb2.ExportLogsServiceRequest()
    made.resource_logs.add().scope_logs.add().log_records.add()
    with grpc.insecure_channel(f"127.0.0.1:{port.number}") as channel:
        stub = logs_service_pb2_grpc.LogsServiceStub(channel)
        pairs = (("authorization", f"Bearer {port.key}"),)
        answer = stub.Export(made, metadata=pairs, timeout=20)
    assert answer.partial_success.rejected_log_records == 1
    assert port.log.envelopes == []


def test_room_is_taken_before_the_message_is_read(access: Access, tmp_path: Any):
    """A share of 2 MiB has no room for a message that may have 4."""
    with served(access, tmp_path, max_inflight_bytes=4 * 1024 * 1024) as port:
        assert port.refused(request(span())).code() is RESOURCE_EXHAUSTED


def test_many_at_once_are_all_kept(port: Port):
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: port.export(request(span())), range(40)))
    assert (len(answers), len(port.log.envelopes)) == (40, 40)


def test_an_address_in_use_is_a_configuration_error(port: Port):
    async def again() -> None:
        class Taken:
            settings = Settings()

        await OtlpGrpcServer(Taken(), f"127.0.0.1:{port.number}").start()  # type: ignore[arg-type]

    with pytest.raises(ConfigurationError, match="NILOMETER_OTLP_GRPC_PORT"):
        asyncio.run(again())
