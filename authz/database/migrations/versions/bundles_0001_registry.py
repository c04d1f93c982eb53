"""The bundle registry: names, revisions, what lies beside them, content in pieces, history; and sidecars' reports."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from authz.database.schema import append_only

revision = "bundles_0001"
down_revision = None
branch_labels = ("bundles",)
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """What happened to a revision only grows."""
    op.create_table(
        "bundle_names",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("seen", sa.Text, nullable=False),
        sa.Column("newest", sa.Text, nullable=True),
        sa.Column("changed", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name", name="pk_bundle_names"),
    )
    _revisions()
    _content()
    op.create_table(
        "bundle_events",
        sa.Column("number", _NUMBER, sa.Identity(), nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("at_ns", sa.BigInteger, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_bundle_events"),
    )
    op.create_index("ix_bundle_events_tenant_name", "bundle_events", ["tenant", "name"])
    append_only("bundle_events")
    op.create_table(
        "bundle_reports",
        sa.Column("sidecar", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("refused", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("at_ns", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("sidecar", "tenant", "name", name="pk_bundle_reports"),
    )


def _revisions() -> None:
    op.create_table(
        "bundle_revisions",
        sa.Column("number", _NUMBER, sa.Identity(), nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("revision", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("change_id", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("signed_by", sa.Text, nullable=False),
        sa.Column("expires_at_ns", sa.BigInteger, nullable=False),
        sa.Column("pushed_at_ns", sa.BigInteger, nullable=False),
        sa.Column("pushed_by", sa.Text, nullable=False),
        sa.Column("held_at_ns", sa.BigInteger, nullable=True),
        sa.Column("retired_at_ns", sa.BigInteger, nullable=True),
        sa.Column("collected_at_ns", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("number", name="pk_bundle_revisions"),
        sa.UniqueConstraint("tenant", "name", "sha256", name="uq_bundle_revisions_tenant_name_sha256"),
    )
    op.create_index("ix_bundle_revisions_sha256", "bundle_revisions", ["sha256"])


def _content() -> None:
    op.create_table(
        "bundle_statements",
        sa.Column("number", _NUMBER, nullable=False, autoincrement=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("number", "kind", name="pk_bundle_statements"),
    )
    op.create_table(
        "bundle_pieces",
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("kept_at_ns", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("sha256", "position", name="pk_bundle_pieces"),
    )
