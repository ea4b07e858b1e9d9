"""What another device needs to reach the page: a token that only its owner knows, and a certificate for TLS.

Both are files that only their owner may read. The certificate is this machine's own: a browser asks once whether to
trust it, and shows the fingerprint that `setup web-access` has printed.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import ipaddress
import secrets
import socket
import ssl
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import platformdirs

from streams.errors import ConfigError
from streams.files import replacing

if TYPE_CHECKING:
    from cryptography import x509

SETUP_HINT = "`crossglg-edge setup web-access` makes a token and a certificate, once."
_CERTIFICATE, _KEY, _TOKEN = "certificate.pem", "key.pem", "token"
# Letters and digits that nobody takes for one another: 20 of 32 are 100 bits.
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
_NUM_CHARACTERS = 20
_MIN_TOKEN = 16
# Apple's systems take no longer ones, even where a person trusts them.
_VALID_DAYS = 825


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what lets other devices in. `token`: what a person enters once; it is printed at set-up and nowhere else."""

    token: str
    tls: ssl.SSLContext
    fingerprint: str

    def is_token(self, given: str) -> bool:
        """Return whether it is the token, in a time that does not depend on how near it is."""
        return hmac.compare_digest(_plain(given).encode(errors="replace"), _plain(self.token).encode())

    @property
    def cookie(self) -> str:
        """What a browser keeps instead of the token; a new token makes another one."""
        return hmac.new(_plain(self.token).encode(), b"crossglg-edge cookie", hashlib.sha256).hexdigest()

    def is_cookie(self, given: str) -> bool:
        """Return whether it is the cookie, in the same time for any."""
        return hmac.compare_digest(given.encode(errors="replace"), self.cookie.encode())


def _plain(token: str) -> str:
    """Return a token without what people add to it when they type."""
    return "".join(token.split()).replace("-", "").lower()


def default_folder() -> Path:
    """Return where `setup web-access` puts the token and the certificate."""
    return platformdirs.user_data_path("crossglg-edge") / "web-access"


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what a person takes to another device. `host`: the name or address to open there."""

    host: str
    token: str
    fingerprint: str


def set_up_access(names: tuple[str, ...] = (), *, renew: bool = False) -> Shown:
    """Make the token and the certificate where they are not there, and return what to show of them.

    `names`: names of this machine beside those that it has now; a certificate that lacks one, or that has expired,
    is made anew. `renew`: make the token anew too, so that every device must log in again.
    Raises ConfigError: "not_installed", "cannot_write", "bad_access".
    """
    _check_installed()
    folder = default_folder()
    token_file, certificate, key = (folder / name for name in (_TOKEN, _CERTIFICATE, _KEY))
    wanted = tuple(dict.fromkeys((*names, *own_names())))
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if renew or not _existing_token(token_file):
            characters = "".join(secrets.choice(_ALPHABET) for _ in range(_NUM_CHARACTERS))
            token = "-".join(characters[start : start + 5] for start in range(0, _NUM_CHARACTERS, 5))
            _write_secret(token_file, f"{token}\n".encode())
        former = () if renew else _certified_names(certificate)
        if not set(wanted) <= set(former) or not key.exists():
            made, private = _self_signed(tuple(dict.fromkeys((*former, *wanted))))
            _write_secret(key, private)
            _write_secret(certificate, made)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written to: {error.strerror}", code="cannot_write") from error
    access = read_access(token_file, certificate, key)
    return Shown(host=names[0] if names else own_address(), token=access.token, fingerprint=access.fingerprint)


def read_access(token_file: Path, certificate: Path, key: Path) -> Access:
    """Read the three files. Raises ConfigError: "no_access", "bad_access", "not_installed"."""
    _check_installed()
    for path in (token_file, key):
        _check_secret(path)
    token = token_file.read_text(encoding="utf-8", errors="replace").strip()
    if len(_plain(token)) < _MIN_TOKEN:
        raise ConfigError(
            f"{token_file} holds a token of {len(_plain(token))} characters: expected {_MIN_TOKEN} or more",
            code="bad_access",
            hint=SETUP_HINT,
        )
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without a password to ask for, a key that has one is refused.
        tls.load_cert_chain(certificate, key, password="")
        fingerprint = x509.load_pem_x509_certificate(certificate.read_bytes()).fingerprint(hashes.SHA256())
    except FileNotFoundError as error:
        raise _no_access(certificate) from error
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigError(
            f"{certificate} and {key} are no certificate and its key without a password: {error}",
            code="bad_access",
            hint=SETUP_HINT,
        ) from error
    # As browsers show it.
    return Access(token=token, tls=tls, fingerprint=fingerprint.hex(":").upper())


def open_access(token_file: str = "", certificate: str = "", key: str = "") -> Access:
    """Read the files that a config names, and for those that it does not name what `setup web-access` has made."""
    given = (token_file, _TOKEN), (certificate, _CERTIFICATE), (key, _KEY)
    return read_access(*(Path(path).expanduser() if path else default_folder() / name for path, name in given))


def own_names() -> tuple[str, ...]:
    """Return the names and addresses by which this and other devices know this machine."""
    host = socket.gethostname()
    return ("localhost", host, f"{host}.local", "127.0.0.1", "::1", own_address())


def own_address() -> str:
    """Return the address by which the network knows this machine, 127.0.0.1 where there is no network."""
    for family, there in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        # Nothing is sent: the system only chooses the address that it would send from.
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((there, 9))
                return str(probe.getsockname()[0])
            except OSError:
                continue
    return "127.0.0.1"


def _check_installed() -> None:
    if find_spec("cryptography") is None:
        raise ConfigError(
            "certificates need a package that is not installed: cryptography",
            code="not_installed",
            hint="Install it: pip install 'crossglg-edge[web]'",
        )


def _check_secret(path: Path) -> None:
    """Refuse a file that others may read."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise _no_access(path) from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", code="bad_access") from error
    if mode & 0o077:
        raise ConfigError(
            f"{path} can be read by others than its owner", code="bad_access", hint=f"Run: chmod 600 {path}"
        )


def _no_access(path: Path) -> ConfigError:
    return ConfigError(
        f"the page is to be reached from other devices, but {path} is not there", code="no_access", hint=SETUP_HINT
    )


def _existing_token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""
    path.chmod(0o600)
    return token if len(_plain(token)) >= _MIN_TOKEN else ""


def _write_secret(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_bytes(content)


def _certified_names(path: Path) -> tuple[str, ...]:
    """Return the names of the certificate that is there; none where it has expired or is no certificate."""
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (FileNotFoundError, ValueError, x509.ExtensionNotFound):
        return ()
    if certificate.not_valid_after_utc <= datetime.datetime.now(datetime.UTC):
        return ()
    return tuple(str(name.value) for name in names)


def _self_signed(names: tuple[str, ...]) -> tuple[bytes, bytes]:
    """Return a new certificate for these names, and its key, both as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "crossglg-edge")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A device whose clock is late takes it too.
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_VALID_DAYS - 1))
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem), private


def _general_name(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
