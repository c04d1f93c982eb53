"""A mirror that serves tampered archives over HTTP, made anew for each run, to one sidecar that follows it.

Every one is refused with the reason of what was done to it, and all the while the last good one answers.
"""

from __future__ import annotations

import gzip
import io
import random
import tarfile
import threading
import time
from typing import TYPE_CHECKING

import orjson
import pytest

from authz.clock import SystemClock
from authz.encoding import encode_base64url
from authz.policy import archive
from authz.policy.fetching import Fetcher, Pace
from authz.policy.manifest import written
from authz.policy.origin_http import HttpOrigin
from authz.policy.statements import TIMESTAMP
from authz.policy.trust import SIGNATURES
from authz.reasons import BUNDLE_CODES
from tests.contracts.test_bundle_origins import Shelf, sends, serving
from tests.publisher import DAY_NS, NOW_NS, RELEASE, SECURITY, STRANGER
from tests.unit.policy.test_fetching import Service, bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVES = bundle(5)
NEXT = bundle(6)
MOST = 1 << 20


class Mirror:
    """One sidecar and what it is served."""

    def __init__(self, folder: Path, shelf: Shelf, draw: random.Random) -> None:
        self.draw = draw
        self._shelf = shelf
        self._sidecar = Service(folder, tenants=["acme"])
        url = f"{shelf.url}/payments.tar.gz"
        self._fetcher = Fetcher(
            HttpOrigin(url, SystemClock(), archive_bytes=MOST), self._sidecar.activation, SystemClock(), Pace(poll_s=60)
        )
        self.answers: set[str] = set()

    def serve(self, packed: bytes) -> str:
        """The code with which it is refused; empty where it is taken."""
        self._shelf.answers["/payments.tar.gz"] = sends(packed)
        self._fetcher.look()
        state = self._fetcher.state
        return state.unreachable.partition(":")[0] or state.code

    def serve_files(self, changes: dict[str, bytes | None]) -> str:
        """The next release with these files for its own, and its signature."""
        files = {**archive.read(NEXT.packed()), **changes}
        return self.serve(archive.write({path: content for path, content in files.items() if content is not None}))

    def serve_signed(self, *tokens: str) -> str:
        """The next release with these signatures."""
        return self.serve(NEXT.packed(*tokens))

    def serve_entry(self, name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", target: str = "") -> str:
        """The next release with one more entry at its end."""
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as made:
            for path, file in archive.read(NEXT.packed()).items():
                _add(made, path, file)
            _add(made, name, content, kind, target)
        return self.serve(gzip.compress(tar.getvalue()))

    def ask(self, until: threading.Event) -> None:
        while not until.is_set():
            self.answers.add(self._sidecar.answer())
            time.sleep(0.001)


def _add(tar: tarfile.TarFile, name: str, content: bytes, kind: bytes = tarfile.REGTYPE, target: str = "") -> None:
    header = tarfile.TarInfo(name)
    header.type, header.linkname, header.size = kind, target, len(content)
    tar.addfile(header, io.BytesIO(content))


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirror]:
    """Its sidecar serves a good release, is asked throughout, and takes the next one in the end."""
    shelf, over = Shelf(), threading.Event()
    with serving(shelf):
        made = Mirror(tmp_path_factory.mktemp("mirror"), shelf, random.Random())  # noqa: S311 - no secret
        assert made.serve(SERVES.packed()) == ""
        asking = threading.Thread(target=made.ask, args=(over,))
        asking.start()
        try:
            yield made
        finally:
            over.set()
            asking.join()
        assert made.answers == {"5"}
        assert made.serve(NEXT.packed()) == ""


@pytest.fixture(autouse=True)
def _last_good_one_answers(mirror: Mirror) -> Iterator[None]:
    mirror.answers.clear()
    yield
    deadline = time.monotonic() + 5
    while not mirror.answers and time.monotonic() < deadline:
        time.sleep(0.001)
    assert mirror.answers == {"5"}


