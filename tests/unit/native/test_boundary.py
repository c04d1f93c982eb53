from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import _cffi_backend
import pytest

from authz.native import EngineError, Library, NativeError, PolicyOptions
from authz.native.boundary import ABI_VERSION, RESULT_BYTES, nanoseconds, verify_abi

FORKED = """
import os
from authz.native import Library, NativeError
library = Library.load()
child = os.fork()
if child == 0:
    try:
        library.configure()
    except NativeError as error:
        os._exit(7 if "forked" in str(error) and error.remedy else 1)
    os._exit(1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_missing_library_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(NativeError, match="does not load") as failure:
        Library.load(tmp_path / "absent.so")
    assert "make build" in failure.value.remedy


def test_a_library_that_is_not_ours_is_refused() -> None:
    with pytest.raises(NativeError, match="is not authz's native library"):
        Library.load(Path(_cffi_backend.__file__))


@pytest.mark.parametrize("found", [0, ABI_VERSION - 1, ABI_VERSION + 1])
def test_another_abi_version_is_refused(found: int) -> None:
    with pytest.raises(NativeError, match=f"has ABI {found}, this package needs {ABI_VERSION}") as failure:
        verify_abi(found)
    assert failure.value.remedy


def test_a_library_is_unusable_after_a_fork() -> None:
    assert subprocess.run([sys.executable, "-c", FORKED], check=False, timeout=30).returncode == 7


def test_the_bounds_of_the_runtime_are_set_and_told() -> None:
    library = Library.load()
    before = library.configure()
    assert library.configure(max_procs=1, memory_limit_bytes=1 << 30) == {
        "max_procs": 1,
        "gc_percent": 0,
        "memory_limit_bytes": 1 << 30,
    }
    assert library.configure(**before) == before


def test_threads_of_the_program_are_counted_beside_the_processors_however_often_it_is_said() -> None:
    library = Library.load()
    before = library.configure()
    one, same, two = (library.configure(program_threads=count)["max_procs"] for count in (1, 1, 2))
    assert (same, two) == (one, one + 1)
    assert library.configure(**before) == before


def test_an_answer_larger_than_the_buffer_comes_whole(tmp_path: Path) -> None:
    (tmp_path / "p.rego").write_text(
        'package authz\nvalue := [x | some i in numbers.range(1, input.n); x := "0123456789"]\n'
    )
    with Library.load().open_policy(PolicyOptions(paths=(tmp_path,))) as policy:
        query = policy.prepare("authz/value")
        for count in (1, RESULT_BYTES // 13, RESULT_BYTES):
            answer = query.evaluate(b'{"n": %d}' % count, 5.0)
            assert answer == b"[" + b",".join([b'"0123456789"'] * count) + b"]"


def test_many_threads_cross_at_once(tmp_path: Path) -> None:
    (tmp_path / "p.rego").write_text("package authz\nvalue := input.n\n")
    with Library.load().open_policy(PolicyOptions(paths=(tmp_path,))) as policy, ThreadPoolExecutor(8) as threads:
        query = policy.prepare("authz/value")
        answers = threads.map(lambda n: query.evaluate(b'{"n": %d}' % n, 5.0), range(500))
        assert list(answers) == [b"%d" % n for n in range(500)]


def test_a_panic_in_an_export_is_an_error_and_not_the_end(tmp_path: Path) -> None:
    (tmp_path / "p.rego").write_text("package authz\nvalue := 1\n")
    library = Library.load()
    with library.open_policy(PolicyOptions(paths=(tmp_path,))) as policy:
        query = policy.prepare("authz/value")
        library.arm_fault("engine")
        with pytest.raises(EngineError) as failure:
            query.evaluate(b"{}", 1.0)
        assert failure.value.code == "panic"
        assert query.evaluate(b"{}", 1.0) == b"1"


@pytest.mark.parametrize(("seconds", "expected"), [(0.12, 120_000_000), (0, 0), (1e-9, 1)])
def test_durations_are_whole_nanoseconds(seconds: float, expected: int) -> None:
    assert nanoseconds(seconds) == expected
