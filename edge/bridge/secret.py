"""Secrets come from files that nobody else reads: never from the configuration, which the control socket shows."""

from __future__ import annotations

import os
import ssl
import stat
from pathlib import Path

from streams import BridgeError

_MAX_BYTES = 64 * 1024


def read_secret(path: str, what: str) -> str:
    """Return what a file holds, without the end of its line. Raises BridgeError("bad_secret")."""
    content = _read_private(path, what)
    try:
        secret = content.decode().strip()
    except UnicodeDecodeError as error:
        raise _refused(path, what, "is no text in UTF-8") from error
    if not secret or not secret.isprintable():
        raise _refused(path, what, "has to hold one line" if secret else "is empty")
    return secret


def check_private(path: str, what: str) -> str:
    """Return the path of a file that nobody else reads. Raises BridgeError("bad_secret")."""
    _read_private(path, what)
    return str(Path(path).expanduser())


def trust(ca_file: str) -> ssl.SSLContext:
    """Return a context that trusts a certificate authority, the system's where none is named. Raises OSError."""
    return ssl.create_default_context(cafile=str(Path(ca_file).expanduser()) if ca_file else None)


def _read_private(path: str, what: str) -> bytes:
    try:
        with Path(path).expanduser().open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise _refused(path, what, "is no file")
            if mode & 0o077:
                raise _refused(path, what, f"has mode {stat.S_IMODE(mode):04o}: others may read it")
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise _refused(path, what, f"cannot be read: {error.strerror}") from error


def _refused(path: str, what: str, why: str) -> BridgeError:
    return BridgeError(f"the file of the {what}, {path}, {why}", code="bad_secret", hint=f"chmod 600 {path}")
