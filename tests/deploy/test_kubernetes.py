"""The Kubernetes manifests: built as a user builds them, checked against Kubernetes' schemas."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from nilometer import __version__
from nilometer.front import PROBES
from nilometer.settings import Settings, load
from tests.deploy.tools import DEPLOY, ROOT, TOOLS, run

KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = ("dev", "production")
ROLES = ("capture", "worker", "api")
# The oldest that they are for, and the newest that the schemas know.
VERSIONS = ("1.30.0", "1.37.0")
SECRETS = {
    "database-url": "postgresql://nilometer:password@postgres:5432/nilometer",
    "bootstrap-personal-key": "a-personal-key-of-tests",
    "kafka-username": "nilometer",
    "kafka-password": "password",
    "clickhouse-url": "clickhouse://nilometer:password@clickhouse:8123/nilometer",
    "clickhouse-reader-url": "clickhouse://reader:password@clickhouse:8123/nilometer",
}


def build(overlay: str) -> str:
    return run(["kubectl", "kustomize", KUBERNETES / "overlays" / overlay]).stdout


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return {overlay: build(overlay) for overlay in OVERLAYS}


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def things(texts: dict[str, str], overlay: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(texts[overlay]))


def of_kind(things: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in things if each["kind"] == kind}


def deployment(things: list[dict[str, Any]], role: str) -> dict[str, Any]:
    return of_kind(things, "Deployment")[f"nilometer-{role}"]


def pod(things: list[dict[str, Any]], role: str) -> dict[str, Any]:
    spec: dict[str, Any] = deployment(things, role)["spec"]["template"]["spec"]
    return spec


def container(things: list[dict[str, Any]], role: str) -> dict[str, Any]:
    (found,) = pod(things, role)["containers"]
    return found


def environment(things: list[dict[str, Any]], role: str) -> dict[str, str]:
    """What a process of the role is given, with the secret's values in."""
    spec = container(things, role)
    given: dict[str, str] = {}
    for source in spec["envFrom"]:
        given |= of_kind(things, "ConfigMap")[source["configMapRef"]["name"]]["data"]
    for variable in spec["env"]:
        reference = variable["valueFrom"]["secretKeyRef"]
        assert reference["name"] == "nilometer"
        given[variable["name"]] = SECRETS[reference["key"]]
    return given


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_all_that_they_say(
    texts: dict[str, str], version: str, tmp_path: Path
) -> None:
    for overlay, text in texts.items():
        (tmp_path / f"{overlay}.yaml").write_text(text)
    validate = [TOOLS / "bin" / "kubernetes-validate", "--strict", "--quiet", "-k", version]
    run([*validate, *sorted(tmp_path.glob("*.yaml"))])


def test_what_is_built_is_the_same_each_time(texts: dict[str, str], overlay: str) -> None:
    assert build(overlay) == texts[overlay]


