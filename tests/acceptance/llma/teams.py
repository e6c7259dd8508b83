"""A team for a test, and nothing left of it afterwards."""

from __future__ import annotations

import secrets

from tests.acceptance.llma.api import Api, Organization, Team
from tests.acceptance.llma.bucket import Bucket
from tests.acceptance.llma.configuration import Configuration
from tests.acceptance.llma.polling import until


class Leftovers:
    """Teams whose deletion was asked for; `wait_until_gone` sees it through.

    A deletion takes the server a moment, so it goes on beside the tests that follow.
    """

    def __init__(self, api: Api, bucket: Bucket) -> None:
        self._api = api
        self._bucket = bucket
        self._watched: list[int] = []
        self._unwatched: list[int] = []

    def delete(self, team: Team) -> None:
        """Ask for a team's deletion."""
        self._api.delete_team(team.id)
        self._watched.append(team.id)

    def delete_organization(self, organization: Organization, api: Api) -> None:
        """Ask for an organization's deletion, with its own key.

        No key is left to watch it with; only that the objects go can be seen.
        """
        api.delete_organization()
        self._unwatched.append(organization.team.id)

    def wait_until_gone(self) -> None:
        """Return once every team is deleted, and look that no object of theirs is left."""
        while self._watched:
            team_id = self._watched.pop(0)  # in the order in which the server deletes them
            self._api.wait_until_deleted(team_id)
            left = self._bucket.keys_of_team(team_id)
            assert left == [], f"team {team_id} is deleted, but its objects are not: {left}"
        while self._unwatched:
            team_id = self._unwatched.pop()
            until(
                lambda team_id=team_id: not self._bucket.keys_of_team(team_id),
                f"the objects of team {team_id} are deleted",
            )


class Teams:
    """Makes teams and organizations with names that no other run has; `clean_up` deletes them."""

    def __init__(self, configuration: Configuration, api: Api, leftovers: Leftovers) -> None:
        self._configuration = configuration
        self._api = api
        self._leftovers = leftovers
        self._teams: list[Team] = []
        self._organizations: list[Organization] = []

    def create(self) -> Team:
        """A new team."""
        team = self._api.create_team(_name())
        self._teams.append(team)
        return team

    def create_organization(self) -> Organization:
        """A new organization with one team."""
        organization = self._api.create_organization(_name())
        self._organizations.append(organization)
        return organization

    def clean_up(self) -> None:
        """Have everything that was made deleted."""
        for team in self._teams:
            self._leftovers.delete(team)
        for organization in self._organizations:
            api = Api(self._configuration, organization.personal_key)
            self._leftovers.delete_organization(organization, api)
            api.close()


def _name() -> str:
    return f"llma acceptance {secrets.token_hex(4)}"
