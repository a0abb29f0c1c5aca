"""Begins one upload: an intent first, then the request whose answer may be lost, then its id.

So whatever moment the process dies at, the next run knows what to ask, and asks only then.
"""

from __future__ import annotations

from penstock.core.errors import AnswerLost, Conflict, Refused
from penstock.core.model import Target, Upload
from penstock.core.plan import upload_part_size
from penstock.core.transfers import UpTransfer
from penstock.engine.context import Context
from penstock.engine.exchange import Tally
from penstock.engine.openuploads import INSISTS
from penstock.engine.rows import Intent, Row

# Times an upload whose creation was never answered is asked for.
_CREATIONS = 4


class Beginning:
    """The beginning of one transfer's upload."""

    def __init__(self, context: Context, transfer: UpTransfer, tally: Tally) -> None:
        self._context = context
        self._exchange = context.exchange
        self._choices = context.choices
        self._transfer = transfer
        self._tally = tally
        self._resumes = context.exchange.platform.traits.uploads_resume
        self._creation_lost = False
        self.overwrite = False
        """Whether what stands under the name is to be replaced."""

    async def begin(self, row: Row, target: Target) -> Upload:
        """The upload to send to: the one under way, the one an intent led to, or a new one."""
        ledger = self._context.ledger
        if row.upload_id is not None and row.part_size is not None:
            return Upload(row.upload_id, row.part_size, row.parallel)
        traits = self._exchange.platform.traits
        part_size = upload_part_size(target.size, traits, self._choices.part_size)
        earlier = [] if row.is_new else await ledger.intents(row.id)
        for intent in earlier:
            found = await self._context.uploads.ours(intent) if intent.kind == "create" else None
            if found is not None and found.part_size is not None:
                upload = Upload(found.id, found.part_size, found.parallel)
                await ledger.began(row.id, intent.id, upload)
                return upload
            if intent.kind == "create" and not self._resumes:
                self._say_left_open()
        intent = await ledger.start_upload(
            row.id,
            self._transfer.found,
            place=target.place.id or target.place.container,
            name=target.name,
            size=target.size,
            part_size=part_size,
            made_at=self._exchange.server_at(),
        )
        try:
            upload = await self._create(target, part_size, intent)
        except (Refused, Conflict):
            await ledger.settle(intent.id)
            raise
        await ledger.began(row.id, intent.id, upload)
        if upload.part_size != part_size:
            await self._learn_insistence([*earlier, *([intent] if self._creation_lost else [])])
        return upload

    async def _learn_insistence(self, intents: list[Intent]) -> None:
        """The platform chooses part sizes: what earlier intents led to can be told only now."""
        await self._context.ledger.remember_fact(self._exchange.platform.endpoint, INSISTS, "yes")
        for intent in intents:
            if intent.kind != "create":
                continue
            stray = await self._context.uploads.ours(intent, again=True)
            if stray is not None:
                await self._exchange.run(self._exchange.platform.abort_upload(stray.id))

    async def _create(self, target: Target, part_size: int, intent: Intent) -> Upload:
        """A new upload. A lost answer is settled by asking; nothing there: asked for again.

        The intent stays what it was, so that an upload which a slow platform makes after all is
        found by it, here or by the next run.
        """
        for last_try in (*[False] * (_CREATIONS - 1), True):
            flow = self._exchange.platform.create_upload(
                target, part_size, overwrite=self.overwrite
            )
            try:
                return await self._exchange.run(flow, tally=self._tally)
            except AnswerLost:
                self._creation_lost = True
                found = await self._context.uploads.ours(intent, again=True)
                if found is not None and found.part_size is not None:
                    return Upload(found.id, found.part_size, found.parallel)
                if last_try:
                    raise
                if not self._resumes:
                    self._say_left_open()
                await self._exchange.pause()
        raise AssertionError("the last try returns or raises")

    def _say_left_open(self) -> None:
        """Told once: an upload whose beginning was never answered may stay, and nobody can know."""
        profile = self._transfer.destination.partition(":")[0]
        self._context.say_once(
            f"{profile} did not answer when a file was announced, and lists no such files: an "
            "empty one may be left there; the file was announced anew"
        )
