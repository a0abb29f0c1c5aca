"""One pure module a platform: everything penstock knows about it, and nothing it does.

A platform is a class of flows (see `base`). A flow yields requests and is sent responses; it does
no I/O, keeps no clock, holds no key and never sleeps, so limits, signing, resending, redaction
and accounting are written once, in the engine.

**Adding a platform**, in the order that works. `web` was added so; it is the shortest to read.

1. *Facts first.* Write down for each request: method, URL, what counts against the quota, what
   comes back, what a lost answer leaves behind. Each fact gets a `Source:`; what has none is a
   guess, said so, and the code must survive its being wrong.
2. *Numbers are traits.* Quota, page size, part sizes, requests a file: `Traits`. A difference that
   is a number or a yes goes there, never into an `if` on the platform's name.
3. *The flows*, in a module here: `place` and `find` (what a location names), `list_page` (whole
   pages; presigned URLs where pages bring them), `lease`/`renew`/`probe`/`get_part` (downloads:
   `base.ranged_get`, `base.following`), `create_upload`/`put_part`/`complete_upload`/
   `abort_upload`/`open_uploads` (uploads; nothing to send to: inherit `base.DownloadOnly`).
   Whatever must not happen twice is `Repeat.ASK`, and its `AnswerLost` is met by a question.
   A storage host gets `auth=NO_AUTH, cost=0`: the token goes to the API's own host only.
4. *One function for refusals*: `refusal` turns a status and a body into an error class. Branch on
   the platform's own code first; every foreign sentence passes through one line of bounded length.
   What may be a presigned URL or a token is never part of a message, an id or a `repr`.
5. *Test the flows by scripts* (`tests/scripted.py`): a list of what is asked and answered; then
   fuzz what they read: a penstock error or a value, never another exception.
6. *A simulator* in `penstock.simulators`, which imports nothing of penstock: its protocol, quota,
   storage and faults, every unverified fact a switch. Where an official client or a real server
   can be had, it is held against those, not against this package.
7. *Bind the conformance suite*: a `Bench` of a few lines in `tests/benches.py`. What the platform
   cannot do is a flag there (`sends = False` where nothing can be sent); what it has no listing
   for is fetched by a manifest.
8. *One line each* in `penstock.session.PLATFORMS`, `penstock.config.profiles` (name, endpoint,
   quota), `penstock simulate`, README and CHANGELOG.

Nothing in `engine` or `cli` should have to change. Where it must, the interface was wrong: change
`base`, for all platforms, and say why there.
"""
