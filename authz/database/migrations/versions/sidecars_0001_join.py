"""Sidecars: the authorities that sign for them, invitations, and who has joined."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "sidecars_0001"
down_revision = None
branch_labels = ("sidecars",)
depends_on = None


def upgrade() -> None:
    """Rows of removed sidecars stay: an id is never given twice."""
    op.create_table(
        "authorities",
        sa.Column("generation", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("certificate", sa.LargeBinary, nullable=False),
        sa.Column("sealed_key", sa.LargeBinary, nullable=False),
        sa.Column("signs_from_ns", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("generation", name="pk_authorities"),
    )
    op.create_table(
        "invitations",
        sa.Column("secret_sha256", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("tenants", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("expires_at_ns", sa.BigInteger, nullable=False),
        sa.Column("used_at_ns", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("secret_sha256", name="pk_invitations"),
    )
    op.create_table(
        "sidecars",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("tenants", sa.Text, nullable=False),
        sa.Column("enrolled_at_ns", sa.BigInteger, nullable=False),
        sa.Column("certificate_expires_at_ns", sa.BigInteger, nullable=False),
        sa.Column("redis_password_sha256", sa.Text, nullable=False),
        sa.Column("removed_at_ns", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_sidecars"),
    )
