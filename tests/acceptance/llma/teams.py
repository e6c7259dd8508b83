"""A team for a test, and nothing left of it afterwards."""

from __future__ import annotations

import secrets

from tests.acceptance.llma.api import Api, Organization, Team
from tests.acceptance.llma.bucket import Bucket
from tests.acceptance.llma.configuration import Configuration
from tests.acceptance.llma.polling import until


class Teams:
    """Makes teams and organizations with names that no other run has; `clean_up` deletes them."""

    def __init__(self, configuration: Configuration, api: Api, bucket: Bucket) -> None:
        self._configuration = configuration
        self._api = api
        self._bucket = bucket
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
        """Delete what was made, wait until it is deleted, and look that no object is left.

        The deletion of a whole organization cannot be watched with any of its keys, because they
        end with it; its objects can.
        """
        for team in self._teams:
            self._api.delete_team(team.id)
        for organization in self._organizations:
            api = Api(self._configuration, organization.personal_key)
            api.delete_organization()
            api.close()
        for team in self._teams:
            self._api.wait_until_deleted(team.id)
            left = self._bucket.keys_of_team(team.id)
            assert left == [], f"team {team.id} is deleted, but its objects are not: {left}"
        for organization in self._organizations:
            team_id = organization.team.id
            until(
                lambda team_id=team_id: not self._bucket.keys_of_team(team_id),
                f"the objects of team {team_id} are deleted",
            )


def _name() -> str:
    return f"llma acceptance {secrets.token_hex(4)}"
