"""State of bundles when the process is killed while it writes, and when the disk takes no more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

WRITER = Path(__file__).with_name("bundle_writer.py")
KILLS = 500
FULL = """
import resource, sys
from pathlib import Path
from authz.errors import BundleError
from authz.policy.seen_file import SeenFile
from authz.policy.trust import Seen

file = SeenFile(Path(sys.argv[1]))
file.write(Seen(sequence=1))
resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
try:
    file.write(Seen(sequence=2))
except BundleError as error:
    print(error.code, SeenFile(Path(sys.argv[1])).read().sequence, sorted(p.name for p in Path(sys.argv[1]).iterdir()))
"""


def run(*arguments: object) -> str:
    ran = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=150, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_f7_a_writer_that_is_killed_500_times_leaves_old_or_new(tmp_path: Path) -> None:
    killed, sequence = map(int, run(WRITER, tmp_path, KILLS).split())
    assert killed == KILLS
    assert sequence > 10


def test_f7_a_full_disk_leaves_what_was_counted(tmp_path: Path) -> None:
    assert run("-c", FULL, tmp_path).strip() == "BUNDLE_STATE 1 ['bundle.json']"
