"""The script that makes a key for the production suite, with the real AWS CLI."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.deploy.tools import DEPLOY, run
from tests.integration.production.configuration import from_environment
from tests.integration.production_block import BLOCK

SCRIPT = DEPLOY / "generate-s3-test-keys.sh"
TEAM, BUCKET = "123", "posthog-llm-analytics"
FILE = "production-test.env"


@dataclass
class Aws:
    """A server of AWS's APIs, what to tell the CLI of it, and a client of its IAM."""

    environment: dict[str, str]
    iam: Any

    def users(self) -> list[str]:
        return [each["UserName"] for each in self.iam.list_users()["Users"]]

    def keys(self, user: str) -> list[str]:
        found = self.iam.list_access_keys(UserName=user)["AccessKeyMetadata"]
        return [each["AccessKeyId"] for each in found]


@pytest.fixture
def aws() -> Iterator[Aws]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "administrator",
        "AWS_SECRET_ACCESS_KEY": "administrator",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    iam = boto3.client(
        "iam",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
    yield Aws(environment, iam)
    iam.close()
    server.stop()


def sourced(file: Path) -> dict[str, str]:
    """What a shell has after `source`, that had nothing before."""
    text = subprocess.run(
        ["bash", "-c", f"source {shlex.quote(str(file))} && env --null"],
        check=True,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    ).stdout
    return dict(line.split("=", 1) for line in text.split("\0") if line)


def test_a_key_for_one_team_is_made_kept_replaced_and_deleted(aws: Aws, tmp_path: Path) -> None:
    file = tmp_path / FILE
    others = {
        "POSTHOG_PROJECT_API_KEY": 'a"b$c`d\\\\e',
        "POSTHOG_HOST": "https://nilometer.example",
    }

    def script(*options: str) -> str:
        done = run(
            [SCRIPT, *options, TEAM, BUCKET], cwd=tmp_path, environment=aws.environment | others
        )
        assert not done.stderr
        return done.stdout

    before = set(aws.users())
    said = script()
    (user,) = set(aws.users()) - before
    configuration = from_environment(sourced(file))
    assert user in said
    assert configuration.s3_secret not in said
    assert file.stat().st_mode & 0o777 == 0o600
    assert [configuration.s3_key_id] == aws.keys(user)
    assert configuration.team_id == configuration.project_id == TEAM
    assert (configuration.bucket, configuration.region) == (BUCKET, "us-east-1")
    assert configuration.api_key == others["POSTHOG_PROJECT_API_KEY"]
    assert configuration.s3_endpoint == aws.environment["AWS_ENDPOINT_URL"]
    document = aws.iam.get_user_policy(UserName=user, PolicyName="nilometer-test")["PolicyDocument"]
    template = (DEPLOY / "s3" / "test.json").read_text()
    assert document == json.loads(template.replace("TEAM_ID", TEAM).replace("BUCKET", BUCKET))

    kept = file.read_bytes()
    script()
    assert (file.read_bytes(), aws.keys(user)) == (kept, [configuration.s3_key_id])

    file.unlink()  # and with it the secret, which nobody can ask for again
    script()
    replaced = from_environment(sourced(file)).s3_key_id
    assert aws.keys(user) == [replaced]
    assert replaced != configuration.s3_key_id

    assert user in script("--delete")
    assert user not in aws.users()
    assert not file.exists()
    file.write_bytes(kept)  # as when somebody else has deleted the user
    assert "There is no user" in script("--delete")
    assert list(tmp_path.iterdir()) == []


def test_the_file_has_the_lines_that_the_suite_documents(tmp_path: Path) -> None:
    path = instead_of_the_cli(tmp_path, r'printf "AKIAEXAMPLE\tse/cr+et\n"')
    run([SCRIPT, TEAM, BUCKET], cwd=tmp_path, environment=path)

    written = (tmp_path / FILE).read_text()
    wanted = re.sub(r'("[^"]*").*', r"\1", BLOCK)  # without its remarks
    for name, value in sourced(tmp_path / FILE).items():
        wanted = re.sub(rf'(export {name}=)"[^"]*"', rf'\1"{value}"', wanted)
    assert written == wanted
    assert 'AWS_SECRET_ACCESS_KEY="se/cr+et"' in written

    run([SCRIPT, "124", BUCKET], cwd=tmp_path, environment=path, code=1)  # another team's file
    assert (tmp_path / FILE).read_text() == written


def test_a_folder_for_a_file_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    path = instead_of_the_cli(tmp_path, "echo asked >&2")
    for option in ([], ["--delete"]):
        done = run(
            [SCRIPT, *option, TEAM, BUCKET],
            cwd=tmp_path,
            environment=path | {"OUTPUT": str(tmp_path)},
            code=1,
        )
        assert (
            done.stderr == f"generate-s3-test-keys: OUTPUT names a file, and {tmp_path} is none\n"
        )


def instead_of_the_cli(folder: Path, answer: str) -> dict[str, str]:
    """A PATH whose AWS CLI does this when it is asked for a key, and nothing otherwise."""
    command = folder / "bin" / "aws"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\ncase "$*" in *create-access-key*) {answer} ;; esac\n')
    command.chmod(0o755)
    return {"PATH": f"{command.parent}:{os.environ['PATH']}"}


