"""The words of transcripts, for the search in the history."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

from app.jobs.spoken import distinct_words

revision = "0004"
down_revision = "0003"

BATCH = 100


def upgrade() -> None:
    table = op.create_table(
        "spoken",
        sa.Column(
            "job_id", sa.String(36), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("words", sa.Text, nullable=False),
    )
    for rows in _batches(op.get_bind()):
        op.bulk_insert(table, [{"job_id": row.job_id, "words": _words(row.body)} for row in rows])
    if op.get_bind().dialect.name == "postgresql":
        # as they are: PostgreSQL's own parser splits words differently
        op.execute(
            "ALTER TABLE spoken ADD COLUMN vector tsvector GENERATED ALWAYS AS"
            " (array_to_tsvector(string_to_array(ltrim(words), ' '))) STORED"
        )
        op.execute("CREATE INDEX spoken_words ON spoken USING gin (vector)")


def _batches(connection: sa.Connection) -> Iterator[list[Any]]:
    """The transcripts that there are, a few at a time: all together they may be gigabytes."""
    old = sa.table("transcripts", sa.column("job_id"), sa.column("body"))
    query, last = sa.select(old).order_by(old.c.job_id).limit(BATCH), ""
    while rows := list(connection.execute(query.where(old.c.job_id > last))):
        yield rows
        last = rows[-1].job_id


def _words(body: bytes) -> str:
    segments = json.loads(zlib.decompress(body))["transcript"]["segments"]
    return distinct_words(" ".join(segment["text"] for segment in segments))


def downgrade() -> None:
    op.drop_table("spoken")
