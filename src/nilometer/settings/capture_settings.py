"""The limits of what is captured."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

from nilometer.settings.sizes import KIB, MIB


class CaptureSettings(BaseSettings):
    """Sizes of requests and their parts, and the time they may take."""

    max_event_part_bytes: int = Field(32 * KIB, gt=0, description="The `event` part alone.")
    max_event_and_properties_bytes: int = Field(
        960 * KIB, gt=0, description="The `event` and `event.properties` parts together."
    )
    max_parts_bytes: int = Field(25 * MIB, gt=0, description="All parts of a request together.")
    max_parts: int = Field(256, gt=1, description="Parts of one multipart request.")
    max_batch_wire_bytes: int = Field(
        20 * MIB, gt=0, description="The body of a JSON batch, as it is sent."
    )
    max_batch_bytes: int = Field(25 * MIB, gt=0, description="The same, decompressed.")
    max_batch_event_bytes: int = Field(8 * MIB, gt=0, description="One event of a JSON batch.")
    max_batch_events: int = Field(10_000, gt=0, description="Events of one JSON batch.")
    max_otlp_bytes: int = Field(
        20 * MIB, gt=0, description="The body of an OTLP request, as sent and decompressed."
    )
    max_otlp_grpc_bytes: int = Field(
        4 * MIB, gt=0, description="A message of OTLP over gRPC, as sent and decompressed."
    )
    max_otlp_spans: int = Field(10_000, gt=0, description="Spans of one OTLP request.")
    max_otlp_span_bytes: int = Field(
        4 * MIB, gt=0, description="One span; a larger one is rejected, the others are kept."
    )
    blob_parts: bool = Field(True, description="Accept blob parts; off, they are unknown fields.")
    strict_schema: bool = Field(False, description="Refuse properties that no schema knows.")
    max_inflight_bytes: int = Field(
        256 * MIB, gt=0, description="Request bytes held in memory at once, all projects together."
    )
    project_inflight_share: float = Field(
        0.5, gt=0, le=1, description="The share of it that one project may take."
    )
    max_connections: int = Field(2048, gt=0, description="Open connections at once.")
    header_timeout: float = Field(10, gt=0, description="For a request's headers to arrive.")
    body_idle_timeout: float = Field(15, gt=0, description="Between two chunks of a body.")
    body_timeout: float = Field(300, gt=0, description="For a whole body.")
    trusted_proxies: int = Field(
        0,
        ge=0,
        description="Proxies in front whose X-Forwarded-For is believed; 0 uses the peer.",
    )

    @property
    def max_wire_bytes(self) -> int:
        """The request body limit: 110 % of all parts (capture contract, section 3)."""
        return self.max_parts_bytes * 11 // 10
