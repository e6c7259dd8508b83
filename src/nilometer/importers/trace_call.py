"""What a trace file tells of one call to a model, and what it holds that cannot be read."""

from __future__ import annotations

from enum import StrEnum
from hashlib import sha256
from typing import Literal, NamedTuple

from nilometer.domain.usage import INPUT_BUCKETS, OUTPUT_BUCKETS, TokenVector

SourceName = Literal["prodlens", "litellm", "otlp", "claude_code"]
"""Who writes the records. Not where they lie: a copied file tells the same, and LiteLLM's payloads
and spend logs tell the same calls."""

BUCKETS = (*INPUT_BUCKETS, *OUTPUT_BUCKETS)
"""The names of `TraceCall.tokens`, in its order."""
_INPUTS = len(INPUT_BUCKETS)


class TraceCall(NamedTuple):
    """One call, or one attempt at one. Immutable and picklable; a tuple, because a hundred thousand
    are made each second.

    Text that is not told is None, or "" where a comment says so; names are at most 1,024 characters
    of valid UTF-8. Amounts of money are exact decimal text in USD.
    """

    # Identity. (source, key) is the same for every copy of the record and for each resend.
    source: SourceName
    key: str
    """From the call's id where the record has one (`is_identified`), else a hash of its content."""
    is_identified: bool
    line: int
    """Of the file, from 1; of records that share a line, the same."""
    offset: int
    """Of the record's first byte in the content, decompressed."""

    # When, whose.
    started_at: int
    """Microseconds since the epoch, UTC."""
    is_time_assumed: bool = False
    """The record tells no time, and `started_at` is when it was read."""
    told_at: int | None = None
    """When the fullest of several records told it, where that is later than `started_at`."""
    session: str | None = None
    """The thread: resumable, may last for weeks. (For working sessions: `working_sessions`.)"""
    developer: str | None = None
    repository: str | None = None
    """As told, when it is a valid slug; else the reader's `repository`."""
    branch: str | None = None
    directory: str | None = None
    """Where an agent worked: a path of its machine, to be shown and never to be opened."""
    agent: str | None = None
    """The sub-agent that called; None for the main thread, and where it is not told which."""
    is_sidechain: bool = False
    """A sub-agent called, whether or not `agent` says which; several may be calling at once."""
    trace_id: str | None = None
    call_id: str | None = None
    """The gateway's or client's id of the call."""
    response_id: str | None = None
    """The provider's id of the answer."""
    tags: tuple[str, ...] = ()

    # What was asked.
    operation: str = "completion"
    """`completion` or `embedding`."""
    provider: str | None = None
    model: str | None = None
    """As sent."""
    resolved_model: str | None = None
    """As the provider answered, or the gateway resolved it; None where only one name is told."""
    tier: str = ""
    """The service tier (`batch`, `priority` …); "" is standard."""
    region: str = ""
    """Where inference is kept, when that has a price of its own; "" is anywhere."""
    tools: tuple[str, ...] = ()
    """Names of the tools that the answer called, each once, in order."""
    tools_at: tuple[int, ...] = ()
    """When several records told of them, of each the first; () where one did."""

    # How it went.
    latency_ms: float | None = None
    time_to_first_token_ms: float | None = None
    status_code: int | None = None
    failed: bool | None = None
    """None where the record does not say how the call ended."""
    error_type: str | None = None
    accepted: bool | None = None
    """Whether a developer took the answer; None is not tracked, which is not rejected."""
    accepted_lines: int | None = None
    diff_ratio: float | None = None

    # What it consumed.
    tokens: tuple[int, ...] | None = None
    """Disjoint, in the order of BUCKETS; None with a `usage_reason`."""
    usage_reason: str = ""
    """Why there is no vector: `not_reported`, `negative_remainder`, `invalid_count:…` …"""
    usage_convention: str = ""
    """The adapter that read the usage; "" where there was none to read."""
    units: tuple[tuple[str, str], ...] = ()
    """What is not tokens, as (unit, decimal text): web searches, images, seconds …"""
    counts_usage: bool = True
    """False for an answer from a cache, which consumed nothing of what it repeats, and for an
    error that stands in an answer's place."""
    raw_usage: str = ""
    """The source's own object as JSON text, for reading it again; "" for none."""
    reported_cost: str | None = None

    @property
    def from_cache(self) -> bool:
        """Whether it is an answer from a cache."""
        return not self.counts_usage and not self.failed

    @property
    def vector(self) -> TokenVector | None:
        """The tokens as the noun that prices are made of."""
        return None if self.tokens is None else TokenVector(**dict(zip(BUCKETS, self.tokens)))  # noqa: B905

    @property
    def tokens_in(self) -> int | None:
        """All input, cached or not."""
        return None if self.tokens is None else sum(self.tokens[:_INPUTS])

    @property
    def tokens_out(self) -> int | None:
        """All output, reasoning included."""
        return None if self.tokens is None else sum(self.tokens[_INPUTS:])


class Reason(StrEnum):
    """Why a record was rejected."""

    NOT_UTF8 = "not_utf8"
    NUL_BYTE = "nul_byte"
    NOT_JSON = "not_json"
    TOO_DEEP = "too_deep"
    TOO_MANY_VALUES = "too_many_values"
    """One record of more lists, objects and members than memory is spent on."""
    NOT_AN_OBJECT = "not_an_object"
    UNKNOWN_RECORD = "unknown_record"
    """An object of no format that is known here."""
    LINE_TOO_LONG = "line_too_long"
    CUT_SHORT = "cut_short"
    """The source ends inside a record."""
    NO_TIME = "no_time"
    BAD_TIME = "bad_time"
    NO_USAGE = "no_usage"
    """A ProdLens record whose `usage` is missing or no object."""
    BAD_REPOSITORY = "bad_repository"
    """A repository's name that is none: a path that leads elsewhere, a reserved or hidden name."""
    BAD_MESSAGE = "bad_message"
    """Bytes that are no protobuf message, or a span whose ids or times are none."""
    DAMAGED_COMPRESSION = "damaged_compression"
    TOO_MUCH_DECOMPRESSED = "too_much_decompressed"
    """A small file that unpacks to more than the ratio or the bytes that are allowed."""
    UNREADABLE = "unreadable"
    """The reader itself failed on the record: a defect of Nilometer's, to be reported."""


class Rejected(NamedTuple):
    """A record that was not taken, with what is needed to explain and to replay it."""

    reason: Reason
    detail: str
    """A sentence without the record's content."""
    line: int
    offset: int
    raw: bytes
    """The record as it stands in the content; only its first `KEPT_BYTES` when it is too long."""
    source_hash: str
    """SHA-256, in hex, of all of the record's bytes: the same bad line in another copy of the file
    has the same."""
    size: int
    """Bytes of the whole record."""


def reject(reason: Reason, detail: str, raw: bytes, line: int, offset: int) -> Rejected:
    """A record that stands whole in memory, rejected."""
    return Rejected(reason, detail, line, offset, raw, sha256(raw).hexdigest(), len(raw))


KEPT_BYTES = 64 * 1024
"""What is kept of a record beyond the bound of a line."""
