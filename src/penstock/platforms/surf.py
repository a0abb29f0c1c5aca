"""SURF Research Cloud: workspaces listed by pages and acted on; 1000 requests in 60 s.

An action is one request, asked for once; that it was done is seen in the listing, 100 workspaces a
request, so that many actions settle for the price of a page. The API moves no files.

Sources, by short name: [API] SURF Service Desk, "SRC API"; [SC] surf-controller 1.2.2; [EXT] a
public browser extension, its fields seen live 2026-10-07; [CLI] surf-cli; [TYK] Tyk's gateway at
31e219beb. That the gateway is Tyk is probable and unproved; the live schema was not reachable, so
shapes of answers are those that third-party clients read, and a field may be missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from penstock.core.errors import AnswerUnusable, ExchangeError, ProfileError, Refused
from penstock.core.model import Flow, Headers, Page, Rank, RemoteFolder, Repeat, Request, Response
from penstock.core.times import when
from penstock.core.traits import Traits
from penstock.platforms import surf_states
from penstock.platforms.base import TRANSIENT, JsonObject, retry_after_s
from penstock.platforms.beginning import all_begin_again
from penstock.platforms.control import Evidence, Mark, Past, Scope, Thing, ThingPage
from penstock.platforms.fileless import Fileless

TRAITS = Traits(
    platform="surf",
    # Source: [API] "Current Rate Limit Policy": 1000 requests per 60 seconds per API key.
    quota=1000,
    window_s=60.0,
    # Source: [SC] and [EXT] ask for 100; the server's most is not known.
    page_size=100,
    keeps_files=False,
)

# Source: `authorization: TOKEN` in [SC] and [EXT], the latter live; `Token TOKEN` in [CLI].
TOKEN_FORMS: Mapping[str, str] = {"bare": "", "token": "Token ", "bearer": "Bearer "}

# An answer may nest; deeper than this it is none of ours.
_DEPTH = 6
# Source: [TYK] gateway/mw_auth_key.go: an unknown key is 403 with this sentence.
_NO_SUCH_KEY = ("access to this api has been disallowed", "key not authori")
_LONGEST_WAIT_S = 300.0
_LONGEST_SAID = 300


@all_begin_again
class Surf(Fileless):
    """The flows of SURF Research Cloud at one endpoint (the API root, with `/v1`).

    `settings` are the profile's: `token_form`, one of `bare` (as it is), `token`, `bearer`.
    Raises `ProfileError` for settings that are none.
    """

    sentence = (
        "SURF Research Cloud keeps no files that its API could move: data is moved inside the "
        "workspace. `penstock workspaces` pauses, resumes, reboots and deletes workspaces, and "
        "`penstock list` with the profile alone lists them"
    )

    def __init__(
        self, endpoint: str, settings: Mapping[str, str] | None = None, traits: Traits = TRAITS
    ) -> None:
        settings = settings or {}
        for key in settings:
            if key != "token_form":
                raise ProfileError(f"a surf profile has no setting {key!r}; there is: token_form")
        form = settings.get("token_form", "bare").lower()
        if form not in TOKEN_FORMS:
            raise ProfileError(
                f"token_form is one of {', '.join(TOKEN_FORMS)}, not {settings['token_form']!r}"
            )
        self._prefix = TOKEN_FORMS[form]
        self._endpoint = endpoint.rstrip("/")
        self._traits = traits

    @property
    def traits(self) -> Traits:
        """The numbers."""
        return self._traits

    @property
    def endpoint(self) -> str:
        """The API root."""
        return self._endpoint

    @property
    def actions(self) -> tuple[str, ...]:
        """The names of the actions there are."""
        return tuple(surf_states.WAYS)

    def sign(self, token: str) -> tuple[tuple[str, str], ...]:
        """The token's header, in the profile's form."""
        return (("Authorization", self._prefix + token),)

    def refusal(self, request: Request, response: Response) -> ExchangeError:
        """What the gateway, or what is behind it, means by a status and a body.

        Source: [TYK] for `{"error": …}`; [CLI] for `{"detail": …}` and `{"message": …}`. A body
        may as well be HTML; the status then speaks alone.
        """
        what = f"{request.method} {urlsplit(request.url).path} was refused with {response.status}"
        return _refused(what, response.status, _parsed(response.body), response.headers)

    # -- workspaces ---------------------------------------------------------------------------

    def list_things(self, scope: Scope, offset: int) -> Flow[ThingPage]:
        """100 Compute workspaces; those that are deleted may be left out.

        Links to the next page are not followed: offsets are built here, and go on by as many as
        came. Source: [EXT] for the query; without `deleted=false` the deleted are listed, too.
        """
        query = [("application_type", "Compute"), ("deleted", "false")]
        if scope.own:
            query.append(("by_owner", "true"))
        if scope.group is not None:
            query.append(("co_id", scope.group))
        if scope.wallet is not None:
            query.append(("wallet_id", scope.wallet))
        return (yield from self._page(query, offset))

    def list_containers(self, cursor: str | None, above: str = "") -> Flow[Page]:  # noqa: ARG002
        """100 of the workspaces that the token can see, whatever they are of."""
        page = yield from self._page([("deleted", "false")], int(cursor or 0))
        there = (thing for thing in page.things if thing.status != "deleted")
        # Names are not unique; `penstock workspaces` takes ids.
        shown = tuple(
            RemoteFolder(thing.id, thing.name, "workspace", written=f"id={thing.id}")
            for thing in there
        )
        return Page((), shown, None if page.next is None else str(page.next), page.total)

    def _page(self, query: list[tuple[str, str]], offset: int) -> Flow[ThingPage]:
        size = self._traits.page_size
        query = [*query, ("limit", str(size)), ("offset", str(offset))]
        url = f"{self._endpoint}/workspace/workspaces/?{urlencode(query)}"
        accept = (("Accept", "application/json"),)
        answer = JsonObject.of((yield Request("GET", url, headers=accept)), "workspace listing")
        items = list(answer.objects("results"))
        total = answer.whole_or_none("count")
        come = offset + len(items)
        more = come < total if total is not None else answer.get("next") is not None
        things = tuple(_thing(item) for item in items)
        return ThingPage(things, come if more and items else None, total)

    def act(self, action: str, thing: str) -> Flow[None]:
        """The action is accepted. Source: [EXT]: `{}` as JSON, no CSRF token; slashes at the end.

        A 2xx may carry an error for an action the state does not allow: it is read.
        """
        where = f"{self._endpoint}/workspace/workspaces/{quote(thing, safe='')}/"
        if action == "delete":
            request = Request("DELETE", where, repeat=Repeat.ASK, rank=Rank.START)
        else:
            request = Request(
                "POST",
                f"{where}actions/{quote(action, safe='')}/",
                headers=(("Accept", "application/json"), ("Content-Type", "application/json")),
                body=(b"{}",),
                repeat=Repeat.ASK,
                rank=Rank.START,
            )
        response = yield request
        if not response.body.strip():
            return
        said = _parsed(response.body)
        if said is None:
            raise AnswerUnusable(
                f"{action} was answered with {response.status} and a body that is not JSON"
            )
        error = _error_within(said)
        if error is not None:
            status, told = error
            what = f"{action} was answered with {response.status}, but the answer says {status}"
            raise _refused(what, status, told, response.headers)

    def forbids(self, action: str, thing: Thing) -> str | None:
        """Why a workspace's state forbids an action."""
        return surf_states.forbids(action, thing)

    def evidence(self, action: str, mark: Mark, now: Thing | None, *, begun: bool) -> Evidence:
        """What a workspace as it is now says of an action asked for after `mark`."""
        return surf_states.evidence(action, mark, now, begun=begun)


