"""Requests to an object store, signed as AWS Signature Version 4 has it.

Decides whose credentials sign a request: those of a file, read again each time, else those of the environment, as
AWS's own tools name them. The body is always signed, so that nobody on the way exchanges it. Must never log a
credential, nor sign without one. Trusts `botocore` for the signature itself.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# It writes what it signs at debug level, and with it the session's token.
logging.getLogger("botocore.auth").setLevel(logging.INFO)

SERVICE: Final = "s3"
_PARTS: Final = (2, 3)


@dataclass(frozen=True, slots=True)
class S3Signer:
    """Signs requests for one region.

    Args:
        region: such as `eu-west-1`; `us-east-1` for most other stores that speak S3.
        text: `ID:SECRET` or `ID:SECRET:SESSION_TOKEN`, asked for each request. An OSError or ValueError of it is told.
    """

    region: str
    text: Callable[[], str]

    def __call__(self, method: str, url: str, body: bytes = b"") -> dict[str, str]:
        """The headers that a request needs.

        Raises:
            OSError, ValueError: there are no credentials.
        """
        parts = self.text().split(":", 2)
        if len(parts) not in _PARTS or not all(parts):
            raise ValueError("credentials are ID:SECRET or ID:SECRET:SESSION_TOKEN")
        request = AWSRequest(method=method, url=url, data=body)
        S3SigV4Auth(Credentials(*parts), SERVICE, self.region).add_auth(request)
        return {name.lower(): str(text) for name, text in request.headers.items()}


def from_environment(environment: Mapping[str, str]) -> str:
    """The credentials that AWS's own tools would take.

    Raises:
        ValueError: there are none.
    """
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    key, secret, session = (environment.get(name, "") for name in names)
    if not key or not secret:
        raise ValueError("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set")
    return ":".join(filter(None, (key, secret, session)))
