"""What holds for every test."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings

from tests.databases import (
    database,
    database_url,
    empty_url,
    migrated_file,
    migrated_name,
    postgres,
    postgres_url,
    sqlite_url,
)
from tests.redis_servers import redis_server

if TYPE_CHECKING:
    import pytest

__all__ = [
    "database",
    "database_url",
    "empty_url",
    "migrated_file",
    "migrated_name",
    "postgres",
    "postgres_url",
    "redis_server",
    "sqlite_url",
]

WORKERS = 4
"""Processes that share the whole suite, at most: each starts servers of its own."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """The whole suite uses the machine; a part of it runs here, without a worker's start and with its output."""
    is_whole = config.args == config.getini("testpaths")
    return min(os.cpu_count() or 1, WORKERS) if is_whole else 0


# A shell that runs this in its background leaves SIGINT ignored, and programs that tests interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A machine that is busy with something else must not fail a property for being slow. Inputs are drawn from each test's
# own source, so that a run tells of the change and not of luck; `make explore` draws others, and more of them.
settings.register_profile("authz", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", settings.get_profile("authz"), derandomize=False, max_examples=2_000)
settings.load_profile("authz")
