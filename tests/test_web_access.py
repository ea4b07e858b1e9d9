"""The page for other devices: by TLS alone, to who has shown the token; the files, the certificate and the cookie."""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

pytest.importorskip("aiohttp", reason="the page needs the extra `web`")
pytest.importorskip("cryptography", reason="certificates need the extra `web`")

from cryptography import x509

from edge.cli.exit_codes import ExitCode
from edge.web.access import Access, open_access, own_names, set_up_access
from edge.web.login import COOKIE
from streams.errors import ConfigError

if TYPE_CHECKING:
    from tests.conftest import MakeConfig, ServePage

_PATIENCE_S = 30
_SCRIPT = Path(sys.executable).with_name("crossglg-edge")
# Another address than the one that needs no login: as if another device asked.
_OTHER = "127.0.0.2"
# The page's address, what its server says, what lets others in, and what a device knows that has seen the certificate.
Others = tuple[str, Path, Access, ssl.SSLContext]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the user a data folder of their own; return where the access is kept."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path / "crossglg-edge" / "web-access"


# The files.


def test_token_and_key_are_for_their_owner_alone(folder: Path) -> None:
    shown = set_up_access()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {
        "certificate.pem": 0o600,
        "key.pem": 0o600,
        "token": 0o600,
    }
    assert re.fullmatch(r"([a-z2-9]{5}-){3}[a-z2-9]{5}", shown.token)
    access = open_access()
    assert access.is_token(shown.token)
    # As people type it.
    assert access.is_token(f" {shown.token.upper().replace('-', ' ')}\n")
    for wrong in ("", "-", shown.token[:-1], shown.token + "a", "ü" * 20, "\ud800"):
        assert not access.is_token(wrong)
        assert not access.is_cookie(wrong)


def test_what_is_set_up_stays_until_it_is_renewed(folder: Path) -> None:
    first = set_up_access()
    assert set_up_access() == first
    # A name that the certificate lacks makes a new one; whoever has logged in stays so.
    named = set_up_access(("box.example",))
    assert (named.host, named.token) == ("box.example", first.token)
    assert named.fingerprint != first.fingerprint
    assert set_up_access().fingerprint == named.fingerprint
    renewed = set_up_access(renew=True)
    assert renewed.token != first.token
    assert renewed.fingerprint != named.fingerprint


def test_the_certificate_names_this_machine_and_an_expired_one_is_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import edge.web.access

    monkeypatch.setattr(edge.web.access, "_VALID_DAYS", 0)
    expired = set_up_access(("box.example", "192.0.2.77"))
    monkeypatch.undo()
    monkeypatch.setenv("XDG_DATA_HOME", str(folder.parents[1]))
    now = set_up_access(("box.example", "192.0.2.77"))
    assert now.token == expired.token
    assert now.fingerprint != expired.fingerprint
    certificate = x509.load_pem_x509_certificate((folder / "certificate.pem").read_bytes())
    named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(name.value) for name in named} == {"box.example", "192.0.2.77", *own_names()}


@pytest.mark.parametrize("name", ["token", "key.pem"])
def test_a_secret_that_others_can_read_is_refused(folder: Path, name: str) -> None:
    set_up_access()
    (folder / name).chmod(0o640)
    with pytest.raises(ConfigError, match="can be read by others") as caught:
        open_access()
    assert f"chmod 600 {folder / name}" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("token", b"short\n", "bad_access"),
        ("token", None, "no_access"),
        ("key.pem", b"no key", "bad_access"),
        ("key.pem", None, "no_access"),
        ("certificate.pem", b"\xff\xfe", "bad_access"),
        ("certificate.pem", None, "no_access"),
    ],
)
def test_files_that_are_gone_or_damaged_are_refused_with_what_mends_them(
    folder: Path, name: str, content: bytes | None, code: str
) -> None:
    set_up_access()
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        open_access()
    assert caught.value.code == code
    assert "crossglg-edge setup web-access" in caught.value.hint


def test_a_key_of_another_certificate_is_refused(folder: Path) -> None:
    set_up_access()
    former = (folder / "key.pem").read_bytes()
    set_up_access(renew=True)
    (folder / "key.pem").write_bytes(former)
    with pytest.raises(ConfigError, match="no certificate and its key"):
        open_access()
    set_up_access(renew=True)
    assert open_access().token


# The server.


