"""Pages of a long history: by index, complete, each client its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app.jobs.database import Database
from app.jobs.history import Filters, History
from app.jobs.job import JobOptions, JobRequest, JobState, Upload
from app.jobs.rows import new_row
from app.jobs.spoken import MAX_BYTES, distinct_words, parts_of
from app.jobs.tables import jobs, spoken
from tests.support.postgres import PostgresServer

NUM_JOBS, LIMIT = 10_000, 200


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    yield from filled("", tmp_path_factory.mktemp("history"))


@pytest.fixture(scope="module")
def postgresql(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    yield from filled(postgres.new_database("history"), tmp_path_factory.mktemp("history"))


@pytest.fixture(params=["database", "postgresql"])
def either(request: pytest.FixtureRequest) -> Database:
    found: Database = request.getfixturevalue(request.param)
    return found


def filled(url: str, folder: Path) -> Iterator[Database]:
    """Ten thousand jobs of one client, in pairs of the same time, and as many of another."""
    database = Database(url, folder)
    rows = [
        new_row(
            f"{number:08d}-0000-4000-8000-{client:012d}",
            JobRequest(
                client=f"client {client}",
                source=Upload(name="x"),
                options=JobOptions(model="demo"),
                file_name=f"{number}.mp3",
            ),
            number,
            1_000_000.0 + number // 2,
        )
        for number in range(NUM_JOBS)
        for client in (1, 2)
    ]
    said = [
        {"job_id": row["id"], "words": distinct_words(f"Page {row['rank']}, QUARTERLY report")}
        for row in rows
    ]
    with database.begin() as connection:
        connection.execute(sa.insert(jobs), rows)
        connection.execute(sa.insert(spoken), said)
    yield database
    database.close()


def plans(database: Database, **page: Any) -> list[str]:
    """How SQLite answers the queries for a page."""
    asked: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *more: Any) -> None:
        asked.append((statement, parameters))

    sa.event.listen(database.engine, "before_cursor_execute", note)
    try:
        History(database).page("client 1", LIMIT, **page)
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", note)
    with database.engine.connect() as connection:
        return [
            " / ".join(
                row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", given)
            )
            for query, given in asked
        ]


def test_every_page_is_found_by_the_index(database: Database) -> None:
    cursor = History(database).page("client 1", LIMIT).cursor
    filters = Filters(since=1_000_100.0, until=1_000_300.0)
    for page in (
        {},
        {"cursor": cursor},
        {"filters": filters},
        {"cursor": cursor, "filters": filters},
    ):
        rows, count = plans(database, **page)
        assert rows.startswith("SEARCH jobs USING INDEX jobs_by_client (client=?"), rows
        assert "TEMP B-TREE" not in rows
        assert "USING COVERING INDEX jobs_by_client (client=?" in count
        if "cursor" in page:
            assert "created_at" in rows


def test_pages_are_complete_while_jobs_come(database: Database) -> None:
    history, found, cursor = History(database), [], ""
    while True:
        page = history.page("client 1", LIMIT, cursor)
        assert page.total == NUM_JOBS
        found += [job.id for job in page.jobs]
        cursor = page.cursor
        if not cursor:
            break
    assert len(found) == NUM_JOBS
    assert found == sorted(found, reverse=True)
    assert all(job_id.endswith("1") for job_id in found)
    assert history.page("client 1", 5, offset=NUM_JOBS - 3).cursor == ""
    assert history.page("nobody", 5).jobs == []
    assert history.page("client 1", 5, filters=Filters(states=(JobState.DONE,))).total == 0


def test_a_search_finds_what_was_said(either: Database) -> None:
    history = History(either)
    for text, total in (
        ("quarterly report", NUM_JOBS),
        ("REPORT: quart 9999!", 1),  # in any order, and only the beginning of a word
        ("it's 9999", 0),
        ("uarterly", 0),
        ("quarterly weather", 0),
    ):
        page = history.page("client 1", 5, filters=Filters(search=text))
        assert page.total == total, text
        assert all(job.id.endswith("1") for job in page.jobs)


def test_a_search_reads_the_words_of_the_clients_jobs_only(database: Database) -> None:
    [rows, *_] = plans(database, filters=Filters(search="quarterly"))
    assert "SEARCH spoken USING INDEX" in rows


def test_more_words_than_a_database_indexes(postgresql: Database) -> None:
    """Those that fit are found."""
    many = " ".join(f"{number:x}ä" for number in range(200_000))
    words = distinct_words(many)
    assert 800_000 < len(words.encode()) <= MAX_BYTES
    job_id = History(postgresql).page("client 2", 1).jobs[0].id
    with postgresql.begin() as connection:
        connection.execute(sa.update(spoken).where(spoken.c.job_id == job_id).values(words=words))
    found = History(postgresql).page("client 2", 5, filters=Filters(search="1000Ä"))
    assert [job.id for job in found.jobs] == [job_id]


@pytest.mark.parametrize(
    ("said", "search", "is_found"),
    [
        ("今天天气很好", "天气", True),  # no spaces between the words
        ("今天天气很好", "好", True),
        ("今天天气很好", "今气", False),
        ("Straße, Ärzte", "STRASSE ärz", True),
        ("don't", "Don't", True),
        ("100 %", "10 %", True),
    ],
)
def test_words_are_found_in_every_script(said: str, search: str, is_found: bool) -> None:
    assert all(part in distinct_words(said) for part in parts_of(search)) == is_found


def test_a_search_takes_signs_as_they_are(database: Database) -> None:
    history = History(database)
    for text, total in (("999", 19), ("%", 0), ("_", 0), ("9999.MP3", 1), ("\\", 0)):
        assert history.page("client 1", 5, filters=Filters(search=text)).total == total, text
