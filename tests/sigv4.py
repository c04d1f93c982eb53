"""AWS Signature Version 4, as a server checks it: written from the published algorithm, apart from what signs.

Source: AWS "Authenticating Requests: Using the Authorization Header". A test holds it to that page's example.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SKEW = timedelta(minutes=15)
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 ?Credential=([^/,]+)/(\d{8})/([^/]+)/s3/aws4_request, ?"
    r"SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})"
)


def refused(
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    secrets: Mapping[str, str],
    region: str,
    now: datetime,
) -> str:
    """Why a store refuses a request, by S3's own code; empty where it takes it. Headers have lower-case names."""
    found = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if found is None:
        return "AccessDenied"
    key, day, named, signed, signature = found.groups()
    at, told, names = headers.get("x-amz-date", ""), headers.get("x-amz-content-sha256", ""), signed.split(";")
    needed = {"host", *(name for name in headers if name.startswith("x-amz-"))}
    wrong = {
        "InvalidAccessKeyId": key not in secrets,
        "RequestTimeTooSkewed": not at.startswith(day) or abs(_moment(at) - now) > SKEW,
        "AuthorizationHeaderMalformed": named != region,
        "XAmzContentSHA256Mismatch": told != hashlib.sha256(body).hexdigest(),
        "AccessDenied": not needed <= {*names},
    }
    if any(wrong.values()):
        return next(code for code, holds in wrong.items() if holds)
    lines = [method, path, "", *(f"{name}:{headers[name].strip()}" for name in names), "", signed, told]
    scope = f"{day}/{region}/s3/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", at, scope, hashlib.sha256("\n".join(lines).encode()).hexdigest()))
    derived = f"AWS4{secrets[key]}".encode()
    for part in (day, region, "s3", "aws4_request", text):
        derived = hmac.digest(derived, part.encode(), "sha256")
    return "" if hmac.compare_digest(derived.hex(), signature) else "SignatureDoesNotMatch"


def _moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