@pytest.fixture(scope="module")
def others(
    make_config: MakeConfig, serve_page: ServePage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Others]:
    """Set the access up and serve the page to other devices, which know its certificate."""
    with pytest.MonkeyPatch.context() as patch:
        data = tmp_path_factory.mktemp("data")
        patch.setenv("XDG_DATA_HOME", str(data))
        set_up_access((_OTHER,))
        trusting = ssl.create_default_context(cafile=str(data / "crossglg-edge" / "web-access" / "certificate.pem"))
        config = make_config()
        url = serve_page(config, "--host", _OTHER)
        yield url, config.with_name("web0.log"), open_access(), trusting


def send(
    others: Others, method: str = "GET", path: str = "/", body: str = "", cookie: str = ""
) -> tuple[http.client.HTTPResponse, str]:
    url, _, _, trusting = others
    parts = urlsplit(url)
    # It checks the certificate and that it names the address.
    connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=_PATIENCE_S, context=trusting)
    headers = {"Content-Type": "application/json"} | ({"Cookie": f"{COOKIE}={cookie}"} if cookie else {})
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response, response.read().decode()
    finally:
        connection.close()


def log_in(others: Others, token: str) -> http.client.HTTPResponse:
    return send(others, "POST", "/login", json.dumps({"token": token}))[0]


def test_without_a_token_and_a_certificate_nothing_is_served_to_others(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config()
    config.write_text(config.read_text(encoding="utf-8") + '[web]\nhost = "0.0.0.0"\n', encoding="utf-8")
    command = [str(_SCRIPT), "web", "--port", "0", "--config", str(config)]
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == ExitCode.REFUSED
    assert "no_access" in done.stderr
    assert "crossglg-edge setup web-access" in done.stderr


def test_who_has_not_logged_in_sees_the_login_page_and_nothing_else(others: Others) -> None:
    response, text = send(others)
    assert response.status == 401
    assert "Token" in text
    assert "default-src 'none'" in (response.getheader("Content-Security-Policy") or "")
    for path in ("/static/page.css", "/static/js/login.js"):
        assert send(others, path=path)[0].status == 200
    for method, path in (
        ("GET", "/static/js/main.js"), ("GET", "/static/js/../js/main.js"), ("GET", "/live"), ("POST", "/ask"),
        ("GET", "/camera/frames?name=x"), ("GET", "/camera/state"), ("GET", "/camera/model/pose_landmarker.task"),
        ("GET", "/nothing"), ("POST", "/"), ("GET", "//"), ("GET", "/login/../ask"),
    ):  # fmt: skip
        response, text = send(others, method, path, json.dumps({"cmd": "status"}))
        assert response.status in (401, 404), path
        assert "Token" not in text


def test_the_token_gives_a_cookie_that_opens_the_page(others: Others) -> None:
    _, log, access, _ = others
    response = log_in(others, access.token)
    assert response.status == 204
    cookie = response.getheader("Set-Cookie") or ""
    assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert "Domain" not in cookie
    value = cookie.partition("=")[2].partition(";")[0]
    assert access.token.replace("-", "") not in value
    assert send(others, path="/camera/state", cookie=value)[0].status == 200
    assert send(others, cookie=value)[0].status == 200
    for wrong in (value[:-1], "x", access.token):
        assert send(others, path="/camera/state", cookie=wrong)[0].status == 401
    assert access.token not in log.read_text(encoding="utf-8")


def test_a_page_at_every_address_tells_one_that_can_be_opened(
    others: Others, make_config: MakeConfig, serve_page: ServePage
) -> None:
    host = urlsplit(serve_page(make_config(), "--host", "0.0.0.0")).hostname
    assert host in own_names()
    assert host != "0.0.0.0"


def test_no_plain_http_is_answered(others: Others) -> None:
    parts = urlsplit(others[0])
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_PATIENCE_S)
    connection.request("GET", "/")
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        connection.getresponse()
    connection.close()


def test_guessing_is_slow_and_harms_nobody_who_is_in(others: Others) -> None:
    _, log, access, _ = others
    for body in ("", "[]", '{"token": 1}'):
        assert send(others, "POST", "/login", body)[0].status == 400
    statuses = [log_in(others, f"wrong-{number}").status for number in range(12)]
    assert statuses == [403] * 10 + [429] * 2
    # It is not even compared.
    assert log_in(others, access.token).status == 429
    assert send(others, path="/camera/state", cookie=access.cookie)[0].status == 200
    said = log.read_text(encoding="utf-8")
    assert "wrong token" in said
    assert "wrong-3" not in said
