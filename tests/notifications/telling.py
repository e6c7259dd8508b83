"""A notification to tell, and where it may go."""

from datetime import UTC, datetime

from nilometer.notifications.notification import Notification, Severity
from nilometer.notifications.reach import Reach

LOOPBACK = Reach.parse("127.0.0.0/8")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def told(**more) -> Notification:
    given = {
        "kind": "budget.threshold",
        "project_id": 7,
        "title": "Budget research: 80 % of 100 USD",
        "text": "80.000000000000000001 USD were spent.",
        "severity": Severity.WARNING,
        "facts": {"spent": "80.000000000000000001", "limit": "100"},
        "occurred_at": datetime(2026, 11, 21, 12, 0, 0, 5, UTC),
        "link": "https://nilometer.example/budgets/1",
    }
    return Notification.new(**(given | more))
