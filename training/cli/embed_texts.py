"""The offline command `crossglg-edge embed-texts`: from texts to what training reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def embed_texts(
    llm: Annotated[
        str,
        typer.Argument(metavar="LLM", help="A language model whose texts ship with the program, or a folder of texts."),
    ],
    text_encoder: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="The folder of a model that transformers reads. Default: all-MiniLM-L6-v2."
        ),
    ] = None,
) -> None:
    """Derive key joints and embeddings from texts, and store both beside them. Needs the extra `text`.

    The command prints the body parts that each action names, and how many joints those are. It downloads nothing.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress
    from rich.table import Table

    from training.texts import write_key_joints, write_text_features

    found = write_key_joints(llm)
    table = Table(title="Key joints, K")
    for column in ("action", "joints", "body parts"):
        table.add_column(column, justify="right" if column == "joints" else "left", overflow="fold")
    for action, key in found.items():
        table.add_row(escape(action), f"{len(key.joints)}", escape(", ".join(key.parts)) or "none: no guidance")
    Console().print(table)
    console = Console(stderr=True)
    with Progress(console=console) as progress:
        task = progress.add_task("embedding", total=None)
        path = write_text_features(
            llm, text_encoder, lambda done, total: progress.update(task, completed=done, total=total)
        )
    console.print(f"{escape(str(path))}: {path.stat().st_size / 1e3:,.0f} kB", soft_wrap=not console.is_terminal)
