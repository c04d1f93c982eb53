"""Rollouts of policies: every step that was taken, and what sidecars found."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from authz.database.schema import append_only

revision = "rollouts_0001"
down_revision = None
branch_labels = ("rollouts",)
depends_on = None


def upgrade() -> None:
    """Steps are never rewritten: what a rollout did is evidence."""
    op.create_table(
        "rollouts",
        *(sa.Column(name, sa.Text, nullable=False) for name in ("id", "scope", "baseline", "candidate", "salt")),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("created_ns", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rollouts"),
    )
    append_only("rollouts")
    op.create_table(
        "rollout_heads",
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("scope", name="pk_rollout_heads"),
    )
    op.create_table(
        "rollout_transitions",
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("rollout", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("wave", sa.Integer, nullable=False),
        sa.Column("is_paused", sa.Boolean, nullable=False),
        sa.Column("is_overruled", sa.Boolean, nullable=False),
        sa.Column("since_ns", sa.BigInteger, nullable=False),
        sa.Column("at_ns", sa.BigInteger, nullable=False),
        sa.Column("taken_by", sa.Text, nullable=False),
        sa.Column("is_automatic", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("share", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("scope", "version", name="pk_rollout_transitions"),
    )
    op.create_index("ix_rollout_transitions_rollout_version", "rollout_transitions", ["rollout", "version"])
    append_only("rollout_transitions")
    op.create_table(
        "rollout_standings",
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("sidecar", sa.Text, nullable=False),
        sa.Column("rollout", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("is_ready", sa.Boolean, nullable=False),
        sa.Column("refused", sa.Text, nullable=False),
        sa.Column("tripped", sa.Text, nullable=False),
        sa.Column("golden", sa.Text, nullable=False),
        sa.Column("heard_ns", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("scope", "sidecar", name="pk_rollout_standings"),
    )
    op.create_table(
        "rollout_findings",
        sa.Column("rollout", sa.Text, nullable=False),
        sa.Column("since_ns", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("sidecar", sa.Text, nullable=False),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("counted", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("rollout", "since_ns", "sidecar", "run", "number", name="pk_rollout_findings"),
    )
