"""Ask a language model for descriptions, on any server that speaks OpenAI's chat completions."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from streams.errors import DescriptionError, LlmError
from streams.layouts import Layout
from training.texts.describe import (
    KEY_JOINTS,
    ORIGIN,
    Description,
    Origin,
    Style,
    both_prompts,
    check_slugs,
    faults,
    prompt_version,
    read_file,
    read_origin,
    slug,
    write_description,
    write_origin,
)
from training.texts.repeats import Sentences

if TYPE_CHECKING:
    import httpx2

ATTEMPTS = 5
_CONNECT_S, _LONGEST_PAUSE_S = 10.0, 60.0

Notice = Callable[[str, str], None]
Message = dict[str, str]


class _Again(Exception):
    """Ask once more: the server failed, or (`answer`) answered what cannot be used."""

    def __init__(self, reason: str, *, pause_s: float = 0.0, answer: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.pause_s, self.answer = reason, pause_s, answer


class _Reply(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _Reply
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]


class _Answer(msgspec.Struct):
    global_text: str = msgspec.field(name="global")
    joints: dict[str, str]


class Chat:
    """Hold the connection to one model; remember whether its server takes a JSON schema."""

    def __init__(self, url: str, model: str, *, api_key: str = "", timeout_s: float = 600.0) -> None:
        # Not with the module: without the extra `text` the command line still names its commands.
        import httpx2

        try:
            self.url = httpx2.URL(url.strip().rstrip("/").removesuffix("/chat/completions") + "/chat/completions")
        except httpx2.InvalidURL as error:
            raise LlmError(f"URL {url!r}: {error}", code="bad_url") from error
        if self.url.scheme not in ("http", "https") or not self.url.host:
            raise LlmError(f"URL {url!r}: expected one such as http://localhost:8080/v1", code="bad_url")
        if not (api_key.isascii() and api_key.isprintable()):
            raise LlmError("the API key has characters that no key has", code="bad_key", hint="Set it anew.")
        self.model = model
        self._takes_schema = True
        self._timeout_s = timeout_s
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx2.Client(headers=headers, timeout=httpx2.Timeout(timeout_s, connect=_CONNECT_S))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def ask(self, messages: Sequence[Message], schema: dict[str, Any]) -> str:
        """Return the model's answer. Raises LlmError where asking again is no use, otherwise _Again."""
        import httpx2

        body: dict[str, Any] = {"model": self.model, "messages": list(messages)}
        if self._takes_schema:
            described = {"name": "description", "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": described}
        try:
            response = self._client.post(self.url, json=body)
        except httpx2.TimeoutException as error:
            limit_s = _CONNECT_S if isinstance(error, httpx2.ConnectTimeout) else self._timeout_s
            raise LlmError(
                f"{self._where} did not answer within {limit_s:g} s",
                code="llm_timeout",
                hint="Give a slow model more time with --timeout; finished actions are kept.",
            ) from error
        except httpx2.RequestError as error:
            raise _Again(f"{self._where} cannot be reached: {error}") from error
        if response.status_code == HTTPStatus.OK:
            return self._content(response)
        said = _said(response)
        if self._takes_schema and (response.status_code in (400, 422, 501) or "response_format" in said):
            self._takes_schema = False
            return self.ask(messages, schema)
        if response.status_code in (408, 409, 429) or response.status_code >= 500:
            raise _Again(f"{self._where}: {said}", pause_s=_retry_after_s(response))
        raise LlmError(f"{self._where}: {said}", code="llm_refused", hint=self._hint(response.status_code))

    @property
    def _where(self) -> str:
        return str(self.url.copy_with(userinfo=b"", query=None))

    def _content(self, response: httpx2.Response) -> str:
        try:
            choice = msgspec.json.decode(response.content, type=_Completion).choices[0]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, IndexError) as error:
            raise LlmError(
                f"{self._where} answered what is no chat completion: {response.text[:80]!r}",
                code="llm_refused",
                hint=self._hint(404),
            ) from error
        content = choice.message.content or ""
        if choice.finish_reason == "length":
            raise _Again("it was cut off, the server's limit of tokens is too low for it", answer=content[:200])
        if not content:
            raise _Again(f"it is empty {choice.message.refusal or ''}".rstrip(), answer="{}")
        return content

    def _hint(self, status: int) -> str:
        if status in (401, 403):
            return "Set the environment variable OPENAI_API_KEY to a key that this server takes."
        if status in (404, 405) or status < 400:
            return f"Check the URL, which for most servers ends in /v1, and that it has a model {self.model!r}."
        return ""


def describe_actions(
    actions: Sequence[str],
    chat: Chat,
    folder: Path,
    layout: Layout,
    *,
    date: str,
    style: Style = "plain",
    on_progress: Callable[[int], None],
    on_retry: Notice,
    pause_s: float = 1.0,
) -> dict[str, str]:
    """Ask for every action that has no valid file in `folder`; write each answer as soon as it is there.

    A text that repeats a sentence, its own or that of another action in `folder`, is not valid. Returns the actions
    whose answers could not be used, with the last reason. `on_progress` is told how many more are done, `on_retry` an
    action and why it is asked again. Raises LlmError, and, before anything is asked, DescriptionError.
    """
    check_slugs(actions)
    _claim(folder, chat, style, date)
    said, failed = _said_by_others(actions, folder), {}
    wanted = _without_file(actions, folder, layout, said, on_retry)
    on_progress(len(actions) - len(wanted))
    for action in wanted:
        try:
            text = _describe(action, chat, layout, said, on_retry, style=style, pause_s=pause_s)
            write_description(folder, text)
            said.add(text)
        except _Again as last:
            if last.answer is None:
                raise LlmError(
                    f"{last.reason} ({ATTEMPTS} attempts)",
                    code="llm_unreachable",
                    hint="Run the same command again when the server answers: finished actions are kept.",
                ) from last
            failed[action] = last.reason
        on_progress(1)
    return failed


