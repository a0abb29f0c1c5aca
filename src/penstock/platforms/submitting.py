"""What a platform offers where files count only once they are submitted, together with records.

A record is a row of metadata that names files; a submission binds records to files for good. Both
are told from others by their content: a submission is looked for before it is made again, so that
neither a lost answer nor a nightly run submits twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Protocol, runtime_checkable

from penstock.core.metadata import Schema
from penstock.core.model import Flow
from penstock.core.values import quick_value


@quick_value(frozen=True, slots=True)
class Record:
    """A record as the platform has it: its text as the schema compiles it, and files by column.

    `submission` is the id of the submission it is part of, None while it is pending.
    """

    id: str
    text: str
    files: Mapping[str, str] = field(default_factory=dict)
    submission: str | None = None


@quick_value(frozen=True, slots=True)
class Problem:
    """What is against a submission: the record or file it is about (None: all of it), and why."""

    about: str | None
    column: str | None
    reason: str


class RecordSchema(Schema, Protocol):
    """A schema whose records name files."""

    @property
    def file_columns(self) -> tuple[str, ...]:
        """The columns whose values name files."""
        ...


@quick_value(frozen=True, slots=True)
class Submitted:
    """A submission that was made, or why none was."""

    id: str | None
    problems: tuple[Problem, ...] = ()


@runtime_checkable
class TakesSubmissions(Protocol):
    """The flows of a platform that takes submissions."""

    def record_schema(self) -> Flow[RecordSchema]:
        """What a record may hold."""
        ...

    def records(self, schema: RecordSchema) -> Flow[tuple[Record, ...]]:
        """All records the caller may see: pending ones first, then those submitted."""
        ...

    def create_record(self, text: str) -> Flow[str]:
        """The id of a new pending record. A lost answer is thrown: look for it in `records`."""
        ...

    def prevalidate(
        self, records: Sequence[str], files: Sequence[str]
    ) -> Flow[tuple[Problem, ...]]:
        """What is against submitting these together; nothing is changed."""
        ...

    def submit(self, label: str, records: Sequence[str], files: Sequence[str]) -> Flow[Submitted]:
        """The submission of these; one whose answer was lost is looked for, by its records."""
        ...

    def delete_record(self, record: str) -> Flow[None]:
        """A pending record is gone; one that is submitted stays."""
        ...
