"""One pure module a platform: everything penstock knows about it, and nothing it does.

A platform is a class of flows (see `base`). A flow yields requests and is sent responses; it does
no I/O, keeps no clock, holds no key and never sleeps, so limits, signing, resending, redaction
and accounting are written once, in the engine.
"""
