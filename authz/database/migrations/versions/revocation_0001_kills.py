"""The ledger of kills: streams, entries, what stands, keys of streams, and kills as operators know them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from authz.database.schema import append_only

revision = "revocation_0001"
down_revision = None
branch_labels = ("revocation",)
depends_on = None


def upgrade() -> None:
    """The ledger, and who asked for what."""
    _ledger()
    _kills()
    _replication()


def _ledger() -> None:
    op.create_table(
        "ledger_heads",
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("begun_ns", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("stream", name="pk_ledger_heads"),
    )
    op.create_table(
        "ledger_entries",
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("at_ns", sa.BigInteger, nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("stream", "sequence", name="pk_ledger_entries"),
    )
    append_only("ledger_entries")
    op.create_table(
        "ledger_standing",
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("keep_until_ns", sa.BigInteger, nullable=True),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("stream", "subject", name="pk_ledger_standing"),
    )
    op.create_table(
        "stream_keys",
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("kid", sa.Text, nullable=False),
        sa.Column("created_ns", sa.BigInteger, nullable=False),
        sa.Column("public_key", sa.LargeBinary, nullable=False),
        sa.Column("sealed_key", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("stream", "kid", name="pk_stream_keys"),
    )


def _kills() -> None:
    op.create_table(
        "kills",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("is_guarded", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("incident", sa.Text, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("created_at_ns", sa.BigInteger, nullable=False),
        sa.Column("expires_in_ns", sa.BigInteger, nullable=False),
        sa.Column("confirmed_by", sa.Text, nullable=False),
        sa.Column("in_force_at_ns", sa.BigInteger, nullable=False),
        sa.Column("lapses_at_ns", sa.BigInteger, nullable=False),
        sa.Column("lifted_by", sa.Text, nullable=False),
        sa.Column("lift_reason", sa.Text, nullable=False),
        sa.Column("lift_confirmed_by", sa.Text, nullable=False),
        sa.Column("lifted_at_ns", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_kills"),
    )
    op.create_index("ix_kills_tenant_created_at_ns_id", "kills", ["tenant", "created_at_ns", "id"])
    op.create_index("ix_kills_created_by_created_at_ns", "kills", ["created_by", "created_at_ns"])
    op.create_table(
        "kill_requests",
        sa.Column("operator", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("kill", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("operator", "key", name="pk_kill_requests"),
    )


def _replication() -> None:
    op.create_table(
        "stream_reports",
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("sidecar", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("applied_ns", sa.BigInteger, nullable=False),
        sa.Column("heard_ns", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("stream", "sidecar", name="pk_stream_reports"),
    )
    op.create_table(
        "publication",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("since_ns", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_publication"),
    )
