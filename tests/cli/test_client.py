"""The commands' client of a server."""

import pytest

from nilometer.cli.client import connected


@pytest.mark.parametrize(("url", "trusts"), [("http://[::1]", False), ("https://[::1]", True)])
def test_the_authorities_are_loaded_only_where_they_are_asked_for(url, trusts):
    with connected(url, "a-key") as client:
        context = client._http._transport._pool._ssl_context
        assert bool(context.get_ca_certs()) == trusts
        assert context.check_hostname
