"""After every transfer ended: records made of a table's rows, and submitted with their files.

A row is whole when every file it names is on the platform, proved. Records are known by content
(their text, and the ids of the files they name), so what is pending is used and what is submitted
is left alone, whichever run, user or lost answer it came from: the platform is the memory here,
and nothing about submissions is kept in the ledger. What the platform has against a submission is
asked before it is made; all that is wrong is told by row.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from typing import Any

from penstock.core.errors import AnswerLost
from penstock.core.events import Event, Note
from penstock.core.metadata import Fault, MetadataRow
from penstock.core.report import Line
from penstock.core.values import quick_value
from penstock.engine.exchange import Exchange
from penstock.platforms.submitting import Problem, Record, RecordSchema, TakesSubmissions

# Rounds in which rows the platform refuses are left out, until it refuses none.
_ROUNDS = 20
_ASKED = 3
# Requests of a submission that the platform has nothing against: it is asked, then told.
_SUBMITTING = 2
_NOT_HERE = "is no file of this command"


@quick_value(frozen=True, slots=True)
class Row:
    """A row as it is to be a record: its text, and the files it names by column."""

    number: int
    text: str
    files: Mapping[str, str] = field(default_factory=dict)


@quick_value(frozen=True, slots=True)
class Asked:
    """What the command says: a label (None: records only), and whether part of it will do."""

    label: str | None
    is_partial: bool = False

    def written(self, now: datetime) -> str | None:
        """The label, `{date}` being the local date."""
        return None if self.label is None else self.label.replace("{date}", f"{now:%Y-%m-%d}")


def read_rows(
    rows: Sequence[MetadataRow], schema: RecordSchema
) -> tuple[tuple[Row, ...], list[Fault]]:
    """The rows as records, and everything that is wrong with their cells."""
    faults: list[Fault] = []
    found: list[Row] = []
    known: dict[str, bool] = {}
    for row in rows:
        for column in row.values:
            if column not in known:
                why = schema.unknown(column)
                known[column] = why is None
                if why is not None:
                    faults.append(Fault(row.row, column, why))
        values = {column: texts for column, texts in row.values.items() if known[column]}
        text, troubles = schema.compile(values)
        wrong = [*schema.check_row(values), *troubles]
        faults += [Fault(row.row, trouble.column, trouble.reason) for trouble in wrong]
        named = {column: values[column][0] for column in schema.file_columns if column in values}
        found.append(Row(row.row, text, named))
    return tuple(found), faults


def check_files(
    rows: Sequence[Row], files: Sequence[tuple[str, str]], *, submitting: bool
) -> tuple[list[Fault], list[Fault]]:
    """Faults, and rows that match no file, which are none: what they name may be there by now.

    Faults are files that no row names, and for a submission two files of one name. `files` are
    (local path, name) of each.
    """
    faults: list[Fault] = []
    unmatched: list[Fault] = []
    sources, named = Sources(files), set()
    for row in rows:
        for column, value in row.files.items():
            meant = sources.of(value)
            named.update(meant)
            if not meant:
                unmatched.append(Fault(row.number, column, f"{value!r} {_NOT_HERE}"))
    faults += [
        Fault(0, None, f"{path} is named by no row") for path, _ in files if path not in named
    ]
    for name, paths in sources.by_name.items():
        if submitting and len(paths) > 1:
            faults.append(
                Fault(0, None, f"several files would be called {name!r}: {', '.join(paths)}")
            )
    return list(dict.fromkeys(faults)), unmatched


class Sources:
    """The run's local files by what a cell may call them: the name there, or a path's end."""

    def __init__(self, files: Sequence[tuple[str, str]]) -> None:
        self.by_name: dict[str, list[str]] = {}
        self._by_last: dict[str, list[str]] = {}
        for path, name in files:
            self.by_name.setdefault(name, []).append(path)
            self._by_last.setdefault(path.rpartition("/")[2], []).append(path)

    def of(self, value: str) -> list[str]:
        """The local paths a cell means; more than one where names are not unique."""
        below = value.removeprefix("./")
        if "/" not in below:
            return self.by_name.get(below, [])
        last = below.rpartition("/")[2]
        return [
            path
            for path in self._by_last.get(last, ())
            if path == below or path.endswith(f"/{below}")
        ]


class Submission:
    """One run's records and submission. Lines of the run are `heard` as transfers end."""

    def __init__(
        self,
        exchange: Exchange,
        schema: RecordSchema,
        rows: Sequence[Row],
        names: Sequence[tuple[str, str]],
        asked: Asked,
        emit: Callable[[Event], None],
    ) -> None:
        assert isinstance(exchange.platform, TakesSubmissions)
        self._exchange = exchange
        self._platform: TakesSubmissions = exchange.platform
        self._schema = schema
        self._rows = rows
        self._sources = Sources(names)
        self._asked = asked
        self._emit = emit
        self._ids: dict[str, str] = {}
        self._failed: dict[str, str] = {}
        self.problems: list[Fault] = []
        self._made: set[str] = set()

    def heard(self, line: Line) -> None:
        """A transfer ended."""
        if line.status != "failed" and line.id is not None:
            self._ids[line.source] = line.id
        else:
            why = line.error["message"] if line.error else line.reason or line.status
            self._failed[line.source] = why

    async def cost(self) -> int:
        """Requests that `run` would send beyond those this sends, as far as rows tell by now."""
        there = await self._exchange.run(self._platform.records(self._schema))
        submitted = Counter(record.text for record in there if record.submission is not None)
        pending = Counter(record.text for record in there if record.submission is None)
        new = list((Counter(row.text for row in self._rows) - submitted).elements())
        made = (Counter(new) - pending).total()
        return made + (_SUBMITTING if new and self._asked.label is not None else 0)

    async def run(self, now: datetime) -> dict[str, Any] | None:
        """The summary's `submission`; what kept rows from it is in `problems`, and told.

        None where no submission was asked for: the records are pending then.
        """
        label = self._asked.written(now)
        there: Sequence[Record] | None = None
        rows: Sequence[Row] = self._rows
        if not all(self._is_here(row) for row in rows):
            # A row whose file is here no more is done where its record is submitted.
            there = await self._exchange.run(self._platform.records(self._schema))
            done = {record.text for record in there if record.submission is not None}
            rows = [row for row in rows if self._is_here(row) or row.text not in done]
        whole = [row for row in rows if self._is_whole(row)]
        broken = len(rows) - len(whole)
        if broken and label is not None and not self._asked.is_partial:
            return self._summary(None, 0, len(rows))
        if there is None:
            there = await self._exchange.run(self._platform.records(self._schema))
        new, old = self._split(whole, there)
        if not new and label is not None:
            return self._summary(old, 0, broken)
        records = await self._records(new, there)
        if label is None:
            self._summary(None, 0, broken)
            return None
        return await self._submit(label, records, broken, old)

    def _summary(self, submission: str | None, rows: int, left: int) -> dict[str, Any]:
        for problem in self.problems:
            self._emit(Note(f"the metadata: {problem}"))
        return {"id": submission, "rows": rows, "left": left}

    def _is_whole(self, row: Row) -> bool:
        found = True
        for column, value in row.files.items():
            source = self._source_of(value)
            if source in self._ids:
                continue
            if source is None:
                self.problems.append(Fault(row.number, column, f"{value!r} {_NOT_HERE}"))
            else:
                why = self._failed.get(source, "it was not sent")
                self.problems.append(Fault(row.number, column, f"{value!r}: {why}"))
            found = False
        return found

    def _is_here(self, row: Row) -> bool:
        """Whether the run has every file that a row names."""
        return all(self._source_of(value) is not None for value in row.files.values())

    def _source_of(self, value: str) -> str | None:
        found = self._sources.of(value)
        return found[0] if found else None

    def _files_of(self, row: Row) -> dict[str, str]:
        return {
            column: self._ids[self._source_of(value) or ""] for column, value in row.files.items()
        }

    def _split(self, rows: Sequence[Row], there: Sequence[Record]) -> tuple[list[Row], str | None]:
        """The rows that are in no submission yet, and the last submission any of them is in."""
        submitted: dict[str, list[Record]] = {}
        for record in there:
            if record.submission is not None:
                key = _key(record.text, record.files)
                submitted.setdefault(key, []).append(record)
        new, last = [], None
        for row in rows:
            found = submitted.get(_key(row.text, self._files_of(row)))
            if found:
                last = found.pop().submission
            else:
                new.append(row)
        return new, last

    async def _records(self, rows: Sequence[Row], there: Sequence[Record]) -> dict[str, Row]:
        """Each row's pending record: one that is there already, or a new one."""
        pending: dict[str, list[str]] = {}
        for record in there:
            if record.submission is None:
                pending.setdefault(record.text, []).append(record.id)
        known = {record.id for record in there}
        made: dict[str, Row] = {}
        for row in rows:
            waiting = pending.get(row.text)
            number = waiting.pop() if waiting else await self._create(row, known)
            if number not in known:
                self._made.add(number)
            known.add(number)
            made[number] = row
        return made

    async def _create(self, row: Row, known: set[str]) -> str:
        """A new record's id. A lost answer is settled by what is pending that nobody knows."""
        for last_try in (*[False] * (_ASKED - 1), True):
            try:
                return await self._exchange.run(self._platform.create_record(row.text))
            except AnswerLost:
                there = await self._exchange.run(self._platform.records(self._schema))
                for record in there:
                    fresh = record.submission is None and record.id not in known
                    if fresh and record.text == row.text:
                        return record.id
                if last_try:
                    raise
        raise AssertionError("the last try returns or raises")

    async def _submit(
        self, label: str, records: dict[str, Row], broken: int, old: str | None
    ) -> dict[str, Any]:
        """Submitted, after the platform had nothing against it (any more)."""
        for _ in range(_ROUNDS):
            files = {file for row in records.values() for file in self._files_of(row).values()}
            flow = self._platform.prevalidate(list(records), sorted(files))
            problems = await self._exchange.run(flow)
            if not problems:
                done = await self._exchange.run(
                    self._platform.submit(label, list(records), sorted(files))
                )
                if done.id is not None:
                    return self._summary(done.id, len(records), broken)
                problems = done.problems
            records, old, were = *await self._unless_submitted(records, old), len(records)
            if not records:
                return self._summary(old, 0, broken)
            if len(records) < were:
                continue
            refused = self._told(problems, records)
            broken += len(refused)
            for number in refused:
                del records[number]
            if not self._asked.is_partial or not refused or not records:
                return self._summary(old if not records else None, 0, broken + len(records))
        return self._summary(None, 0, broken + len(records))

    async def _unless_submitted(
        self, records: dict[str, Row], old: str | None
    ) -> tuple[dict[str, Row], str | None]:
        """The records that no run beside this one has submitted meanwhile.

        What this run made for the others is deleted.
        """
        there = await self._exchange.run(self._platform.records(self._schema))
        new, last = self._split(list(records.values()), there)
        left = {row.number for row in new}
        kept = {number: row for number, row in records.items() if row.number in left}
        for number in records.keys() - kept.keys() & self._made:
            await self._exchange.run(self._platform.delete_record(number))
        return kept, last or old

    def _told(self, problems: Sequence[Problem], records: Mapping[str, Row]) -> list[str]:
        """The records problems are about; each problem is told by its row."""
        by_file = {
            file: number for number, row in records.items() for file in self._files_of(row).values()
        }
        refused: list[str] = []
        for problem in problems:
            about = problem.about or ""
            number = about if about in records else by_file.get(about)
            row = records[number].number if number is not None else 0
            self.problems.append(Fault(row, problem.column, problem.reason))
            if number is not None and number not in refused:
                refused.append(number)
        return refused


def _key(text: str, files: Mapping[str, str]) -> str:
    return json.dumps([text, sorted(files.items())])
