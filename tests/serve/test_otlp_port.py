"""The port of OTLP over gRPC: announced, taken, and closed in order."""

import re
import signal
import socket
import threading

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc

from tests.capture.otlp import request, span
from tests.running import KEY, Server, wait_until
from tests.servers.server import free_port

PAIRS = (("authorization", f"Bearer {KEY}"),)


def test_a_port_that_is_taken_is_told_before_anything_is_made(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(AssertionError, match="serve ended with 1") as ended:
            Server(tmp_path / "data", OTLP_GRPC_PORT=port).start()
    told = str(ended.value)
    assert f"Cannot listen on 127.0.0.1 port {port}" in told
    assert "NILOMETER_OTLP_GRPC_PORT" in told


def test_a_stop_answers_what_is_in_flight(tmp_path):
    port = free_port()
    server = Server(tmp_path / "data", OTLP_GRPC_PORT=port).start().wait_ready("capture")
    wait_until(lambda: re.search(f"OTLP over gRPC is on port {port}", "".join(server.output)))
    kept, ends = [0], []

    def export() -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = trace_service_pb2_grpc.TraceServiceStub(channel)
            try:
                while True:
                    stub.Export(
                        request(span()), metadata=PAIRS, timeout=20, wait_for_ready=not kept[0]
                    )
                    kept[0] += 1
            except grpc.RpcError as error:
                ends.append(error.code())

    thread = threading.Thread(target=export)
    thread.start()
    wait_until(lambda: kept[0] > 20, what="some exports")
    assert server.stop(signal.SIGTERM) == 0
    thread.join(90)
    # OTLP's exporters send again after either: what came too late, and what was cut off.
    assert ends in ([grpc.StatusCode.UNAVAILABLE], [grpc.StatusCode.CANCELLED])
    server.start().wait_ready()
    with server.client() as client:
        query = {"query": {"kind": "HogQLQuery", "query": "SELECT count() FROM events"}}

        def stored() -> int:
            answer = client.post("/api/projects/1/query/", json=query)
            return answer.json()["results"][0][0]

        wait_until(lambda: stored() >= kept[0], what="every span that was acknowledged")
        assert stored() - kept[0] in (0, 1)  # the one that was cut off may be there
    server.stop()
