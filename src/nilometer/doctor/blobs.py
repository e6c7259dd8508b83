"""The storage of blobs: a probe object goes in, is read by range, and goes again."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Generator
from contextlib import closing, contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import httpx

from nilometer.blobs import endpoint as endpoints
from nilometer.blobs import keys
from nilometer.blobs.backend import Limits
from nilometer.blobs.bucket import DEFAULT_REGION, Bucket
from nilometer.blobs.configured import configured
from nilometer.blobs.lifecycle import missing_rules
from nilometer.blobs.store import BlobStore
from nilometer.blobs.types import BlobNotFound, BlobPart, BlobsUnavailable, StoredBlob
from nilometer.doctor import clocks
from nilometer.doctor.configuration import SETTINGS
from nilometer.doctor.embedded import existing, unwritable
from nilometer.doctor.finding import (
    Check,
    Verdict,
    failed,
    in_units,
    ok,
    sentence,
    skipped,
    warning,
)
from nilometer.domain import clock
from nilometer.errors import ConfigurationError, NilometerError
from nilometer.log.sqlite.disk import free_bytes
from nilometer.settings import WORKS, Role, Settings

STORAGE, PROBE = "blobs.storage", "blobs.probe"

_PROBE_BYTES = b"nilometer doctor was here\n" * 8
# Projects of these ids are never made: those that there are count from 1.
_FIRST_PROBE_PROJECT = 900_000_000_000_000_000
_PROBE_PROJECTS = 10**17 - 1
_SETUP = "Run `nilometer blobs setup` (docs/blobs.md) with an operator's credentials."
_REMEDY = "See that the storage of NILOMETER_BLOBS_URL works and is reachable from here."
# What to do about an answer of S3, by its code.
_REMEDIES = {
    "NoSuchBucket": "Create the bucket: nilometer blobs setup --create-bucket.",
    "AccessDenied": "Allow s3:PutObject, s3:GetObject, s3:DeleteObject and s3:ListBucket, as the "
    "policies in deploy/s3 do.",
    "InvalidAccessKeyId": "Mend AWS_ACCESS_KEY_ID.",
    "SignatureDoesNotMatch": "Mend AWS_SECRET_ACCESS_KEY.",
    "ExpiredToken": "Renew the session of AWS_SESSION_TOKEN.",
    "RequestTimeTooSkewed": "Set this machine's clock (NTP).",
    "PermanentRedirect": "Mend AWS_REGION: the bucket is in another.",
    "AuthorizationHeaderMalformed": "Mend AWS_REGION: the bucket is in another.",
    "no answer": "See that the S3 endpoint is right, runs, and is reachable from here.",
}
_DENIED = "AccessDenied"


class Blobs:
    """A directory, or a bucket, as the role uses it."""

    def __init__(self, settings: Settings, seconds: float) -> None:
        self._settings = settings
        self._url = settings.effective_blobs_url
        self._is_s3 = self._url.startswith("s3:")
        # Less than a check has, so that the reason is told and not only that there was no answer.
        patience = max(0.5, seconds - 1)
        self._patience = patience
        self._limits = Limits(
            connect=patience, attempt=patience, retries=0, put=patience, probe=patience
        )

    def checks(self) -> list[Check]:
        """The checks of this part."""
        given = self._settings.blobs_url or not self._settings.distributed
        first = () if given else (SETTINGS,)
        if not self._is_s3:
            return [
                Check(STORAGE, self.directory, needs=first, remedy=_REMEDY),
                Check(PROBE, self.probe, needs=(STORAGE,), remedy=_REMEDY),
            ]
        after = (STORAGE,)
        checks = [
            Check(STORAGE, self.bucket, needs=first, remedy=_REMEDY),
            Check(PROBE, self.probe, needs=after, remedy=_REMEDY),
            Check("blobs.clock", self.clock, needs=first, remedy=_REMEDY),
        ]
        if self._settings.role in WORKS:
            checks += [
                Check("blobs.lifecycle", self.lifecycle, needs=after, remedy=_SETUP),
                Check("blobs.public_access", self.public_access, needs=after, remedy=_SETUP),
            ]
        return checks

    def directory(self) -> Verdict:
        """It can be written, with room for the largest request."""
        path = self._directory
        problem = unwritable(path)
        if problem:
            return failed(f"The directory for blobs {path} cannot be used: {problem}.", _REMEDY)
        free = free_bytes(existing(path))
        needed = self._settings.disk_reserve + self._settings.max_parts_bytes
        if free < needed:
            return failed(
                f"The disk of {path} has {in_units(free)} free, and a request needs "
                f"{in_units(needed)} with the reserve: capture answers 503.",
                "Free some disk, or lower NILOMETER_DISK_RESERVE.",
            )
        if self._settings.distributed:
            return warning(
                f"Blobs are in the directory {path}: every process of every machine must see it.",
                "Mount it everywhere, or use s3://bucket.",
            )
        return ok(f"The directory for blobs {path} can be written, with {in_units(free)} free.")

    def bucket(self) -> Verdict:
        """It is there, and these credentials may use it."""
        try:
            with self._opened() as store:
                asyncio.run(store.probe())
        except BlobsUnavailable as error:
            return _trouble(error)
        return ok(f"The bucket {urlsplit(self._url).netloc} answers at {self._endpoint}.")

    def probe(self) -> Verdict:
        """A small object is put as a blob is, read by its range, and deleted."""
        if not self._is_s3 and not (self._directory / ".tmp").exists():
            return skipped(STORAGE, "There is no directory yet; the first start makes it.")
        with self._opened() as store:
            if self._settings.role is Role.API:
                return asyncio.run(self._read_nothing(store))
            return asyncio.run(self._round(store))

    def clock(self) -> Verdict:
        """The clock of S3, which refuses requests of another time."""
        before = clocks.local()
        try:
            # Anybody gets an answer, if only that he may not.
            answer = httpx.head(self._endpoint, timeout=self._patience)
        except httpx.HTTPError as error:
            return failed(
                f"S3 does not answer at {self._endpoint}: {type(error).__name__}.", _REMEDY
            )
        after = clocks.local()
        try:
            told = parsedate_to_datetime(answer.headers["date"]).timestamp()
        except (KeyError, ValueError, OverflowError):  # none, or none that is a time
            return ok("The server does not tell its time.")
        return clocks.judged("S3", clocks.skew(told, before, after, resolution=1))

    def lifecycle(self) -> Verdict:
        """Rules that delete what has expired even while Nilometer does not run."""
        try:
            lacking = missing_rules(self._settings)
        except NilometerError as error:
            return _unseen("The bucket's lifecycle rules", error)
        if lacking:
            return warning(" ".join(map(sentence, lacking)), _SETUP)
        return ok("Every retention prefix has its lifecycle rule.")

    def public_access(self) -> Verdict:
        """Nobody can open the bucket to the public by mistake."""
        try:
            bucket = Bucket.of(self._settings)
            assert bucket is not None, "the check is made only for s3"
            with closing(bucket):
                found = bucket.public_access_block()
        except NilometerError as error:
            return _unseen("Whether public access is blocked", error)
        if found is None:
            return ok("This S3 server has no public access block.")
        off = [name for name, on in found.items() if not on]
        if off:
            return warning(f"The bucket's public access block lacks {', '.join(off)}.", _SETUP)
        return ok("Public access to the bucket is blocked.")

    async def _round(self, store: BlobStore) -> Verdict:
        project = _FIRST_PROBE_PROJECT + secrets.randbelow(_PROBE_PROJECTS)
        part = BlobPart("$doctor", "application/octet-stream", None, [_PROBE_BYTES])
        event, now = str(uuid4()), clock.to_micros(clock.now())
        try:
            [reference] = await store.put(project, event, now, store.default_retention_days, [part])
        except BlobsUnavailable as error:
            return _trouble(error)
        name = keys.parse_blob_url(reference.url, store.scheme, store.bucket).name
        verdict = await self._read(store, project, reference.url)
        try:
            await asyncio.to_thread(self._remove, store, project, name)
        except BlobsUnavailable as error:
            return self._left(error, name.key)
        return verdict

    async def _read(self, store: BlobStore, project: int, url: str) -> Verdict:
        try:
            content = await store.read_all(project, url, limit=len(_PROBE_BYTES))
        except (BlobsUnavailable, BlobNotFound) as error:
            if self._settings.role is Role.CAPTURE and _code(error) == _DENIED:
                return ok("An object was put; this role may not read it, and need not.")
            return _trouble(error)
        if content.data != _PROBE_BYTES:
            return failed(
                "An object was put, and its range has other bytes.",
                "Do not use this storage: it breaks ranges.",
            )
        return ok("An object was put, read by its range and deleted.")

    def _remove(self, store: BlobStore, project: int, name: keys.ObjectName) -> None:
        store.delete([name])
        if not self._is_s3:  # its folders too
            for _ in store.erase_project(project):
                pass

    def _left(self, error: BlobsUnavailable, key: str) -> Verdict:
        if self._settings.role is Role.CAPTURE and _code(error) == _DENIED:
            return ok(
                "An object was put; this role may not delete it, and need not: a worker's sweep "
                f"removes {key}."
            )
        return failed(
            f"The probe was put and cannot be deleted ({_code(error)}); a sweep removes {key}.",
            _REMEDIES.get(_code(error), _REMEDY),
        )

    async def _read_nothing(self, store: BlobStore) -> Verdict:
        """What only reads finds that nothing is there, which takes the right to look."""
        project = _FIRST_PROBE_PROJECT + secrets.randbelow(_PROBE_PROJECTS)
        name = keys.new_object_name(
            project, str(uuid4()), clock.to_micros(clock.now()), store.default_retention_days
        )
        url = keys.blob_url(store.scheme, store.bucket, name, 0, 1)
        try:
            found: StoredBlob = await store.read(project, url)
        except BlobNotFound:
            return ok("Objects can be read.")
        except BlobsUnavailable as error:
            return _trouble(error)
        return failed(f"An object of the name {found.name} is there already.", _REMEDY)

    @property
    def _directory(self) -> Path:
        return Path(unquote(urlsplit(self._url).path))

    @property
    def _endpoint(self) -> str:
        """Where S3 is, without credentials that a URL may have."""
        given = endpoints.effective_endpoint(self._settings.s3_endpoint)
        if given is None:
            region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
            return f"https://s3.{region or DEFAULT_REGION}.amazonaws.com"
        parts = urlsplit(given)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    @contextmanager
    def _opened(self) -> Generator[BlobStore]:
        with closing(configured(self._settings, self._limits)) as store:
            yield store


def _code(error: NilometerError) -> str:
    """S3's code, which ends the sentence."""
    return error.detail.rpartition(": ")[2]


def _trouble(error: NilometerError) -> Verdict:
    return failed(sentence(error.detail), _REMEDIES.get(_code(error), _REMEDY))


def _unseen(what: str, error: NilometerError) -> Verdict:
    remedy = (
        'Install botocore: pip install "nilometer[s3]".'
        if isinstance(error, ConfigurationError)
        else "Run `nilometer doctor` with credentials that may look, if you want it looked at."
    )
    return warning(f"{what} cannot be seen: {sentence(error.detail)}", remedy)
