"""Sets a bucket up: there, closed to the public, with the lifecycle rules of its retentions.

Each step looks before it changes anything, so that doing it again changes nothing; what an operator
set otherwise is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nilometer.blobs import lifecycle
from nilometer.blobs.bucket import Bucket, BucketNotFound, BucketRefused, Lifecycle
from nilometer.errors import ConfigurationError

if TYPE_CHECKING:
    from nilometer.settings import Settings


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was looked at. `changed` says whether it was changed, or would be in a dry
    run; `said` is what it is now, or will be, in a sentence."""

    changed: bool
    said: str


def set_up(
    settings: Settings,
    *,
    create_bucket: bool = False,
    retentions: Iterable[int] = (),
    dry_run: bool = False,
) -> Iterator[Step]:
    """Set the bucket of the settings up, a step at a time; a dry run only looks.

    `retentions` are further ones, in days, to make rules for. A step is done when it is yielded.
    Raises ConfigurationError, BucketRefused, BucketNotFound and BlobsUnavailable; the steps yielded
    before stay done.
    """
    bucket = Bucket.of(settings)
    if bucket is None:
        raise ConfigurationError(
            "blobs are kept in a directory, and only a bucket needs setting up: give "
            "NILOMETER_BLOBS_URL=s3://bucket",
            attr="blobs_url",
        )
    with closing(bucket):
        there = bucket.exists()
        yield _existence(bucket, there=there, create=create_bucket, dry_run=dry_run)
        if not there and dry_run:
            yield Step(True, "public access is blocked")
            wanted = lifecycle.wanted_rules(settings, set(retentions))
            yield from (Step(True, _told(rule)) for rule in wanted)
            return
        yield _public_access(bucket, dry_run=dry_run)
        wanted = lifecycle.wanted_rules(settings, {*retentions, *bucket.retentions()})
        yield from _rules(bucket, wanted, dry_run=dry_run)


def _existence(bucket: Bucket, *, there: bool, create: bool, dry_run: bool) -> Step:
    if there:
        return Step(False, f"the bucket {bucket.name} is there")
    if not create:
        raise BucketNotFound(
            f"there is no bucket {bucket.name}; --create-bucket makes it in {bucket.region}"
        )
    if not dry_run:
        bucket.create()
    return Step(True, f"the bucket {bucket.name} is made in {bucket.region}")


def _public_access(bucket: Bucket, *, dry_run: bool) -> Step:
    found = bucket.public_access_block()
    if found is None:
        return Step(
            False,
            "this server has no public access block: see that its own policies let no stranger in",
        )
    if all(found.values()):
        return Step(False, "public access is blocked")
    if not dry_run:
        bucket.block_public_access()
    return Step(True, "public access is blocked")


def _rules(bucket: Bucket, wanted: list[lifecycle.Rule], *, dry_run: bool) -> Iterator[Step]:
    found = bucket.lifecycle()
    lacking = lifecycle.missing(found.rules, wanted)
    if lacking and not dry_run:
        bucket.put_lifecycle(_with(found, lacking))
    yield from (Step(rule in lacking, _told(rule)) for rule in wanted)
    yield from (Step(False, told) for told in lifecycle.too_early(found.rules, wanted))


def _with(found: Lifecycle, lacking: list[lifecycle.Rule]) -> Lifecycle:
    """The rules with those that lack; one of Nilometer's own name is put in its place."""
    ours = {rule["ID"] for rule in lacking}
    rules = [rule for rule in found.rules if rule.get("ID") not in ours] + lacking
    if len(rules) > lifecycle.MAX_RULES:
        raise BucketRefused(
            f"the bucket would have {len(rules)} lifecycle rules, and S3 takes "
            f"{lifecycle.MAX_RULES}: let projects share retentions"
        )
    return replace(found, rules=rules)


def _told(rule: lifecycle.Rule) -> str:
    return f"the rule {rule['ID']} {lifecycle.told(rule)}"
