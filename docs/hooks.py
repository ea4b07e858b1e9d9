"""Let pages link to the repository's other files: what they name is part of the site, at the same place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

_ROOT = Path(__file__).parents[1]
# The pages link to these as a reader of the repository would: ../benchmarks/results/NAME.md.
_SHOWN = ("benchmarks/results/*", "examples/*", "edge/bundles/default/MODEL_CARD.md", "*.md")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the repository's files that pages link to."""
    for pattern in _SHOWN:
        for path in sorted(_ROOT.glob(pattern)):
            name = path.relative_to(_ROOT).as_posix()
            if path.is_file() and name != "README.md":
                file = File.generated(config, name, abs_src_path=str(path))
                file.inclusion = file.inclusion.NOT_IN_NAV
                files.append(file)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links from the repository's folders into links of the site, where docs/ is the root."""
    markdown = markdown.replace("](../docs/", "](../").replace("](docs/", "](").replace("](README.md", "](index.md")
    return re.sub(r"\]\(\.\./(?=[\w/.-]+)", "](", markdown) if "/" not in page.file.src_uri else markdown
