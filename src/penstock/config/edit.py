"""The configuration file, changed: a profile's table written or taken out, all else left as it is.

Comments and order are the user's and stay (`tomlkit`). The file takes its name when it is whole,
readable by its owner alone where it is new. What is written was read back by `load` first, so that
a slip is refused before the file changes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from penstock.config.load import load
from penstock.core.errors import ProfileError


def write_profile(path: Path, name: str, values: Mapping[str, str]) -> None:
    """The table `[profiles.NAME]` has these values, beside what else it had. Blocks.

    Raises `ProfileError` for values that make no sense, and where the file cannot be written.
    """
    document = _read(path)
    profiles = document.setdefault("profiles", {})
    table = profiles.setdefault(name, {})
    table.update(values)
    _replace(path, document)


def remove_profile(path: Path, name: str) -> bool:
    """Whether there was a table `[profiles.NAME]`; it is gone. Blocks. Raises `ProfileError`."""
    document = _read(path)
    profiles = document.get("profiles", {})
    if name not in profiles:
        return False
    del profiles[name]
    _replace(path, document)
    return True


def _read(path: Path) -> dict:  # type: ignore[type-arg]  # tomlkit's document is a dict
    import tomlkit  # noqa: PLC0415 - only needed to write
    import tomlkit.exceptions  # noqa: PLC0415 - as above

    try:
        return tomlkit.parse(path.read_text("utf-8"))
    except FileNotFoundError:
        return tomlkit.document()
    except OSError as error:
        raise ProfileError(f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomlkit.exceptions.TOMLKitError):
        raise ProfileError(f"{path} is not TOML; put it right first") from None


def _replace(path: Path, document: Mapping[str, object]) -> None:
    import tomlkit  # noqa: PLC0415 - as above

    text = tomlkit.dumps(document)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, beside = tempfile.mkstemp(prefix=".config-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            load({}, config_file=beside, home=path.parent)
            if path.exists():
                Path(beside).chmod(path.stat().st_mode & 0o777)
            Path(beside).replace(path)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ProfileError(f"{path} cannot be written: {error.strerror}") from None
    except ProfileError as error:
        raise ProfileError(str(error).replace(beside, str(path))) from None
