"""Leases: which instance leads a task."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "database_0001"
down_revision = None
branch_labels = ("database",)
depends_on = None


def upgrade() -> None:
    """One row for each task."""
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("until_ns", sa.BigInteger, nullable=False),
        sa.Column("term", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
