"""What is set on a bucket of S3: its lifecycle rules and its public access block.

obstore has no API for these, so botocore asks: its own way to credentials (the environment,
`~/.aws` with profiles and SSO, roles), regions and signatures. It comes with the extra `s3`. Blobs
are never read or written here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nilometer.blobs import endpoint as endpoints
from nilometer.blobs import keys
from nilometer.blobs.types import BlobsUnavailable
from nilometer.errors import ConfigurationError, NilometerError, NotFound

if TYPE_CHECKING:
    from nilometer.settings import Settings

PUBLIC_ACCESS_BLOCK = (
    "BlockPublicAcls",
    "IgnorePublicAcls",
    "BlockPublicPolicy",
    "RestrictPublicBuckets",
)
DEFAULT_REGION = "us-east-1"
_TIMEOUT_SECONDS = 5
_ATTEMPTS = 3
# The permission that each request takes, where it is not called like the request.
_PERMISSIONS = {
    "HeadBucket": "s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
    "GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
}
_LIFECYCLE = "GetBucketLifecycleConfiguration"
_NOTHING_SET = ("NoSuchLifecycleConfiguration", "NoSuchPublicAccessBlockConfiguration")
_UNSUPPORTED = ("NotImplemented", "MethodNotAllowed")
_ELEMENT = re.compile(rb"<([A-Za-z][A-Za-z0-9]*)")


class BucketRefused(NilometerError):
    """S3 does not do what was asked of the bucket; the sentence says what it wants."""

    code = "bucket_refused"


class BucketNotFound(NotFound):
    """There is no such bucket."""

    code = "bucket_not_found"


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """A bucket's rules, as botocore has them, and what goes back with them unchanged."""

    rules: list[dict[str, Any]]
    kept: Mapping[str, str]


