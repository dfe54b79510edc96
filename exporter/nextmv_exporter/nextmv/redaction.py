"""Sanitize text from a server for logs and errors: one line, short, and without secrets."""

import html
import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from itertools import product
from urllib.parse import quote

REDACTED = "<redacted>"
_SHORTEST_CORE = 4


class Redactor:
    r"""Removes secrets from texts, in the forms in which a server may echo them.

    Args:
        secrets: such as the API key; at least one.

    Example:
        >>> Redactor("nx/1", "pw").clean("got\tnx/1, nx%2f1 and pw", 80)
        'got <redacted>, <redacted> and <redacted>'
    """

    def __init__(self, *secrets: str) -> None:
        forms = {form for secret in secrets for form in _forms(secret)}
        longest_first = sorted(forms, key=len, reverse=True)
        self._longest = len(longest_first[0])
        self._pattern = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)

    def hide(self, text: str) -> str:
        """Return a text without the secrets.

        Args:
            text: the text, in full: a part of a secret is not recognized.

        Returns:
            The text, with `REDACTED` in place of each secret.
        """
        return self._pattern.sub(REDACTED, text)

    def clean(self, text: str, length: int, *, cut: bool = False) -> str:
        """Return a text as a short printable line, without the secrets.

        Args:
            text: the text.
            length: most characters kept.
            cut: whether the text may end in the middle of a secret.

        Returns:
            The line.
        """
        text = self.hide(text)
        if cut:
            text = text[: -self._longest]
        printable = "".join(c if c.isprintable() else " " for c in text)
        return " ".join(printable.split())[:length]


def _forms(secret: str) -> Iterator[str]:
    # A secret that is not ASCII may be echoed in one encoding and read in another.
    for sent, read in product(("utf-8", "latin-1"), repeat=2):
        yield from _text_forms(secret.encode(sent, "replace").decode(read, "replace"))
        yield from _base64_forms(secret.encode(sent, "replace"))


def _text_forms(secret: str) -> Iterator[str]:
    yield secret
    yield quote(secret, safe="")
    yield quote(secret)
    yield html.escape(secret)
    yield repr(secret)[1:-1]
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret)[1:-1].replace("/", "\\/")


def _base64_forms(secret: bytes) -> Iterator[str]:
    """Yield a secret in base64, which differs with its alignment, as after "Bearer ".

    For each of the three alignments, these are the characters that do not depend on the text
    around the secret.
    """
    for before in range(3):
        text = bytes(before) + secret
        known = slice(-(-before * 8 // 6), len(text) * 8 // 6)
        for encode in (b64encode, urlsafe_b64encode):
            core = encode(text).decode()[known]
            if len(core) >= _SHORTEST_CORE:
                yield core
