"""Makes the README fit to be shown outside the repository, as on a package index."""

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_PICTURE = re.compile(r'<picture>.*?alt="([^"]*)".*?</picture>|!\[([^\]]*)\]\([^)]*\)', re.DOTALL)
_SOURCE = re.compile(r'((?:src|srcset)="|!\[[^\]]*\]\()(?!https?:)')
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)]+)\)")


class ReadmeHook(MetadataHookInterface):
    """Adds the README, and where the project is if that is known."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set what `pyproject.toml` declares as dynamic.

        Args:
            metadata: the project's metadata, changed in place.
        """
        repository = os.environ.get("REPOSITORY_URL") or self.config["repository"]
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        text = absolute(text, repository) if repository else unlinked(text)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        metadata["urls"] = {"Nextmv": "https://www.nextmv.io"}
        if repository:
            metadata["urls"] |= {
                "Source": repository,
                "Changelog": f"{repository}/blob/HEAD/CHANGELOG.md",
            }


def absolute(text: str, repository: str) -> str:
    """Make relative links lead into the repository.

    Args:
        text: Markdown.
        repository: its address.

    Returns:
        The text with absolute links.
    """
    text = _SOURCE.sub(rf"\1{repository}/raw/HEAD/", text)
    return _LINK.sub(rf"[\1]({repository}/blob/HEAD/\2)", text)


def unlinked(text: str) -> str:
    """Replace relative links by their texts, and pictures by their descriptions.

    Args:
        text: Markdown.

    Returns:
        The text with no link that would lead nowhere.
    """
    return _LINK.sub(r"\1", _PICTURE.sub(r"\1\2", text))
