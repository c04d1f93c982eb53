"""What a sidecar is pinned to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "rollouts_0002"
down_revision = "rollouts_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of those that were heard before it is not known, and they say it again within seconds."""
    op.add_column("rollout_standings", sa.Column("pinned", sa.Text, nullable=False, server_default=""))
