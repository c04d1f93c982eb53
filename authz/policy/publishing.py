"""Putting an archive where others follow it, with what lies beside it: a folder, or a server of files.

Decides the order: statements first and the archive last, so that nobody finds an archive before what it needs. Must
never send a token in plaintext to another machine, nor follow a redirect with it. What is put there proves itself: who
reads it verifies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import urllib3

from authz.errors import ProgramError
from authz.policy import durable
from authz.policy.origin_http import checked
from authz.policy.sources import beside, what_lies_beside

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from authz.policy.trust import Candidate

    Sign = Callable[[str, str, bytes], Mapping[str, str]]

PUT_S: Final = 120.0


def publish_file(candidate: Candidate, place: Path) -> None:
    """Put it at `place`, whole or not at all.

    Raises:
        ProgramError: it cannot be written.
    """
    try:
        for kind, content in what_lies_beside(candidate).items():
            durable.write(beside(place, candidate.archive, kind), content)
        durable.write(place, candidate.archive)
    except OSError as error:
        raise ProgramError(f"{place}: {error.strerror}") from error


def publish_http(
    candidate: Candidate, url: str, *, token: str = "", sign: Sign | None = None, roots: Path | None = None
) -> None:
    """PUT it at `url`, as object stores and WebDAV servers take files.

    Args:
        candidate: the archive, and what lies beside it.
        url: of the archive.
        token: a bearer token; empty sends none.
        sign: instead, gives headers for a method, a URL and a body.
        roots: PEM of who signs the server's certificate; None means the web's authorities.

    Raises:
        ConfigError: the URL may not be used.
        ProgramError: it was refused, or nobody answers.
    """
    pool = urllib3.PoolManager(num_pools=1, ca_certs=str(roots) if roots else None)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    folder = checked(url).rpartition("/")[0]
    for kind, content in what_lies_beside(candidate).items():
        name = beside_name(candidate, kind)
        _put(pool, f"{folder}/{name}", content, headers | {"content-type": "application/json"}, sign)
    _put(pool, url, candidate.archive, headers | {"content-type": "application/gzip"}, sign)


def beside_name(candidate: Candidate, kind: str) -> str:
    """What a statement's file is called."""
    return f"{candidate.sha256}.{kind}.json"


def _put(pool: urllib3.PoolManager, url: str, content: bytes, headers: dict[str, str], sign: Sign | None) -> None:
    try:
        headers |= sign("PUT", url, content) if sign else {}
    except (OSError, ValueError) as error:
        raise ProgramError(f"{url}: {error}", remedy="see --s3-region") from None
    try:
        response = pool.request(
            "PUT", url, body=content, headers=headers, redirect=False, retries=False, timeout=urllib3.Timeout(PUT_S)
        )
    except urllib3.exceptions.HTTPError as error:
        raise ProgramError(f"{url}: {type(error).__name__}", remedy="is the server reachable from here?") from None
    if response.status not in (200, 201, 204):
        raise ProgramError(f"{url}: HTTP status {response.status}", remedy="does it take PUT, and this token?")
