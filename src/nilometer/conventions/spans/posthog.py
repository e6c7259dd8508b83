"""PostHog's own attributes on spans: its contract's (capture.md, section 9)."""

from __future__ import annotations

from nilometer.conventions.spans.row import DISTINCT_ID, Convention, Row
from nilometer.conventions.spans.shapes import ID, SCALAR, USER

_SDK = "posthog 7"
CONVENTION = Convention(
    name="posthog",
    title="PostHog",
    source="PostHog's capture service and SDKs",
    rows=(
        Row(
            DISTINCT_ID,
            (
                "ai.telemetry.metadata.posthog_distinct_id",
                "ai.settings.context.posthog_distinct_id",
                "posthog.distinct_id",
                "user.id",
            ),
            USER,
            _SDK,
        ),
        Row(
            "$ai_session_id",
            (
                "$ai_session_id",
                "ai.telemetry.metadata.$ai_session_id",
                "ai.settings.context.$ai_session_id",
                "eve.session.id",
                "anthropic.session.id",
            ),
            ID,
            _SDK,
        ),
        Row("$geoip_disable", ("$geoip_disable", "posthog.geoip_disable"), SCALAR, _SDK),
    ),
)
