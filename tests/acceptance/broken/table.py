"""What is broken, phase by phase: one exact replacement in a copy of the package each."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[3] / "src" / "nilometer"


@dataclass(frozen=True, slots=True)
class Breakage:
    """`what` is wrong once `old` is `new` in `file`; the test `caught_by` of the phase fails."""

    phase: int
    what: str
    file: str
    old: str
    new: str
    caught_by: str

    @property
    def name(self) -> str:
        return f"phase {self.phase}: {self.what}"

    def text(self) -> str:
        """The broken file. ValueError if what to replace is not there once: then mend the table."""
        text = (PACKAGE / self.file).read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} has {self.old!r} {text.count(self.old)} times, not once")
        return text.replace(self.old, self.new)

    def apply(self, folder: Path) -> None:
        """Copy the package into the folder, broken."""
        package = folder / PACKAGE.name
        shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
        (package / self.file).write_text(self.text())


BREAKAGES = (
    Breakage(
        1,
        "one of the six event types is refused",
        "capture/ai_event.py",
        '    "$ai_feedback",\n)',
        ")",
        "test_all_accepted_ai_event_types",
    ),
    Breakage(
        1,
        "the URLs of blobs are not put into the properties",
        "domain/ai_record.py",
        "return json_text.with_members(text, urls)",
        "return json_text.with_members(text, dict(list(urls.items())[:0]))",
        "test_basic_ai_generation_event",
    ),
    Breakage(
        2,
        "a range is one byte too long",
        "blobs/codec.py",
        "end=start + len(head) + stored_size - 1,",
        "end=start + len(head) + stored_size,",
        "test_a_blob_of_any_size_and_kind_is_stored_as_it_was_sent",
    ),
    Breakage(
        2,
        "an object does not tell its team",
        "blobs/codec.py",
        '"team_id": str(metadata.team_id),',
        '"team_id": "0",',
        "test_an_object_tells_its_type_size_and_team",
    ),
    Breakage(
        3,
        "the default retention has no prefix of its own",
        "blobs/keys.py",
        "None if retention_days == default_days else retention_days,",
        "retention_days,",
        "test_an_object_lies_below_its_team_and_day_at_the_default_retention",
    ),
    Breakage(
        3,
        "readiness does not look at the bucket",
        "process.py",
        'checks["capture"] = {"log": log, "blobs": self.blobs.probe}',
        'checks["capture"] = {"log": log}',
        "test_a_bucket_out_of_reach_is_seen_in_readiness_and_refuses_uploads",
    ),
    Breakage(
        4,
        "an object's type names another boundary than its body has",
        "blobs/codec.py",
        'f"multipart/mixed; boundary={boundary}"',
        'f"multipart/mixed; boundary={boundary[4:]}"',
        "test_all_blobs_of_an_event_are_in_one_multipart_file",
    ),
    Breakage(
        4,
        "an object's last delimiter does not end it",
        "blobs/codec.py",
        'f"\\r\\n--{boundary}--\\r\\n"',
        'f"\\r\\n--{boundary}\\r\\n"',
        "test_the_ranges_of_an_event_follow_each_other_and_hold_a_part_each",
    ),
    Breakage(
        5,
        "revoked keys live on",
        "access/keyring.py",
        "                ApiKey.revoked_at.is_(None),\n",
        "",
        "test_a_replaced_key_ends_within_seconds_and_the_new_one_works",
    ),
    Breakage(
        5,
        "a personal key opens the teams of every organization",
        "access/keyring.py",
        "            Project.organization_id == principal.organization_id,\n",
        "",
        "test_another_organization_sees_nothing_and_learns_nothing",
    ),
    Breakage(
        6,
        "failed uploads are not counted",
        "blobs/store.py",
        "            self._failed.inc()\n",
        "",
        "test_failed_uploads_are_counted_and_seen_in_readiness",
    ),
    Breakage(
        6,
        "latency is not measured",
        "capture/app.py",
        "        self._seconds.observe(seconds)\n",
        "",
        "test_accepted_requests_and_their_latency_are_counted",
    ),
    Breakage(
        7,
        "a part's own Content-Encoding is dropped",
        "capture/ai_form.py",
        'content_encoding=part.headers.get("Content-Encoding"),',
        "content_encoding=None,",
        "test_a_compressed_part_is_stored_as_it_came",
    ),
    Breakage(
        7,
        "a request's Content-Encoding is not undone",
        "capture/ai_door.py",
        'decoder=Gunzip() if encoding == b"gzip" else None,',
        "decoder=None,",
        "test_a_gzip_request_is_one_like_any_other",
    ),
    Breakage(
        8,
        "properties are not checked against their schema",
        "capture/ai_event.py",
        "    schema.check(name, properties, strict=strict)\n",
        "",
        "test_a_property_that_its_schema_does_not_allow_is_refused",
    ),
    Breakage(
        8,
        "a blob may have any content type",
        "capture/blob_parts.py",
        'if lowered not in BLOB_TYPES and not lowered.startswith("text/plain;"):',
        "if not lowered:",
        "test_a_blob_part_needs_a_content_type_of_the_contract",
    ),
)