def _parsed(body: bytes) -> Any:  # noqa: ANN401 - foreign JSON is anything
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _refused(what: str, status: int, said: Any, headers: Headers) -> Refused:  # noqa: ANN401
    message = _message(said)
    low = message.lower()
    # Source: [TYK] gateway/mw_rate_limiting.go: 403 and "Quota exceeded" once a quota is spent.
    quota = status == 429 or (status == 403 and "quota exceeded" in low)  # noqa: PLR2004
    # Source: [API] "How the Queue Works": a full queue accepts no new tasks, and answers 503.
    full = status == 503  # noqa: PLR2004
    return Refused(
        what + (f": {message}" if message else ""),
        status=status,
        retry=quota or status in TRANSIENT,
        stop=status == 403 and any(text in low for text in _NO_SUCH_KEY),  # noqa: PLR2004
        quota=quota,
        queue_full=full,
        undone=quota or full,
        retry_after_s=_wait_s(headers) if full else None,
    )


def _message(said: Any) -> str:  # noqa: ANN401 - foreign JSON is anything
    """What a body says to a person, cut to a line's length."""
    text = said
    if isinstance(said, dict):
        text = next(
            (said[key] for key in ("error", "detail", "message", "reason") if said.get(key)), None
        )
    if isinstance(text, dict):
        return _message(text)
    if isinstance(text, list):
        text = "; ".join(str(part) for part in text if isinstance(part, str | int))
    return text[:_LONGEST_SAID] if isinstance(text, str) else ""


