"""What makes a published archive of the one before it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "bundles_0002"
down_revision = "bundles_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A delta goes with the content of its revision."""
    op.create_table(
        "bundle_deltas",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False, autoincrement=False),
        sa.Column("base", sa.Text, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_bundle_deltas"),
    )
