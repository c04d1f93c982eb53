"""Reading an archive: what two readers could see differently, or what would not fit, is refused (F2, F14)."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import pytest

from authz.errors import BundleError
from authz.policy.archive import BOUNDS, SHIPPED, STORED, Bounds, read, write

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL = Bounds(archive_bytes=4096, total_bytes=4000, file_bytes=2048, entries=4, depth=3, path_characters=40)
FILES = {".manifest": b"{}", "authz/policy.rego": b"package authz\n", "data.json": b'{"a": 1}'}


def entry(name: str, content: bytes = b"x", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    header = tarfile.TarInfo(name)
    header.size = len(content)
    for field, value in fields.items():
        setattr(header, field, value)
    return header, content


def packed(*entries: tuple[tarfile.TarInfo, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=form) as archive:
        for header, content in entries:
            archive.addfile(header, io.BytesIO(content))
    return gzip.compress(tar.getvalue(), mtime=0)


def code(archive: bytes, bounds: Bounds = BOUNDS) -> str:
    with pytest.raises(BundleError) as refused:
        read(archive, bounds)
    return refused.value.code


def test_what_is_written_is_read_back() -> None:
    assert read(write(FILES)) == FILES


def test_megabytes_are_read_back_as_they_were_written() -> None:
    large = {"data.json": os.urandom((3 << 20) + 1), "policy.rego": b"package authz\n", "z/data.json": bytes(1 << 20)}
    for level in (SHIPPED, STORED):
        assert read(write(large, level=level)) == large


def test_the_same_files_give_the_same_bytes_in_any_order() -> None:
    assert write(FILES) == write(dict(reversed(FILES.items())))


def test_files_are_written_as_opa_writes_them() -> None:
    with tarfile.open(fileobj=io.BytesIO(write(FILES))) as archive:
        assert [member.name for member in archive] == ["/.manifest", "/authz/policy.rego", "/data.json"]
        assert {(m.mode, m.mtime, m.uid, m.gid, m.uname, m.gname) for m in archive} == {(0o600, 0, 0, 0, "", "")}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives_of_other_tools_are_read(form: int) -> None:
    root = entry("./", b"", type=tarfile.DIRTYPE)
    folder = entry("./authz", b"", type=tarfile.DIRTYPE)
    assert read(packed(root, folder, entry("./authz/policy.rego"), form=form)) == {"authz/policy.rego": b"x"}


def test_times_in_extended_headers_change_nothing() -> None:
    assert read(packed(entry("a.rego", mtime=1.5), form=tarfile.PAX_FORMAT)) == {"a.rego": b"x"}


@pytest.mark.parametrize(
    "name",
    [
        "../x.rego",
        "a/../../x.rego",
        "a/./x.rego",
        "//x.rego",
        "/../x.rego",
        "a//x.rego",
        "..",
        "a\\x.rego",
        "c:x.rego",
        "a\nb.rego",
        "a b.rego",
        "naïve.rego",
        "x" * 201,
    ],
)
def test_f2_a_path_that_is_not_plain_is_refused(name: str) -> None:
    assert code(packed(entry(name), form=tarfile.GNU_FORMAT)) in {"BUNDLE_PATH", "BUNDLE_ENTRY"}


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.CONTTYPE,
        tarfile.GNUTYPE_SPARSE,
        tarfile.GNUTYPE_LONGNAME,
    ],
)
def test_f2_links_devices_and_other_kinds_are_refused(kind: bytes) -> None:
    assert code(packed(entry("policy.rego", b"", type=kind, linkname="/etc/passwd"))) == "BUNDLE_ENTRY"


def test_f2_an_extended_header_renames_nothing() -> None:
    header, content = entry("a.rego")
    header.pax_headers = {"path": "b.rego"}
    assert code(packed((header, content), form=tarfile.PAX_FORMAT)) == "BUNDLE_ENTRY"


@pytest.mark.parametrize(
    ("first", "second"),
    [("a.rego", "a.rego"), ("a.rego", "A.rego"), ("a/b.rego", "A/c.rego"), ("a", "a/b"), ("a/b", "a"), ("a", "/a")],
)
def test_f2_two_entries_that_are_one_path_are_refused(first: str, second: str) -> None:
    assert code(packed(entry(first), entry(second))) == "BUNDLE_DUPLICATE"


def test_f2_a_file_and_a_folder_of_one_name_are_refused() -> None:
    assert code(packed(entry("a", b"", type=tarfile.DIRTYPE), entry("a"))) == "BUNDLE_DUPLICATE"


def test_f2_a_bomb_is_refused_by_its_ratio() -> None:
    assert code(packed(entry("data.json", bytes(4 << 20)))) == "BUNDLE_RATIO"


def test_f2_a_gigabyte_of_zeros_is_refused_before_it_is_unpacked() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    begun = packer.compress(b"x") + packer.flush(zlib.Z_FULL_FLUSH)
    mebibyte = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    tracemalloc.start()
    try:
        assert code(begun + mebibyte * 1024) == "BUNDLE_SIZE"
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("expected", "archive"),
    [
        ("BUNDLE_SIZE", lambda: write({"a": bytes(range(256)) * 17})),
        ("BUNDLE_SIZE", lambda: packed(entry("a", b"ab" * 1025))),
        ("BUNDLE_SIZE", lambda: packed(*(entry(name, b"ab" * 1000) for name in "abc"))),
        ("BUNDLE_COUNT", lambda: packed(*(entry(name) for name in "abcde"))),
        ("BUNDLE_DEPTH", lambda: packed(entry("a/b/c/d"))),
        ("BUNDLE_PATH", lambda: packed(entry("a" * 41))),
    ],
)
def test_f14_what_is_over_a_bound_is_refused(expected: str, archive: Callable[[], bytes]) -> None:
    assert code(archive(), SMALL) == expected


def test_f14_what_is_just_within_the_bounds_is_read() -> None:
    names = ["a", "b/c/d", "e" * 40, "f"]
    files = dict.fromkeys(names, b"x" * 1000)
    assert read(write(files), SMALL) == files


def test_f14_an_archive_over_its_own_size_is_not_inflated() -> None:
    assert code(b"\x1f\x8b" + bytes(5000), SMALL) == "BUNDLE_SIZE"


@pytest.mark.parametrize(
    "bent",
    [
        lambda _: b"",
        lambda _: b"not gzip",
        lambda whole: whole[:-1],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole + b"\0",
        lambda whole: whole + whole,
        lambda whole: whole[:-8] + bytes(8),
        lambda whole: gzip.compress(gzip.decompress(whole)[:-1024]),
        lambda whole: gzip.compress(gzip.decompress(whole)[:700]),
        lambda whole: gzip.compress(gzip.decompress(whole) + gzip.decompress(whole)),
        lambda whole: gzip.compress(b"\x01" + gzip.decompress(whole)[1:]),
        lambda _: gzip.compress(b"x" * 512),
    ],
    ids=[
        "empty",
        "text",
        "byte-missing",
        "half",
        "byte-more",
        "two-members",
        "checksum",
        "no-end",
        "cut-file",
        "two-archives",
        "header",
        "block",
    ],
)
def test_f2_what_is_not_one_whole_archive_is_refused(bent: Callable[[bytes], bytes]) -> None:
    assert code(bent(write(FILES))) == "BUNDLE_ARCHIVE"


@pytest.mark.parametrize("path", ["../x", "a//b", "", "ä"])
def test_a_path_that_could_not_be_read_back_is_not_written(path: str) -> None:
    with pytest.raises(BundleError, match="BUNDLE_PATH"):
        write({path: b""})


def test_a_long_path_is_written_in_plain_ustar_or_not_at_all() -> None:
    long = "/".join(["folder" * 5] * 5) + "/policy.rego"
    assert read(write({long: b"x"})) == {long: b"x"}
    with pytest.raises(BundleError, match="BUNDLE_PATH"):
        write({"a" * 150: b"x"})
