"""The offline command on texts: `crossglg-edge describe`."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from streams.errors import CrossGLGError, DescriptionError, LlmError


class Style(StrEnum):
    """Name what to ask for."""

    PLAIN = "plain"
    CONTRASTIVE = "contrastive"


def describe(
    llm: Annotated[
        str, typer.Option(metavar="URL", help="An OpenAI-compatible server, such as http://localhost:8080/v1.")
    ],
    model: Annotated[str, typer.Option(metavar="NAME", help="The model's name on that server.")],
    actions: Annotated[list[str] | None, typer.Argument(metavar="ACTION", help="The names of actions.")] = None,
    actions_of: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Add the actions of an archive (.npz), or of a text file with one action per line."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Write the texts to DIR/<model>/.")] = Path("descriptions"),
    layout: Annotated[str, typer.Option(help="Describe the joints of this layout.")] = "kinect25",
    style: Annotated[
        Style,
        typer.Option(
            help="Ask how each joint moves, or how that differs from actions that look alike "
            "(written to DIR/<model>-contrastive/)."
        ),
    ] = Style.PLAIN,
    timeout: Annotated[float, typer.Option(min=1.0, help="Wait this many seconds for one answer.")] = 600.0,
) -> None:
    """Let a language model describe actions and their joints. Needs the extra `text`.

    If you run it again, it continues where it stopped. It reads the API key from OPENAI_API_KEY.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from streams.layouts import layout_by_name
    from training.texts import Chat, describe_actions, slug

    named = [*(actions or ()), *(name for path in actions_of or () for name in _actions_of(path))]
    wanted = list(dict.fromkeys(named))
    if not wanted:
        raise DescriptionError("no action is named", code="bad_name", hint="Name some, or a file with --actions-of.")
    suffix = "" if style is Style.PLAIN else f"-{style.value}"
    folder, console, num_retries = out / f"{slug(model)}{suffix}", Console(stderr=True), 0
    try:
        chat = Chat(llm, model, api_key=os.environ.get("OPENAI_API_KEY", "").strip(), timeout_s=timeout)
    except ImportError as missing:
        raise CrossGLGError(
            f"describing needs a package that is not installed: {missing.name}",
            code="not_installed",
            hint="Install it with `pip install 'crossglg-edge[text]'`.",
        ) from missing
    columns = TextColumn("describing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    try:
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("", total=len(wanted))

            def on_retry(action: str, reason: str) -> None:
                nonlocal num_retries
                num_retries += 1
                progress.console.print(
                    f"{escape(action)}: asking again: {escape(reason)}", soft_wrap=not console.is_terminal
                )

            failed = describe_actions(
                wanted, chat, folder, layout_by_name(layout),
                date=datetime.now(UTC).date().isoformat(),
                style=style.value,
                on_progress=lambda done: progress.advance(task, done),
                on_retry=on_retry,
            )  # fmt: skip
    finally:
        chat.close()
    num_there = len(wanted) - len(failed)
    console.print(f"{num_there} of {len(wanted)} actions described in {folder}, asked again {num_retries} times")
    if failed:
        raise LlmError(
            "; ".join(f"{action}: {reason}" for action, reason in failed.items()),
            code="bad_answer",
            hint="Run it again to ask for these only, or take a larger model.",
        )


def _actions_of(path: Path) -> list[str]:
    from streams.archive import read_archive

    if path.suffix == ".npz":
        return sorted(set(read_archive(path).actions))
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DescriptionError(f"{path} cannot be read as text: {error}", hint="Give one action a line.") from error
    return [line.strip() for line in lines if line.strip()]
