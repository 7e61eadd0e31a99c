"""Recordings that are kept to be played, and what a search looks at."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    # with defaults: a process of an earlier version may still insert rows
    op.add_column("jobs", sa.Column("searchable", sa.Text, nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("media_type", sa.Text, nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("media_bytes", sa.BigInteger))
    op.add_column("transcripts", sa.Column("peaks", sa.LargeBinary))


def downgrade() -> None:
    op.drop_column("transcripts", "peaks")
    for column in ("media_bytes", "media_type", "searchable"):
        op.drop_column("jobs", column)