class Bucket:
    """One bucket. Every method raises BucketRefused, BucketNotFound and BlobsUnavailable."""

    def __init__(self, name: str, *, endpoint: str | None = None, path_style: bool = True) -> None:
        """Raises ConfigurationError when botocore is not installed or the endpoint is unsafe."""
        self.name = name
        endpoint = endpoints.effective_endpoint(endpoint)
        endpoints.is_plain_http(endpoint)
        self._client = _client(endpoint, path_style=path_style)
        self._version: str = import_module("botocore").__version__
        self._lifecycle_xml = b""
        self._client.meta.events.register(f"before-parse.s3.{_LIFECYCLE}", self._keep_xml)

    @classmethod
    def of(cls, settings: Settings) -> Bucket | None:
        """The bucket of the settings; None when blobs are in a directory."""
        parts = urlsplit(settings.effective_blobs_url)
        if parts.scheme != "s3":
            return None
        return cls(parts.netloc, endpoint=settings.s3_endpoint, path_style=settings.s3_path_style)

    def exists(self) -> bool:
        """Whether there is a bucket of this name, that these credentials may ask about."""
        try:
            self._do("head_bucket")
        except BucketNotFound:
            return False
        return True

    @property
    def region(self) -> str:
        """Where requests go, and where `create` makes it."""
        name: str = self._client.meta.region_name
        return name

    def create(self) -> None:
        """Create it in the region of the environment."""
        where = {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
        self._do("create_bucket", **({} if self.region == DEFAULT_REGION else where))

    def lifecycle(self) -> Lifecycle:
        """The rules that are set. Raises BucketRefused when botocore does not know all of them:
        written back they would be less than they were."""
        try:
            found = self._do("get_bucket_lifecycle_configuration")
        except _NothingSet:
            return Lifecycle([], {})
        self._check_understood()
        minimum = found.get("TransitionDefaultMinimumObjectSize")
        kept = {"TransitionDefaultMinimumObjectSize": minimum} if minimum else {}
        return Lifecycle(found.get("Rules", []), kept)

    def put_lifecycle(self, lifecycle: Lifecycle) -> None:
        """Set these rules in place of all that are set."""
        self._do(
            "put_bucket_lifecycle_configuration",
            LifecycleConfiguration={"Rules": lifecycle.rules},
            **lifecycle.kept,
        )

    def public_access_block(self) -> dict[str, bool] | None:
        """Which of PUBLIC_ACCESS_BLOCK are on; None on a server that has no such thing."""
        try:
            found = self._do("get_public_access_block")["PublicAccessBlockConfiguration"]
        except _NothingSet:
            return dict.fromkeys(PUBLIC_ACCESS_BLOCK, False)
        except _Unsupported:
            return None
        return {name: found.get(name) is True for name in PUBLIC_ACCESS_BLOCK}

    def block_public_access(self) -> None:
        """Turn all of them on."""
        every = dict.fromkeys(PUBLIC_ACCESS_BLOCK, True)
        self._do("put_public_access_block", PublicAccessBlockConfiguration=every)

    def retentions(self) -> set[int]:
        """The retentions, in days, whose prefixes have objects."""
        found: set[int] = set()
        token: dict[str, str] = {}
        while True:
            page = self._do("list_objects_v2", Delimiter="/", Prefix="llma", **token)
            names = [each["Prefix"].rstrip("/") for each in page.get("CommonPrefixes", [])]
            found.update(filter(None, map(keys.retention_of, names)))
            if not page.get("IsTruncated"):
                return found
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def _do(self, method: str, **arguments: Any) -> dict[str, Any]:
        with self._translated():
            found: dict[str, Any] = getattr(self._client, method)(Bucket=self.name, **arguments)
            return found

    @contextmanager
    def _translated(self) -> Generator[None]:
        exceptions: Any = import_module("botocore.exceptions")
        try:
            yield
        except exceptions.ClientError as error:
            raise self._error(error.operation_name, error.response) from error
        except exceptions.NoCredentialsError as error:
            raise ConfigurationError(
                "there are no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                "AWS_PROFILE"
            ) from error
        except (exceptions.ConnectionError, exceptions.HTTPClientError) as error:
            raise BlobsUnavailable(f"S3 does not answer: {type(error).__name__}") from error
        except exceptions.BotoCoreError as error:
            raise ConfigurationError(f"S3 cannot be asked: {error}") from error

    def _error(self, operation: str, response: Mapping[str, Any]) -> NilometerError:
        code = str(response.get("Error", {}).get("Code", ""))
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _NOTHING_SET:
            return _NothingSet(code)
        if code in ("NoSuchBucket", "404"):
            return BucketNotFound(f"there is no bucket {self.name}")
        if code in _UNSUPPORTED or status == HTTPStatus.NOT_IMPLEMENTED:
            return _Unsupported(f"this S3 server does not know {operation}")
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return BlobsUnavailable(f"S3 does not do {operation} at the moment: {code}")
        return BucketRefused(self._refusal(operation, code))

    def _refusal(self, operation: str, code: str) -> str:
        if code in ("AccessDenied", "403", "Forbidden"):
            permission = _PERMISSIONS.get(operation, f"s3:{operation}")
            return (
                f"these credentials may not do {permission} on arn:aws:s3:::{self.name}: allow it "
                "in their policy (deploy/s3/setup.json has all that is needed), unless the bucket "
                "is another account's"
            )
        if code == "BucketAlreadyExists":
            return f"another account has a bucket called {self.name}: choose another name"
        return f"S3 refuses {operation} on the bucket {self.name}: {code}"

    def _keep_xml(self, response_dict: Mapping[str, Any], **_: Any) -> None:
        self._lifecycle_xml = response_dict["body"]

    def _check_understood(self) -> None:
        operation = self._client.meta.service_model.operation_model(_LIFECYCLE)
        known = _element_names(operation.output_shape) | {"LifecycleConfiguration"}
        sent = {name.decode() for name in _ELEMENT.findall(self._lifecycle_xml)}
        if unknown := sorted(sent - known):
            raise BucketRefused(
                f"the bucket's lifecycle rules have parts that botocore {self._version} does not "
                f"know and would drop ({', '.join(unknown)}): upgrade it, or set the rules by hand"
            )


def _client(endpoint: str | None, *, path_style: bool) -> Any:
    try:
        session: Any = import_module("botocore.session").get_session()
        config: Any = import_module("botocore.config").Config
        exceptions: Any = import_module("botocore.exceptions")
    except ModuleNotFoundError:
        raise ConfigurationError(
            'bucket settings need botocore: pip install "nilometer[s3]"'
        ) from None
    try:
        region = os.environ.get("AWS_REGION") or session.get_config_variable("region")
        return session.create_client(
            "s3",
            endpoint_url=endpoint,
            region_name=region or DEFAULT_REGION,
            config=config(
                connect_timeout=_TIMEOUT_SECONDS,
                read_timeout=_TIMEOUT_SECONDS,
                retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
                s3={"addressing_style": "path" if path_style else "virtual"},
            ),
        )
    except ValueError:  # whose text has the endpoint, and what may be in it
        raise ConfigurationError(
            "the S3 endpoint is no address: give https://host, or http://host:port",
            attr="s3_endpoint",
        ) from None
    except exceptions.BotoCoreError as error:
        raise ConfigurationError(f"S3 cannot be asked: {error}") from error


def _element_names(shape: Any) -> set[str]:
    """What the elements of a shape, and of all inside it, are called in XML."""
    if shape.type_name == "list":
        return _element_names(shape.member)
    if shape.type_name != "structure":
        return set()
    names: set[str] = set()
    for name, member in shape.members.items():
        names |= {member.serialization.get("name", name)} | _element_names(member)
    return names


class _NothingSet(NilometerError):
    """The bucket has none of what was asked for."""


class _Unsupported(BucketRefused):
    """The server does not know the request."""
