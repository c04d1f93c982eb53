"""Find kills by what they cover."""

from __future__ import annotations

from alembic import op

revision = "revocation_0002"
down_revision = "revocation_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Before a token is issued, the kills of everyone it would speak for are looked up."""
    op.create_index("ix_kills_tenant_value", "kills", ["tenant", "value"])