def test_f1_a_signature_that_is_stripped_added_or_a_strangers_is_refused(mirror: Mirror) -> None:
    payload = NEXT.payload()
    assert mirror.serve(NEXT.unsigned()) == "BUNDLE_UNSIGNED"
    assert mirror.serve_files({SIGNATURES: b'{"signatures":[]}'}) == "BUNDLE_UNSIGNED"
    assert mirror.serve_signed(STRANGER.token(payload)) == "BUNDLE_KEY"
    assert mirror.serve_signed(STRANGER.token(payload, kid=RELEASE.name)) == "BUNDLE_SIGNATURE"
    for second in (RELEASE, SECURITY):
        assert mirror.serve_signed(RELEASE.token(payload), second.token(payload)) == "BUNDLE_SIGNATURE_COUNT"
    assert mirror.serve_signed(RELEASE.token(SERVES.payload())) == "BUNDLE_DIGEST"


def test_f2_flipped_bits_are_refused_or_change_nothing(mirror: Mirror) -> None:
    packed = SERVES.packed()
    tar = gzip.decompress(packed)
    refused = 0
    for _ in range(100):
        bent, repacks = mirror.draw.choice([(bytearray(packed), False), (bytearray(tar), True)])
        bit = mirror.draw.randrange(len(bent) * 8)
        bent[bit // 8] ^= 1 << bit % 8
        code = mirror.serve(gzip.compress(bytes(bent)) if repacks else bytes(bent))
        assert code in {"", *BUNDLE_CODES}, bit
        refused += bool(code)
    assert refused  # what may change is how files are packed: never a third of the archive, let alone all of it


def test_f2_flipped_bits_in_a_file_are_refused(mirror: Mirror) -> None:
    for path, content in NEXT.content().items():
        bent = bytearray(content)
        bit = mirror.draw.randrange(len(bent) * 8)
        bent[bit // 8] ^= 1 << bit % 8
        assert mirror.serve_files({path: bytes(bent)}) in {"BUNDLE_DIGEST", "BUNDLE_JSON"}, (path, bit)


def test_f2_files_that_are_swapped_missing_or_more_are_refused(mirror: Mirror) -> None:
    files = NEXT.content()
    for path in files:
        assert mirror.serve_files({path: None}) == "BUNDLE_FILES"
    assert mirror.serve_files({"policy.rego": SERVES.content()["policy.rego"]}) == "BUNDLE_DIGEST"
    assert mirror.serve_files({"more.rego": b"package more\n"}) == "BUNDLE_FILES"
    assert mirror.serve_files({"patch.json": b"[]"}) == "BUNDLE_CONTENT"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_f2_links_and_devices_are_refused(mirror: Mirror, kind: bytes) -> None:
    assert mirror.serve_entry(f"f{mirror.draw.random()}", kind, target="/etc/passwd") == "BUNDLE_ENTRY"


def test_f2_paths_that_climb_or_come_twice_are_refused(mirror: Mirror) -> None:
    climbing = "/".join([*[".."] * mirror.draw.randint(1, 6), "x.rego"])
    assert mirror.serve_entry(climbing) == "BUNDLE_PATH"
    assert mirror.serve_entry("policy.rego", content=b"package other\n") == "BUNDLE_DUPLICATE"
    assert mirror.serve_entry("POLICY.rego", content=b"package other\n") == "BUNDLE_DUPLICATE"
    assert mirror.serve_entry("/".join("d" * 17)) == "BUNDLE_DEPTH"


def test_f2_bombs_and_what_is_cut_short_are_refused(mirror: Mirror) -> None:
    size = mirror.draw.randrange(1 << 20, 8 << 20)
    assert mirror.serve(gzip.compress(bytes(size))) == "BUNDLE_RATIO"
    assert mirror.serve_entry("data.json", content=bytes(size)) == "BUNDLE_RATIO"
    packed = NEXT.packed()
    assert mirror.serve(packed[: mirror.draw.randrange(1, len(packed))]) == "BUNDLE_ARCHIVE"
    assert mirror.serve(packed + gzip.compress(b"")) == "BUNDLE_ARCHIVE"
    assert mirror.serve(mirror.draw.randbytes(500)) == "BUNDLE_ARCHIVE"


def test_f3_other_algorithms_purposes_and_scopes_are_refused(mirror: Mirror) -> None:
    payload = NEXT.payload()
    head, body, mac = RELEASE.token(payload).split(".")
    for algorithm in ("HS256", "none"):
        weaker = encode_base64url(orjson.dumps({"alg": algorithm, "kid": RELEASE.name}))
        assert mirror.serve_signed(f"{weaker}.{body}.{mac}") == "BUNDLE_ALGORITHM"
    assert mirror.serve_signed(f"{head}.{body}.{encode_base64url(bytes(64))}") == "BUNDLE_SIGNATURE"
    assert mirror.serve_signed(RELEASE.token(payload | {"scope": "write"})) == "BUNDLE_SCOPE"
    assert mirror.serve_signed(RELEASE.token(payload, typ=TIMESTAMP)) == "BUNDLE_SIGNATURE"
    weak = {"files": [entry | {"algorithm": "MD5"} for entry in payload["files"]]}
    assert mirror.serve_signed(RELEASE.token(weak)) == "BUNDLE_ALGORITHM"


def test_f4_f6_an_older_sequence_another_of_the_same_and_one_far_ahead_are_refused(mirror: Mirror) -> None:
    assert mirror.serve(bundle(mirror.draw.randint(1, 4)).packed()) == "BUNDLE_REGRESSION"
    assert mirror.serve(bundle(5, **{"more.rego": b"package more\n"}).packed()) == "BUNDLE_MISMATCH"
    assert mirror.serve(bundle(mirror.draw.randint(10**8, 10**9)).packed()) == "BUNDLE_FAST_FORWARD"


def test_f5_what_has_expired_or_is_yet_to_be_made_is_refused(mirror: Mirror) -> None:
    for code, days in (("BUNDLE_EXPIRED", -1), ("BUNDLE_NOT_YET", 400)):
        life = {"created_at": written(NOW_NS + (days - 30) * DAY_NS), "expires_at": written(NOW_NS + days * DAY_NS)}
        assert mirror.serve(NEXT.bent(declared=life).packed()) == code


@pytest.mark.parametrize(
    ("code", "declared"),
    [
        ("BUNDLE_TENANT", {"tenants": ["globex"]}),
        ("BUNDLE_ID", {"bundle_id": "refunds"}),
        ("BUNDLE_ENGINE", {"min_engine": "99.0.0"}),
        ("BUNDLE_INPUT", {"requires_input": ["weather"]}),
        ("BUNDLE_MANIFEST", {"surprise": True}),
    ],
)
def test_f8_another_tenants_bundle_and_what_is_not_for_here_are_refused(
    mirror: Mirror, code: str, declared: dict[str, object]
) -> None:
    assert mirror.serve(NEXT.bent(declared=declared).packed()) == code


def test_f9_f11_what_does_not_compile_or_denies_no_golden_input_is_refused(mirror: Mirror) -> None:
    broken = {
        "BUNDLE_INVALID": bundle(7, **{"policy.rego": b"package authz\n\ndecision := {"}),
        "BUNDLE_GOLDEN": bundle(8, **{"policy.rego": b'package authz\n\ndecision := {"effect": "allow"}\n'}),
    }
    for code, bent in broken.items():
        assert mirror.serve(bent.packed()) == code
        assert mirror.serve(gzip.compress(gzip.decompress(bent.packed()))) == "BUNDLE_QUARANTINED"


def test_f14_what_is_over_the_bound_is_not_read_to_its_end(mirror: Mirror) -> None:
    assert mirror.serve(mirror.draw.randbytes(MOST + 1)) == "BUNDLE_SIZE"
