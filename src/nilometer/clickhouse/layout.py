"""How the tables lie: on one server, or with a replica on each host of a cluster.

The migrations are the same files. For a cluster their statements are rendered: sent to every host
(`ON CLUSTER`), and with the replicated variant of their engine. The path of a table in Keeper names
the table, and not its UUID, so that a host that joins later finds it. What is rendered is tested as
text; it was never run, because there is no cluster to run it on.

A single server's inserts are not deduplicated by the engine. It could (the setting
`non_replicated_deduplication_window`), but it writes down a token before the part that it stands
for: killed between the two, it takes the insert that is tried again for a repetition and stores
nothing (seen with engine 26.9, killed at the rename of the part). The pipeline looks for what is
stored before it inserts, and rows that are there twice are equal and read as one. On a cluster the
token and the part become one in Keeper.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nilometer.clickhouse.address import DATABASE
from nilometer.errors import ConfigurationError

_HEAD = re.compile(
    r"\A(?P<before>(?:\s|--[^\n]*\n)*)"
    r"(?P<verb>CREATE (?:TABLE|VIEW|DATABASE) IF NOT EXISTS|CREATE OR REPLACE VIEW|CREATE TABLE"
    r"|ALTER TABLE|DROP (?:TABLE|VIEW)(?: IF EXISTS)?) (?P<name>\w+)"
)
# What changes rows and no definition: replication carries it to the other hosts.
_ROWS = re.compile(r"\A(?:\s|--[^\n]*\n)*INSERT INTO ")
_ENGINE = re.compile(r"\bENGINE = (?P<kind>\w*)MergeTree(?:\((?P<arguments>[^()]*)\))?")


@dataclass(frozen=True, slots=True)
class Layout:
    """On the cluster of this name, or on one server when it is empty."""

    cluster: str = ""

    @property
    def on_cluster(self) -> str:
        """What follows a name, so that every host has the statement."""
        return f" ON CLUSTER '{self.cluster}'" if self.cluster else ""

    def rendered(self, statement: str) -> str:
        """A statement of a migration for this layout.

        Raises ConfigurationError for one whose form is not known: it would run on one host alone.
        """
        if not self.cluster or _ROWS.match(statement):
            return statement
        head = _HEAD.match(statement)
        if head is None:
            raise ConfigurationError(
                "a migration of the store has a statement that is not known on a cluster; "
                "this release cannot make the tables of a cluster"
            )
        name = head["name"]
        if "DATABASE" not in head["verb"]:
            name = f"{DATABASE}.{name}"
        rest = _ENGINE.sub(
            lambda engine: _replicated(engine, head["name"]), statement[head.end() :]
        )
        return f"{head['before']}{head['verb']} {name}{self.on_cluster}{rest}"

    def everywhere(self, table: str) -> str:
        """A system table of all hosts, for a FROM."""
        return f"clusterAllReplicas('{self.cluster}', {table})" if self.cluster else table


def _replicated(engine: re.Match[str], table: str) -> str:
    arguments = [f"'/clickhouse/tables/{{shard}}/{DATABASE}/{table}'", "'{replica}'"]
    if engine["arguments"]:
        arguments.append(engine["arguments"])
    return f"ENGINE = Replicated{engine['kind']}MergeTree({', '.join(arguments)})"


SINGLE = Layout()