def _error_within(said: Any) -> tuple[int, Any] | None:  # noqa: ANN401 - foreign JSON is anything
    """The status of the error a body carries, and the object that holds it; None: it has none.

    Source: a public script looks for `"code":400` in the body of a success. An `error` or a
    `detail` without a code is taken for 400: a guess.
    """
    for entry in _objects(said, _DEPTH):
        code = entry.get("code")
        if isinstance(code, str) and code.isascii() and code.isdigit():
            code = int(code[:6])
        if isinstance(code, int) and not isinstance(code, bool) and 400 <= code < 600:  # noqa: PLR2004
            return code, entry
    if isinstance(said, dict) and not said.get("id") and (said.get("error") or said.get("detail")):
        return 400, said
    return None


def _objects(value: Any, depth: int) -> Iterator[dict[str, Any]]:  # noqa: ANN401
    """Every object in a JSON value, but in a workspace's memory of earlier actions."""
    if depth and isinstance(value, dict):
        yield value
        for key, inner in value.items():
            if key not in ("workspace_actions", "meta", "resource_meta"):
                yield from _objects(inner, depth - 1)
    elif depth and isinstance(value, list):
        for inner in value:
            yield from _objects(inner, depth - 1)


def _wait_s(headers: Headers) -> float | None:
    """How long a full queue asks to wait: `Retry-After`, or a header about waiting, in seconds.

    Source: [API] speaks of "headers indicating … wait times" and names none, so any name with
    "wait" in it is taken, if it holds a number: a guess.
    """
    said = retry_after_s(headers)
    if said is not None:
        return said
    waits = (value.strip() for name, value in headers.items() if "wait" in name)
    number = next((text for text in waits if text.isascii() and text.isdigit()), None)
    return None if number is None else min(float(number[:9]), _LONGEST_WAIT_S)


# -- a workspace as it is listed --------------------------------------------------------------


def _thing(item: JsonObject) -> Thing:
    """Source: [EXT] for the names of the fields; all but the id may be missing."""
    number = item.whole_or_none("id")
    thing = str(number) if number is not None else item.text("id")
    status = (item.text_or_none("status") or "").lower()
    if item.get("time_deleted"):
        status = "deleted"
    meta = item.object_or_none("meta")
    deletable = item.get("deletable")
    return Thing(
        id=thing,
        name=item.text_or_none("name") or thing,
        status=status,
        allowed=_allowed(item),
        past=_past(item),
        deletable=deletable if isinstance(deletable, bool) else None,
        kind=item.text_or_none("application_type"),
        application=meta.text_or_none("application_name") if meta is not None else None,
        owner=_text(item.get("owner_id")),
        group=_text(item.get("co_id")),
        wallet=_text(item.get("wallet_id")),
    )


def _text(value: Any) -> str | None:  # noqa: ANN401 - foreign JSON is anything
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value) or None


def _allowed(item: JsonObject) -> frozenset[str] | None:
    """The actions that are offered, by `allowed_actions` or `actions`: names, or objects with one.

    That an object's name is in `name`, `type` or `action` is a guess; a list of which nothing can
    be read says nothing.
    """
    for field in ("allowed_actions", "actions"):
        value = item.get(field)
        if not isinstance(value, list):
            continue
        names = set()
        for entry in value:
            name = entry
            if isinstance(entry, dict):
                named = (entry.get(key) for key in ("name", "type", "action"))
                name = next((text for text in named if isinstance(text, str)), None)
                if entry.get("allowed") is False or entry.get("enabled") is False:
                    continue
            if not isinstance(name, str):
                return None
            names.add(name.lower())
        return frozenset(names)
    return None


def _past(item: JsonObject) -> tuple[Past, ...] | None:
    """The platform's memory of actions, oldest first; None where there is none."""
    value = item.get("workspace_actions")
    if not isinstance(value, list):
        return None
    past = [_entry(entry) for entry in value if isinstance(entry, dict)]
    # Which end is the newest no document says; where entries have times, these decide.
    if past and all(entry.made_at is not None for entry in past):
        past.sort(key=lambda entry: entry.made_at or 0.0)
    return tuple(past)


def _entry(entry: Mapping[str, Any]) -> Past:
    kind, status, result = entry.get("type"), entry.get("status"), entry.get("result")
    error = result.get("error") if isinstance(result, dict) else None
    return Past(
        action=kind.lower() if isinstance(kind, str) else "",
        status=status.lower() if isinstance(status, str) else "",
        made_at=when(entry.get("time_created")),
        error=_message(error) or None,
    )
