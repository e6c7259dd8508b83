from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from nilometer.access.accounts import Accounts
from nilometer.budgets.budget import BudgetScope, ScopeKind
from nilometer.budgets.periods import Period
from nilometer.budgets.store import Budgets
from nilometer.notifications.channel_store import Channels
from nilometer.notifications.channels import ChannelKind
from nilometer.notifications.configuration import Egress
from nilometer.notifications.reach import Reach
from tests.database.both import KINDS, opened


@pytest.fixture(params=KINDS)
def database(request, tmp_path):
    with opened(request, tmp_path) as database:
        yield database


@pytest.fixture
def project_id(database):
    return Accounts(database).bootstrap(None).project_id


@pytest.fixture
def channel(database, project_id):
    """The id of a webhook of the project."""
    egress = Egress(Reach.parse("127.0.0.0/8"))
    url = {"url": "http://127.0.0.1:9/"}
    return Channels(database, egress).add(project_id, "hook", ChannelKind.WEBHOOK, url).id


@pytest.fixture
def budgets(database):
    return Budgets(database)


@pytest.fixture
def add(budgets, project_id):
    """Adds a budget: 100 dollars a month unless told otherwise."""

    def add(**given):
        values = {
            "name": "all",
            "scope": BudgetScope(ScopeKind.PROJECT),
            "amount": Decimal(100),
            "period": Period.MONTH,
        }
        return budgets.add(project_id, **{**values, **given})

    return add


@pytest.fixture
def now():
    """The middle of the next month: budgets are made now, and no test is at an edge."""
    return (datetime.now(UTC).replace(day=15, hour=12) + timedelta(days=31)).replace(day=15)