def test_a_refusal_is_told_and_leaves_no_file(tmp_path: Path) -> None:
    path = instead_of_the_cli(tmp_path, "echo 'An error occurred (AccessDenied)' >&2; exit 254")
    done = run([SCRIPT, TEAM, BUCKET], cwd=tmp_path, environment=path, code=254)
    assert "AccessDenied" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["bin"]


def test_a_dry_run_shows_the_policy_and_asks_nothing(tmp_path: Path) -> None:
    nothing = {"PATH": "/usr/bin:/bin", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    said = run([SCRIPT, "--dry-run", TEAM, BUCKET], cwd=tmp_path, environment=nothing).stdout
    policy = json.loads(said[said.index("{") :])
    assert policy["Statement"][0]["Resource"][0] == f"arn:aws:s3:::{BUCKET}/llma/{TEAM}/*"
    assert (
        "Would delete"
        in run(
            [SCRIPT, "--dry-run", "--delete", TEAM, BUCKET], cwd=tmp_path, environment=nothing
        ).stdout
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "team", ["", "0", "-1", "1*", '1"', "1/../2", "*", "1\n2", "१२", "1 2", "9" * 19]
)
def test_a_team_that_is_no_number_is_refused(tmp_path: Path, team: str) -> None:
    code = 2 if team.startswith("-") else 1
    run([SCRIPT, "--dry-run", team, BUCKET], cwd=tmp_path, code=code)


@pytest.mark.parametrize(
    "bucket",
    [
        "",
        "ab",
        "a" * 64,
        "Bucket",
        "a/b/c",
        "a*b",
        'a"b',
        "a b",
        "a&b",
        "a\nbc",
        ".ab",
        "ab-",
        "bücket",
    ],
)
def test_a_bucket_that_is_no_name_is_refused(tmp_path: Path, bucket: str) -> None:
    run([SCRIPT, "--dry-run", TEAM, bucket], cwd=tmp_path, code=1)


@pytest.mark.parametrize(
    "arguments", [[], [TEAM], [TEAM, BUCKET, "more"], ["--what", TEAM, BUCKET]]
)
def test_wrong_usage_says_how(tmp_path: Path, arguments: list[str]) -> None:
    assert "usage:" in run([SCRIPT, *arguments], cwd=tmp_path, code=2).stderr


def test_the_user_of_any_bucket_has_a_name_that_iam_takes(tmp_path: Path) -> None:
    said = run([SCRIPT, "--dry-run", "9" * 18, "b" * 63], cwd=tmp_path).stdout
    name = re.search(r"the user (\S+)", said)
    assert name
    assert re.fullmatch(r"[\w+=,.@-]{1,64}", name[1])


def test_shellcheck_finds_nothing() -> None:
    run(["shellcheck", SCRIPT])
