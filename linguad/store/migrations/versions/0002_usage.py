"""What was used, what it adds up to, and the ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def counts(*names: str) -> list[sa.Column[int]]:
    """Columns of numbers that add up."""
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "usage",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("utterance", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("utterances", sa.Integer(), nullable=False),
        *counts("audio_ms", "charged_ms", "credited_ms", "asr_ms", "nmt_ms", "tts_ms", "total_ms"),
        *counts("chars_asr", "chars_translated", "audio_ms_out"),
        sa.Column("finished_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_usage"),
    )
    op.create_index("ix_usage_tenant_id_finished_at", "usage", ["tenant_id", "finished_at"])
    op.create_index("ix_usage_session_id", "usage", ["session_id"])
    op.create_table(
        "metered_sessions",
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("billed", sa.Boolean(), nullable=False),
        *counts("charged_ms"),
        sa.Column("began_at", sa.Double(), nullable=False),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.Column("settled_at", sa.Double()),
        sa.PrimaryKeyConstraint("session_id", "part", name="pk_metered_sessions"),
    )
    op.create_index("ix_metered_sessions_tenant_id_began_at", "metered_sessions", ["tenant_id", "began_at"])
    op.create_index("ix_metered_sessions_settled_at", "metered_sessions", ["settled_at"])
    op.create_table(
        "usage_requests",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("hour", sa.BigInteger(), nullable=False),
        *counts("requests", "errors"),
        sa.PrimaryKeyConstraint("tenant_id", "key_id", "hour", name="pk_usage_requests"),
    )
    op.create_table(
        "usage_hours",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("hour", sa.BigInteger(), nullable=False),
        *counts("sessions", "utterances", "charged_ms", "audio_ms_out", "chars_asr", "chars_translated"),
        *counts("asr_ms", "nmt_ms", "tts_ms", "total_ms"),
        sa.PrimaryKeyConstraint("tenant_id", "key_id", "hour", name="pk_usage_hours"),
    )
    op.create_table(
        "node_credits",
        sa.Column("owner_id", sa.Text(), nullable=False),
        *counts("credited_ms", "transferred_seconds"),
        sa.PrimaryKeyConstraint("owner_id", name="pk_node_credits"),
    )
    op.create_table(
        "ledger",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text()),
        *counts("change_seconds", "balance_before", "balance_after"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor_type", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ledger"),
        sa.UniqueConstraint("account", "origin", "request_id", name="uq_ledger_request"),
    )
    op.create_index("ix_ledger_account_id", "ledger", ["account", "id"])
    op.create_table(
        "balances",
        sa.Column("account", sa.Text(), nullable=False),
        *counts("balance_seconds"),
        sa.PrimaryKeyConstraint("account", name="pk_balances"),
    )
