"""The commands of docs/blobs.md and docs/kubernetes.md do what is said there."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import boto3
import yaml
from moto.server import ThreadedMotoServer

from tests.deploy.tools import ROOT, TOOLS, run

BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def script(page: str) -> str:
    blocks = BLOCK.findall((ROOT / "docs" / page).read_text())
    assert blocks
    return "\n".join(["set -euo pipefail", *blocks])


def in_checkout(tmp_path: Path) -> Path:
    """A folder that looks like a checkout's root, to leave files in."""
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    return tmp_path


def command(folder: Path, name: str, text: str) -> Path:
    """A command that stands for the real one, first on a PATH of its own."""
    file = folder / "bin" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file.parent


def test_the_key_of_the_docs_is_made_used_and_deleted(tmp_path: Path) -> None:
    """The real AWS CLI runs the script in tests of its own; here it is one that only answers."""
    answer = (
        'case "$*" in *create-access-key*) printf "AKIAEXAMPLE\\tsecret\\n" ;; '
        "*list-access-keys*) [ ! -e production-test.env ] || echo AKIAEXAMPLE ;; esac"
    )
    path = {"PATH": f"{command(tmp_path, 'aws', answer)}:{os.environ['PATH']}"}
    text = script("blobs.md").replace(
        "source production-test.env", 'source production-test.env; echo "key $AWS_ACCESS_KEY_ID"'
    )
    done = run(["bash", "-c", text], cwd=in_checkout(tmp_path), environment=path)
    assert "key AKIAEXAMPLE" in done.stdout
    assert "Deleted the user" in done.stdout
    assert not (tmp_path / "production-test.env").exists()


def test_what_kubernetes_needs_is_made_as_the_docs_say(tmp_path: Path) -> None:
    """Roles on a server of AWS's APIs; what is for a cluster is built and not sent to one."""
    kubectl = TOOLS / "bin" / "kubectl"
    only_build = (
        f'case $1 in apply) cat "$3" > applied.yaml ;; '
        # A secret is refused where its namespace was not made before.
        f'create) grep --quiet "^kind: Namespace" applied.yaml && '
        f'{kubectl} "$@" --dry-run=client --output json > secret.json ;; '
        f'*) {kubectl} "$@" ;; esac'
    )
    bin_ = command(tmp_path, "kubectl", only_build)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        environment = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": "us-east-1",
            "PATH": f"{bin_}:{TOOLS / 'bin'}:{os.environ['PATH']}",
        }
        run(
            ["bash", "-c", script("kubernetes.md")],
            cwd=in_checkout(tmp_path),
            environment=environment,
        )
        iam = boto3.client(
            "iam",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )
        role = iam.get_role(RoleName="nilometer-production-capture")["Role"]
        policy = iam.get_role_policy(RoleName=role["RoleName"], PolicyName="blobs")
        iam.close()
    finally:
        server.stop()

    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    account = "system:serviceaccount:nilometer:nilometer-capture"
    assert account in trust["Condition"]["StringEquals"].values()
    left = json.dumps([role["AssumeRolePolicyDocument"], policy["PolicyDocument"]])
    assert not re.search(r"ACCOUNT|OIDC_PROVIDER|NAMESPACE|BUCKET|TEAM_ID", left)

    applied = list(yaml.safe_load_all((tmp_path / "applied.yaml").read_text()))
    annotated = {
        each["metadata"]["annotations"]["eks.amazonaws.com/role-arn"].rpartition("/")[2]
        for each in applied
        if each["kind"] == "ServiceAccount"
    }
    assert role["RoleName"] in annotated
    secret = json.loads((tmp_path / "secret.json").read_text())
    wanted = {
        key["valueFrom"]["secretKeyRef"]["key"]
        for each in applied
        if each["kind"] == "Deployment"
        for container in each["spec"]["template"]["spec"]["containers"]
        for key in container["env"]
        if not key["valueFrom"]["secretKeyRef"].get("optional")
    }
    assert wanted <= set(secret["data"])
    assert secret["metadata"]["name"] == "nilometer"


def test_the_shell_of_the_docs_is_sound(tmp_path: Path) -> None:
    for page in ("blobs.md", "kubernetes.md"):
        (tmp_path / page).write_text("#!/bin/bash\n" + script(page))
        run(["shellcheck", "--exclude", "SC1091", tmp_path / page])
