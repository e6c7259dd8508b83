"""The lifecycle rules that a bucket should have: one a retention prefix.

Nilometer deletes what has expired itself. The rules are what still deletes when it does not run,
and the only thing that deletes old versions in a bucket that keeps them.

S3 expires an object at the midnight (UTC) after its age in days is reached, and objects are put on
the day of their acceptance or later: never before `domain.retention` says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from nilometer.blobs import keys
from nilometer.blobs.bucket import Bucket

if TYPE_CHECKING:
    from datetime import datetime

    from nilometer.settings import Settings

Rule = dict[str, Any]
MAX_RULES = 1000
"""What S3 takes of a bucket."""
_ACTIONS = ("Expiration", "NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload")


def wanted_rule(days: int) -> Rule:
    """The rule of one retention, as S3's API has it."""
    prefix = keys.retention_prefix(days)
    return {
        "ID": f"nilometer-{prefix}",
        "Status": "Enabled",
        "Filter": {"Prefix": f"{prefix}/"},
        "Expiration": {"Days": days},
        # Where the bucket keeps versions, or what was deleted would stay for ever.
        "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
    }


def wanted_rules(settings: Settings, retentions: Iterable[int] = ()) -> list[Rule]:
    """The rules for the default retention, for that of the settings and for further ones, in days;
    the shortest first."""
    days = {keys.DEFAULT_RETENTION_DAYS, settings.retention_days, *retentions}
    return [wanted_rule(each) for each in sorted(days)]


def missing(existing: Sequence[Rule], wanted: Iterable[Rule]) -> list[Rule]:
    """Those of the wanted rules that no rule of the bucket stands for, whatever its name."""
    return [rule for rule in wanted if not any(_stands_for(each, rule) for each in existing)]


def too_early(existing: Sequence[Rule], wanted: Sequence[Rule]) -> list[str]:
    """A sentence for each rule of others that deletes blobs before their retention ends."""
    own = {rule["ID"] for rule in wanted}
    return [
        f"the rule {rule.get('ID', '(unnamed)')} deletes what is in {_prefix(each)} "
        f"{_when(rule)}, before its retention of {_days(each)}"
        for rule in existing
        for each in wanted
        if rule.get("ID") not in own and _deletes_earlier(rule, each)
    ]


def told(rule: Rule) -> str:
    """What one of the wanted rules does, to follow its name in a sentence."""
    return f"deletes what is in {_prefix(rule)} after {_days(rule)} days"


def missing_rules(settings: Settings, retentions: Iterable[int] = ()) -> list[str]:
    """What is wrong with the bucket's rules, a sentence each; nothing where blobs are files.

    `retentions` are those of projects, in days. Asks S3 twice. Raises ConfigurationError without
    botocore or credentials, BucketRefused without the permissions `s3:GetLifecycleConfiguration`
    and `s3:ListBucket`, BucketNotFound and BlobsUnavailable.
    """
    bucket = Bucket.of(settings)
    if bucket is None:
        return []
    with closing(bucket):
        existing = bucket.lifecycle().rules
        wanted = wanted_rules(settings, {*retentions, *bucket.retentions()})
    sentences = [f"no lifecycle rule {told(rule)}" for rule in missing(existing, wanted)]
    return sentences + too_early(existing, wanted)


def _stands_for(rule: Rule, wanted: Rule) -> bool:
    """Whether the rule does all that the wanted one does, to all of its keys."""
    return (
        rule.get("Status") == "Enabled"
        and _prefix(rule) == _prefix(wanted)
        and not _chosen(rule).keys() - {"Prefix"}
        and all(rule.get(action) == wanted[action] for action in _ACTIONS)
    )


def _deletes_earlier(rule: Rule, wanted: Rule) -> bool:
    prefix, ours, days = _prefix(rule), _prefix(wanted), _days(rule)
    dated = "Date" in rule.get("Expiration", {})  # from then on it deletes what is new, too
    return (
        rule.get("Status") == "Enabled"
        and (prefix.startswith(ours) or ours.startswith(prefix))
        and not _chosen(rule).keys() & {"Tag", "Tags"}  # blobs have no tags
        and (dated or (days is not None and days < wanted["Expiration"]["Days"]))
    )


def _chosen(rule: Rule) -> dict[str, Any]:
    """The conditions of which keys it speaks."""
    conditions: dict[str, Any] = rule.get("Filter", {})
    return conditions.get("And", conditions)


def _prefix(rule: Rule) -> str:
    """Older rules say it beside the filter."""
    found: str = _chosen(rule).get("Prefix") or rule.get("Prefix", "")
    return found


def _days(rule: Rule) -> int | None:
    found: int | None = rule.get("Expiration", {}).get("Days")
    return found


def _when(rule: Rule) -> str:
    date: datetime | None = rule["Expiration"].get("Date")
    return f"after {_days(rule)} days" if date is None else f"from {date:%Y-%m-%d} on"
