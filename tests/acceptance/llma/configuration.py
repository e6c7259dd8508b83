"""Where the deployment is and who asks, from the environment.

The names are those of the two `export` blocks in docs/acceptance.md, which are complete: pasted
into a shell, either configures everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

MODES = ("local", "production")
_REQUIRED = (
    "POSTHOG_HOST",
    "POSTHOG_PROJECT_ID",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "LLMA_S3_BUCKET",
)


class Misconfigured(Exception):
    """The environment does not say where the deployment is; the text says what to set."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """A deployment. `s3_endpoint` is None for Amazon's own. `team_id` is the team whose blobs may
    be read, which is the project of `project_id` unless the environment says otherwise.
    `processes` are where each process answers about itself; one alone does at `host`."""

    host: str
    capture_endpoint: str
    api_key: str
    project_id: int
    team_id: int
    bucket: str
    region: str
    s3_endpoint: str | None
    access_key_id: str
    secret_access_key: str
    mode: str
    processes: tuple[str, ...]

    @property
    def is_local(self) -> bool:
        """Whether everything that it names is on this machine, and not called production."""
        addresses = (self.host, self.capture_endpoint, self.s3_endpoint or "https://s3")
        return self.mode == "local" and all(map(_is_loopback, addresses))


def read(environment: Mapping[str, str]) -> Configuration:
    """The configuration that the variables give. Raises Misconfigured."""
    values = {name: value for name, value in environment.items() if value}
    api_key = values.get("POSTHOG_API_KEY") or values.get("POSTHOG_PROJECT_API_KEY")
    missing = [name for name in _REQUIRED if name not in values]
    if api_key is None:
        missing.insert(1, "POSTHOG_API_KEY or POSTHOG_PROJECT_API_KEY")
    if missing:
        raise Misconfigured(f"set {', '.join(missing)}: docs/acceptance.md says to what")
    assert api_key is not None
    mode = values.get("LLMA_TEST_MODE", "local")
    if mode not in MODES:
        raise Misconfigured(f"LLMA_TEST_MODE is {' or '.join(MODES)}")
    project_id = _number("POSTHOG_PROJECT_ID", values["POSTHOG_PROJECT_ID"])
    processes = values.get("LLMA_PROCESSES", values["POSTHOG_HOST"]).split()
    return Configuration(
        host=_address("POSTHOG_HOST", values["POSTHOG_HOST"]),
        capture_endpoint=_address(
            "CAPTURE_ENDPOINT", values.get("CAPTURE_ENDPOINT", values["POSTHOG_HOST"])
        ),
        api_key=api_key,
        project_id=project_id,
        team_id=_number("LLMA_TEAM_ID", values.get("LLMA_TEAM_ID", str(project_id))),
        bucket=values["LLMA_S3_BUCKET"],
        region=values.get("AWS_DEFAULT_REGION", "us-east-1"),
        s3_endpoint=values.get("AWS_ENDPOINT_URL"),
        access_key_id=values["AWS_ACCESS_KEY_ID"],
        secret_access_key=values["AWS_SECRET_ACCESS_KEY"],
        mode=mode,
        processes=tuple(_address("LLMA_PROCESSES", each) for each in processes),
    )


def _number(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise Misconfigured(f"{name} is a number")
    return int(text)


def _address(name: str, text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Misconfigured(f"{name} is an http or https URL")
    return text.rstrip("/")


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
