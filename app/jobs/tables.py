"""The tables of the jobs. The migrations create them; a test compares both."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("client", sa.Text, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("door", sa.Text, nullable=False),
    sa.Column("file_name", sa.Text, nullable=False),
    sa.Column("request", sa.JSON, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("step", sa.Text),
    sa.Column("progress", sa.Double, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("rank", sa.BigInteger, nullable=False),  # its place in the priority's queue
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("started_at", sa.Double),
    sa.Column("finished_at", sa.Double),
    sa.Column("retry_at", sa.Double),
    sa.Column("run_id", sa.String(32)),  # fences the writes of a run: only the last one's count
    sa.Column("executor", sa.String(32)),
    sa.Column("cancel_requested", sa.Boolean, nullable=False),
    sa.Column("error_code", sa.Text, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("warnings", sa.JSON, nullable=False),
    sa.Column("language", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("audio_s", sa.Double),
    sa.Column("processing_s", sa.Double),
    sa.Column("published", sa.JSON),
    sa.Column("searchable", sa.Text, nullable=False, server_default=""),  # see rows.searchable
    sa.Column("media_type", sa.Text, nullable=False, server_default=""),  # of what is kept to play
    sa.Column("media_bytes", sa.BigInteger),
    sa.Index("jobs_by_client", "client", "created_at", "id"),
    sa.Index("jobs_by_state", "state", "account"),
    sa.Index("jobs_by_turn", "state", "priority", "rank"),
    sa.Index("jobs_by_end", "finished_at"),
)


def _of_a_job() -> sa.Column[str]:
    """The key of a table with one row at most for each job, which goes with it."""
    job = sa.ForeignKey("jobs.id", ondelete="CASCADE")
    return sa.Column("job_id", sa.String(36), job, primary_key=True)


transcripts = sa.Table(
    "transcripts",
    metadata,
    _of_a_job(),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("peaks", sa.LargeBinary),
)

# What a search in the history looks at of a transcript, see spoken.py. To search is to read all of
# it, so it is apart from the rest. PostgreSQL adds an indexed column of the words, `vector`.
spoken = sa.Table(
    "spoken",
    metadata,
    _of_a_job(),
    sa.Column("words", sa.Text, nullable=False),
)

# A key of a client: `job_id` is NULL while the request that brought it is still being accepted.
idempotency = sa.Table(
    "idempotency",
    metadata,
    sa.Column("client", sa.Text, primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("payload", sa.String(64)),
    sa.Column("job_id", sa.String(36), sa.ForeignKey("jobs.id", ondelete="CASCADE")),
    sa.Column("executor", sa.String(32), nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Index("idempotency_by_job", "job_id"),
)

# How far the queue of each priority has come: newcomers start there, see JobStore.submit.
turns = sa.Table(
    "turns",
    metadata,
    sa.Column("priority", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("rank", sa.BigInteger, nullable=False),
)

executors = sa.Table(
    "executors",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("seen_at", sa.Double, nullable=False),  # by the database's clock
)

# Webhooks, see deliveries.py. `body` is compressed; `tries`: what happened, oldest first.
deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column(
        "job_id", sa.String(36), sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False
    ),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("form", sa.Text, nullable=False),
    sa.Column("headers", sa.JSON, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("turn", sa.String(8), nullable=False),  # fences: only the last one's try counts
    sa.Column("num_tries", sa.Integer, nullable=False),  # since it was queued or sent again
    sa.Column("tries", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("next_at", sa.Double),
    sa.Index("deliveries_by_job", "job_id", "created_at"),
    sa.Index("deliveries_by_time", "next_at"),
)
