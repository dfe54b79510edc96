"""Texts from the other end, made fit for a log: one line, short, and without the key."""

import html
import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from urllib.parse import quote

REDACTED = "<redacted>"
_SHORTEST_CORE = 4


class Redactor:
    r"""Takes a key out of texts, in the forms in which a server may echo it.

    Args:
        api_key: the key.

    Example:
        >>> Redactor("nx/1").clean("got\tnx/1 and nx%2f1", 80)
        'got <redacted> and <redacted>'
    """

    def __init__(self, api_key: str) -> None:
        longest_first = sorted(set(_forms(api_key)), key=len, reverse=True)
        self._longest = len(longest_first[0])
        self._pattern = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)

    def hide(self, text: str) -> str:
        """Take the key out.

        Args:
            text: the text, in full: a part of the key is not known as such.

        Returns:
            The text, with the key replaced.
        """
        return self._pattern.sub(REDACTED, text)

    def clean(self, text: str, length: int, *, cut: bool = False) -> str:
        """Make a short printable line.

        Args:
            text: the text.
            length: most characters kept.
            cut: whether the text may end in the middle of the key.

        Returns:
            The line, without the key.
        """
        text = self.hide(text)
        if cut:
            text = text[: -self._longest]
        printable = "".join(c if c.isprintable() else " " for c in text)
        return " ".join(printable.split())[:length]


def _forms(api_key: str) -> Iterator[str]:
    yield api_key
    yield quote(api_key, safe="")
    yield quote(api_key)
    yield html.escape(api_key)
    yield repr(api_key)[1:-1]
    yield json.dumps(api_key)[1:-1]
    yield json.dumps(api_key)[1:-1].replace("/", "\\/")
    # In base64, a text looks different by where it begins, as after "Bearer ": of each of the
    # three ways, the characters that depend on nothing around the key.
    for before in range(3):
        key = bytes(before) + api_key.encode()
        known = slice(-(-before * 8 // 6), len(key) * 8 // 6)
        for encode in (b64encode, urlsafe_b64encode):
            core = encode(key).decode()[known]
            if len(core) >= _SHORTEST_CORE:
                yield core