def test_each_overlay_has_its_own_bucket_namespace_and_roles(texts: dict[str, str]) -> None:
    seen = []
    for overlay, text in texts.items():
        things = list(yaml.safe_load_all(text))
        (config,) = of_kind(things, "ConfigMap").values()
        accounts = of_kind(things, "ServiceAccount")
        arns = {
            each["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]
            for each in accounts.values()
        }
        assert arns == {f"arn:aws:iam::111122223333:role/nilometer-{overlay}-{r}" for r in ROLES}
        (namespace,) = of_kind(things, "Namespace")
        assert {each["metadata"].get("namespace", namespace) for each in things} == {namespace}
        seen.append((config["data"]["NILOMETER_BLOBS_URL"], namespace))
    assert seen == [
        ("s3://nilometer-dev", "nilometer-dev"),
        ("s3://nilometer-production", "nilometer"),
    ]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_runs_as_its_own_account(things: list[dict[str, Any]], role: str) -> None:
    spec = pod(things, role)
    assert spec["serviceAccountName"] == f"nilometer-{role}"
    assert spec["serviceAccountName"] in of_kind(things, "ServiceAccount")
    assert not spec["automountServiceAccountToken"]
    assert container(things, role)["args"] == ["serve", "--role", role]
    assert container(things, role)["image"].endswith(f"/nilometer:{__version__}")


@pytest.mark.parametrize("role", ROLES)
def test_the_settings_of_a_role_are_understood(
    things: list[dict[str, Any]], role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = environment(things, role)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    names = {f"NILOMETER_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in given if name.startswith("NILOMETER_")} <= names
    settings = load(role=role, clickhouse_url=SECRETS["clickhouse-url"])
    settings.check_profile()
    assert settings.distributed


def test_capture_is_not_told_where_the_store_is(things: list[dict[str, Any]]) -> None:
    told = [name for name in environment(things, "capture") if "CLICKHOUSE_" in name]
    assert not {"NILOMETER_CLICKHOUSE_URL", "NILOMETER_CLICKHOUSE_READER_URL"} & set(told)
    for role in ("worker", "api"):
        assert "NILOMETER_CLICKHOUSE_URL" in environment(things, role)


def test_no_secret_is_in_them(texts: dict[str, str], things: list[dict[str, Any]]) -> None:
    assert not of_kind(things, "Secret")
    for role in ROLES:
        assert all("value" not in variable for variable in container(things, role)["env"])
    (config,) = of_kind(things, "ConfigMap").values()
    secret = [
        name.upper()
        for name, field in Settings.model_fields.items()
        if "SecretStr" in str(field.annotation)
    ]
    assert not {f"NILOMETER_{name}" for name in secret} & set(config["data"])


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_probed_where_it_answers(things: list[dict[str, Any]], role: str) -> None:
    spec = container(things, role)
    ports = {port["name"] for port in spec["ports"]}
    paths = {}
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = spec[kind]["httpGet"]
        assert asked["port"] in ports
        paths[kind] = asked["path"]
        assert asked["path"].partition("?")[0] in PROBES
    assert paths["readinessProbe"] == f"/_readiness?role={role}"


@pytest.mark.parametrize("role", ROLES)
def test_a_pod_can_do_nothing_but_its_work(things: list[dict[str, Any]], role: str) -> None:
    whole, own = pod(things, role)["securityContext"], container(things, role)["securityContext"]
    uid = re.search(r"useradd .*--uid (\d+)", (ROOT / "Dockerfile").read_text())
    assert uid
    assert whole["runAsNonRoot"]
    assert whole["runAsUser"] == int(uid[1])
    assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    (namespace,) = of_kind(things, "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("role", ROLES)
def test_a_pod_is_given_time_to_end(things: list[dict[str, Any]], role: str) -> None:
    wait = container(things, role)["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = Settings.model_fields["shutdown_grace"].default
    assert pod(things, role)["terminationGracePeriodSeconds"] >= wait + grace + 10
    rolling = deployment(things, role)["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize("role", ROLES)
def test_whatever_selects_pods_selects_those_of_one_role(
    things: list[dict[str, Any]], role: str
) -> None:
    wanted = {"app.kubernetes.io/name": "nilometer", "app.kubernetes.io/component": role}
    name = f"nilometer-{role}"
    spec = deployment(things, role)["spec"]
    assert spec["template"]["metadata"]["labels"] == spec["selector"]["matchLabels"] == wanted
    budget = of_kind(things, "PodDisruptionBudget")[name]["spec"]
    assert budget["selector"]["matchLabels"] == wanted
    spread = pod(things, role)["topologySpreadConstraints"]
    assert [each["labelSelector"]["matchLabels"] for each in spread] == [wanted, wanted]
    service = of_kind(things, "Service").get(name)
    assert (service is None) == (role == "worker")
    if service is not None:
        assert service["spec"]["selector"] == wanted
        ports = {port["name"] for port in container(things, role)["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} == ports


def test_production_scales_within_what_kafka_can_share_out(texts: dict[str, str]) -> None:
    things = list(yaml.safe_load_all(texts["production"]))
    scalers = of_kind(things, "HorizontalPodAutoscaler")
    assert set(scalers) == {f"nilometer-{role}" for role in ROLES}
    for name, each in scalers.items():
        spec = each["spec"]
        assert spec["scaleTargetRef"]["name"] == name
        assert "replicas" not in of_kind(things, "Deployment")[name]["spec"]  # or both would set it
        assert 2 <= spec["minReplicas"] < spec["maxReplicas"]
    partitions = Settings.model_fields["kafka_partitions"].default
    assert scalers["nilometer-worker"]["spec"]["maxReplicas"] <= partitions


def test_dev_is_one_pod_of_each_role(texts: dict[str, str]) -> None:
    things = list(yaml.safe_load_all(texts["dev"]))
    assert not of_kind(things, "HorizontalPodAutoscaler")
    assert [deployment(things, role)["spec"]["replicas"] for role in ROLES] == [1, 1, 1]
