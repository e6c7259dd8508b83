"""Where requests for a bucket go: the setting, then AWS's environment variables."""

from __future__ import annotations

import os
from ipaddress import ip_address
from urllib.parse import urlsplit, urlunsplit

from nilometer.errors import ConfigurationError

_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


def effective_endpoint(setting: str | None) -> str | None:
    """The S3 server's URL; None for Amazon's own."""
    if setting is not None:
        return setting
    return next((os.environ[name] for name in _VARIABLES if os.environ.get(name)), None)


def of_bucket(endpoint: str, bucket: str) -> str:
    """The endpoint with the bucket in its host name, for virtual-hosted style."""
    parts = urlsplit(endpoint)
    return urlunsplit(parts._replace(netloc=f"{bucket}.{parts.netloc}"))


def is_plain_http(endpoint: str | None) -> bool:
    """Whether it is http: on this machine, or where AWS_ALLOW_HTTP says that it may be.

    Raises ConfigurationError for an http endpoint elsewhere: prompts would cross the network
    readable.
    """
    parts = urlsplit(endpoint or "")
    if parts.scheme != "http":
        return False
    allowed = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes")
    if not allowed and not is_loopback(parts.hostname or ""):
        raise ConfigurationError(
            "the S3 endpoint is http and not on this machine; use https, or set "
            "AWS_ALLOW_HTTP=true to send blobs unencrypted",
            attr="s3_endpoint",
        )
    return True


def is_loopback(host: str) -> bool:
    """Whether the host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
