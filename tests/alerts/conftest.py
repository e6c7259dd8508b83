import pytest

from nilometer.access.accounts import Accounts
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
