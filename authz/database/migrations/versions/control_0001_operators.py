"""Operators, their grants, and the record of what was done and refused."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from authz.database.schema import append_only

revision = "control_0001"
down_revision = None
branch_labels = ("control",)
depends_on = None


def upgrade() -> None:
    """Three tables."""
    op.create_table(
        "operators",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("issuer", sa.Text),
        sa.Column("subject", sa.Text),
        sa.Column("certificate_san", sa.Text),
        sa.Column("credential_sha256", sa.Text),
        sa.Column("automatic", sa.Boolean, nullable=False),
        sa.Column("created_at_ns", sa.BigInteger, nullable=False),
        sa.Column("expires_at_ns", sa.BigInteger),
        sa.Column("removed_at_ns", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_operators"),
        sa.UniqueConstraint("issuer", "subject", name="uq_operators_issuer_subject"),
        sa.UniqueConstraint("certificate_san", name="uq_operators_certificate_san"),
        sa.UniqueConstraint("credential_sha256", name="uq_operators_credential_sha256"),
    )
    op.create_table(
        "operator_grants",
        sa.Column("operator", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("operator", "role", "tenant", name="pk_operator_grants"),
        sa.ForeignKeyConstraint(["operator"], ["operators.id"], name="fk_operator_grants_operator"),
    )
    op.create_table(
        "actions",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), sa.Identity(), nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("at_ns", sa.BigInteger, nullable=False),
        sa.Column("operator", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_actions"),
    )
    op.create_index("ix_actions_id", "actions", ["id"])
    op.create_index("ix_actions_tenant_number", "actions", ["tenant", "number"])
    append_only("actions")
