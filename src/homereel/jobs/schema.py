"""The tables. A change here is a new step in migrate.py and a higher VERSION there.

What is queried has a column; what is only handed through (request, plan, result, ...) is JSON in a text column, in
plain ASCII, which every database keeps as it is.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, Table, Text

metadata = MetaData()
_Number = BigInteger().with_variant(Integer, "sqlite")

schema_version = Table("schema_version", metadata, Column("version", Integer, nullable=False))

jobs = Table(
    "jobs",
    metadata,
    Column("number", _Number, primary_key=True),  # the order of submission, whatever the clock says
    Column("id", Text, nullable=False, unique=True),
    Column("status", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("plan", Text),
    Column("stage", Text),
    Column("steps_done", Integer, nullable=False, default=0),
    Column("num_steps", Integer, nullable=False, default=0),
    Column("remaining_seconds", Float),
    Column("priority", Integer, nullable=False, default=0),
    Column("place", Float, nullable=False),
    Column("skips", Integer, nullable=False, default=0),  # how often another was taken before it
    Column("attempts", Integer, nullable=False, default=0),
    Column("max_attempts", Integer, nullable=False),
    Column("furthest", Integer, nullable=False, default=0),  # the most steps it ever had done
    Column("furthest_failed", Integer, nullable=False, default=0),  # the same when it failed last
    Column("wanted", Text, nullable=False, default="run"),
    Column("worker", Text),
    Column("token", Integer, nullable=False, default=0),
    Column("beat", Integer, nullable=False, default=0),
    Column("error", Text),
    Column("result", Text),
    Column("parent", Text),
    Column("relation", Text),
    Column("extra", Text, nullable=False),
    Column("idempotency_key", Text, unique=True),
    Column("idempotency_sha256", Text),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("completed_at", Float),
    Index("jobs_in_order", "status", "priority", "place", "number"),
    Index("jobs_by_place", "place"),
    sqlite_autoincrement=True,  # a number is never given twice
)

events = Table(
    "events",
    metadata,
    Column("number", _Number, primary_key=True),
    Column("job_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("data", Text, nullable=False),
    Index("events_of_a_job", "job_id", "kind"),
    sqlite_autoincrement=True,
)
