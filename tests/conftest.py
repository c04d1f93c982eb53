"""What holds for every test."""

from __future__ import annotations

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

# A machine that is busy with something else must not fail a property for being slow.
settings.register_profile("authz", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("authz")
