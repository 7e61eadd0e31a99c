"""Runs the migrations on the connection that `Database` hands over."""

from __future__ import annotations

from alembic import context

from app.jobs.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot alter tables
)
context.run_migrations()
