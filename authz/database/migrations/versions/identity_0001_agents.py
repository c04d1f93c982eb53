"""Agents and their history, signing keys, live tokens and spent proofs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from authz.database.schema import append_only

revision = "identity_0001"
down_revision = None
branch_labels = ("identity",)
depends_on = None


def upgrade() -> None:
    """The registry, and what the token endpoint keeps."""
    _registry()
    _keys()
    _tokens()


def _registry() -> None:
    op.create_table(
        "agents",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("folded", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("autonomy", sa.Text, nullable=False),
        sa.Column("lifecycle", sa.Text, nullable=False),
        sa.Column("memory_writes_paused", sa.Boolean, nullable=False),
        sa.Column("scopes_ceiling", sa.Text, nullable=True),
        sa.Column("tools_ceiling", sa.Text, nullable=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("facts_version", sa.BigInteger, nullable=False),
        sa.Column("created_ns", sa.BigInteger, nullable=False),
        sa.Column("updated_ns", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id", name="pk_agents"),
    )
    op.create_index("uq_agents_tenant_folded", "agents", ["tenant", "folded"], unique=True)
    op.create_table(
        "agent_parents",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("distance", sa.BigInteger, nullable=False),
        sa.Column("parent", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "agent", "distance", name="pk_agent_parents"),
    )
    op.create_index("ix_agent_parents_tenant_parent", "agent_parents", ["tenant", "parent"])
    append_only("agent_parents")
    op.create_table(
        "agent_credentials",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("public_jwk", sa.Text, nullable=False),
        sa.Column("certificate_sha256", sa.Text, nullable=False),
        sa.Column("created_ns", sa.BigInteger, nullable=False),
        sa.Column("revoked_ns", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("tenant", "agent", "id", name="pk_agent_credentials"),
    )
    op.create_table(
        "agent_versions",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("at_ns", sa.BigInteger, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("changed", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "agent", "version", name="pk_agent_versions"),
    )
    append_only("agent_versions")


def _keys() -> None:
    op.create_table(
        "signing_keys",
        sa.Column("number", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("kid", sa.Text, nullable=False),
        sa.Column("algorithm", sa.Text, nullable=False),
        sa.Column("public_jwk", sa.Text, nullable=False),
        sa.Column("sealed_key", sa.LargeBinary, nullable=True),
        sa.Column("created_ns", sa.BigInteger, nullable=False),
        sa.Column("signs_from_ns", sa.BigInteger, nullable=False),
        sa.Column("withdrawn_ns", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("number", name="pk_signing_keys"),
    )
    op.create_index("uq_signing_keys_kid", "signing_keys", ["kid"], unique=True)


def _tokens() -> None:
    op.create_table(
        "access_tokens",
        sa.Column("jti_sha256", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("client", sa.Text, nullable=False),
        sa.Column("credential", sa.Text, nullable=False),
        sa.Column("exchanged_sha256", sa.Text, nullable=False),
        sa.Column("expires_ns", sa.BigInteger, nullable=False),
        sa.Column("revoked_ns", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("jti_sha256", name="pk_access_tokens"),
    )
    op.create_index("ix_access_tokens_tenant_agent", "access_tokens", ["tenant", "agent"])
    op.create_index("ix_access_tokens_tenant_client_credential", "access_tokens", ["tenant", "client", "credential"])
    op.create_index("ix_access_tokens_exchanged_sha256", "access_tokens", ["exchanged_sha256"])
    op.create_index("ix_access_tokens_expires_ns", "access_tokens", ["expires_ns"])
    op.create_table(
        "spent_proofs",
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("until_ns", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_spent_proofs"),
    )
    op.create_index("ix_spent_proofs_until_ns", "spent_proofs", ["until_ns"])
