"""Takes the real servers of the suite's distributed deployment away and brings them back.

    python -m tests.acceptance.server_faults DIRECTORY stop s3

and likewise start; stop and start with kafka; deny and allow with s3. A server is killed, and it
starts over what it had stored.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.servers.kafka import KafkaServer
from tests.servers.s3 import S3Server
from tests.servers.server import Server
from tests.services import S3Service

BUCKET = "posthog-llma-test"
_KINDS: dict[str, type[Server]] = {kind.name: kind for kind in (KafkaServer, S3Server)}


class Rights:
    """Those of the deployment's own user, who may use its bucket alone."""

    _USER = "nilometer"
    _POLICY = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
                    "Resource": f"arn:aws:s3:::{BUCKET}/*",
                },
                {
                    "Effect": "Allow",
                    "Action": "s3:ListBucket",
                    "Resource": f"arn:aws:s3:::{BUCKET}",
                },
            ],
        }
    )

    def __init__(self, endpoint: str) -> None:
        self._service = S3Service(endpoint)
        self._identities: Any = self._service.client("iam")

    def grant_to_new_user(self) -> dict[str, str]:
        """Make the user; its credentials as environment variables."""
        self._identities.create_user(UserName=self._USER)
        self.grant()
        key = self._identities.create_access_key(UserName=self._USER)["AccessKey"]
        return {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            "AWS_REGION": self._service.region,
        }

    def grant(self) -> None:
        self._identities.put_user_policy(
            UserName=self._USER, PolicyName="bucket", PolicyDocument=self._POLICY
        )

    def revoke(self) -> None:
        self._identities.delete_user_policy(UserName=self._USER, PolicyName="bucket")


def main(directory: Path, fault: str, name: str) -> None:
    """Carry out one command on the deployment in the directory."""
    state = json.loads((directory / "state.json").read_text())
    place = state[name]
    server = _KINDS[name](Path(place["folder"]), place["port"], state["owner"])
    if fault in ("deny", "allow"):
        rights = Rights(server.address)
        rights.revoke() if fault == "deny" else rights.grant()
        return
    {"stop": server.kill, "start": server.start}[fault]()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