def _claim(folder: Path, chat: Chat, style: Style, date: str) -> None:
    """Write ORIGIN.json, or check that the texts already there are of the same model and prompts."""
    server, prompt = chat.url.host, prompt_version(style)
    if (folder / ORIGIN).exists():
        origin = read_origin(folder)
        if (origin.model, origin.prompt) != (chat.model, prompt):
            raise DescriptionError(
                f"{folder} holds texts of model {origin.model!r} to prompts {origin.prompt}, "
                f"these would be of {chat.model!r} to {prompt} ({style})",
                code="other_origin",
                hint="Choose another folder with --out.",
            )
        servers = origin.server.split(", ")
        if server not in servers:
            write_origin(folder, msgspec.structs.replace(origin, server=", ".join([*servers, server])))
        return
    if any(folder.glob("*.json")):
        raise DescriptionError(
            f"{folder} holds texts, but no {ORIGIN} that says whose", hint="Choose another folder with --out."
        )
    how = "crossglg-edge describe: both prompts in one request an action, answers checked and kept as they came"
    write_origin(
        folder,
        Origin(llm=folder.name, model=chat.model, server=server, prompt=prompt, date=date, how=how),
    )


def _said_by_others(actions: Sequence[str], folder: Path) -> Sentences:
    """Return the sentences of all texts in `folder` but those of `actions`."""
    said, asked_for = Sentences(), {f"{slug(action)}.json" for action in actions}
    for path in sorted(folder.glob("*.json")):
        if path.name not in {ORIGIN, KEY_JOINTS, *asked_for}:
            # A damaged file that is not asked for is reported by whoever reads it.
            with suppress(DescriptionError):
                said.add(read_file(path))
    return said


def _without_file(actions: Sequence[str], folder: Path, layout: Layout, said: Sentences, on_retry: Notice) -> list[str]:
    """Return the actions to ask for, also those whose file is damaged or repeats what is said already.

    The sentences of the others join `said`. Raises DescriptionError.
    """
    wanted = []
    for action in actions:
        path = folder / f"{slug(action)}.json"
        try:
            text = read_file(path, action) if path.exists() else None
        except DescriptionError as error:
            if error.code == "same_file":
                raise
            on_retry(action, error.message)
            text = None
        if text is not None and text.layout != layout.name:
            raise DescriptionError(
                f"{path} has the joints of {text.layout}, these would be of {layout.name}",
                code="other_layout",
                hint="Choose another folder with --out.",
            )
        if text is not None and (repeats := said.repeats(text)):
            on_retry(action, f"{path}: {_first_of(repeats)}")
            text = None
        if text is None:
            wanted.append(action)
        else:
            said.add(text)
    return wanted


def _describe(
    action: str, chat: Chat, layout: Layout, said: Sentences, on_retry: Notice, *, style: Style, pause_s: float
) -> Description:
    messages = [{"role": "user", "content": both_prompts(action, layout.joints, style)}]
    for attempt in range(ATTEMPTS):
        try:
            answer = chat.ask(messages, _schema(layout))
            text = _description(answer, action, layout)
            if repeats := said.repeats(text):
                raise _Again(_first_of(repeats), answer=answer)
            return text
        except _Again as again:
            if attempt + 1 == ATTEMPTS:
                raise
            on_retry(action, again.reason)
            if again.answer is None:
                time.sleep(max(pause_s * 2**attempt, again.pause_s))
            else:
                complaint = f"This answer cannot be used: {again.reason}. Give the whole JSON object again."
                wrong = {"role": "assistant", "content": again.answer}
                messages = [messages[0], wrong, {"role": "user", "content": complaint}]
    raise AssertionError


def _schema(layout: Layout) -> dict[str, Any]:
    """Return the JSON schema of an answer, within what OpenAI's strict mode allows."""

    def record(properties: dict[str, Any]) -> dict[str, Any]:
        required = list(properties)
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    text = {"type": "string"}
    return record({"global": text, "joints": record(dict.fromkeys(layout.joints, text))})


def _description(answer: str, action: str, layout: Layout) -> Description:
    """Read an answer, also inside a code fence or after a model's thoughts. Raises _Again."""
    content = answer.rpartition("</think>")[2]
    content = content[content.find("{") : content.rfind("}") + 1]
    try:
        parsed = msgspec.json.decode(content, type=_Answer)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _Again(f"it is no JSON object of that form: {error}", answer=answer) from error
    # A model that wraps its lines means one sentence all the same.
    global_text = " ".join(parsed.global_text.split())
    joints = {joint: " ".join(text.split()) for joint, text in parsed.joints.items()}
    if found := faults(global_text, joints, layout.joints):
        raise _Again(_first_of(found), answer=answer)
    in_order = tuple(joints[joint] for joint in layout.joints)
    return Description(action=action, global_text=global_text, joints=in_order, layout=layout.name)


def _first_of(faults: Sequence[str]) -> str:
    more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
    return "; ".join(faults[:5]) + more


def _said(response: httpx2.Response) -> str:
    """Return status and message of a refusal, as a line."""
    try:
        message = response.json()["error"]["message"]
    except (ValueError, RecursionError, LookupError, TypeError):
        message = response.text
    shown = "".join(c if c.isprintable() else " " for c in str(message)[:300])
    return f"{response.status_code} {response.reason_phrase}: {' '.join(shown.split())}"


def _retry_after_s(response: httpx2.Response) -> float:
    seconds = response.headers.get("Retry-After", "")
    return min(float(seconds), _LONGEST_PAUSE_S) if seconds.isdecimal() else 0.0
