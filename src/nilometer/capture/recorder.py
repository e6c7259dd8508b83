"""Makes what a door accepted durable: blobs, then the record. Returning is the acknowledgement."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from nilometer import failpoints
from nilometer.access.types import ProjectConfig
from nilometer.blobs.keys import parse_blob_url
from nilometer.blobs.store import BlobStore
from nilometer.capture.ai_event import AiEvent
from nilometer.domain.ai_record import DOOR, DOOR_VERSION, AiRecord, BlobReference
from nilometer.errors import NilometerError
from nilometer.log.envelope import Envelope
from nilometer.log.port import Log, LogFull, LogUnavailable, RecordTooLarge

_LOGGER = logging.getLogger(__name__)
_REMOVAL_SECONDS = 5.0


class Recorder:
    """Writes to the blob store and the log."""

    def __init__(self, log: Log, blobs: BlobStore) -> None:
        self._log = log
        self._blobs = blobs

    async def record(
        self,
        event: AiEvent,
        project: ProjectConfig,
        *,
        accepted_at: int,
        ip: str,
        trace_context: str | None,
    ) -> None:
        """Make an event of the `ai` door durable. `accepted_at` is microseconds since the epoch.

        Raises BlobsUnavailable, LogUnavailable, LogFull and RecordTooLarge. After the last two its
        blobs are gone again: a full disk must not fill further with what nobody names.
        """
        references = await self._stored_blobs(event, project, accepted_at)
        record = AiRecord(
            event=event.text,
            properties=event.properties_text,
            blobs=references,
            ip=ip,
            retention_days=project.retention_days,
            redacted=event.redacted,
        )
        envelope = Envelope(
            project_id=project.project_id,
            uuid=event.uuid,
            door=DOOR,
            door_version=DOOR_VERSION,
            accepted_at=accepted_at,
            config_version=project.version,
            payload=record.encode(),
            trace_context=trace_context,
            sequence=event.uuid,
        )
        try:
            await self.append(envelope)
        except (LogFull, RecordTooLarge):  # the refusals after which the record cannot turn up
            await self._remove(references)
            raise

    async def append(self, envelope: Envelope) -> None:
        """Make a record durable that has no blobs. Raises what the log's `append` does."""
        failpoints.hit("before_append")
        await self._log.append(envelope)
        failpoints.hit("after_append")

    async def _stored_blobs(
        self, event: AiEvent, project: ProjectConfig, accepted_at: int
    ) -> tuple[BlobReference, ...]:
        if not event.blobs:
            return ()
        self._check_log()
        references = await self._blobs.put(
            project.project_id, event.uuid, accepted_at, project.retention_days, event.blobs
        )
        failpoints.hit("after_blob_put")
        return references

    def _check_log(self) -> None:
        """Refuse before an object is written that no record would name."""
        state = self._log.state()
        if not state.ready:
            raise LogFull(state.reason) if state.full else LogUnavailable(state.reason)

    async def _remove(self, references: Sequence[BlobReference]) -> None:
        """Delete the event's object; if that fails, the sweeper does it after its grace."""
        blobs = self._blobs
        names = {
            parse_blob_url(reference.url, blobs.scheme, blobs.bucket).name
            for reference in references
        }
        try:
            async with asyncio.timeout(_REMOVAL_SECONDS):
                await asyncio.to_thread(blobs.delete, list(names))
        except (NilometerError, TimeoutError) as error:
            _LOGGER.warning(
                "the blobs of an event that the log refused stay for the sweeper: %s",
                type(error).__name__,
            )
