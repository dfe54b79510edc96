"""Sanitize text from a server for logs and errors: one line, short, and without secrets."""

import html
import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from urllib.parse import unquote

REDACTED = "<redacted>"
_SHORTEST_CORE = 4
_LONGEST = 4096
"""Characters of a text that are looked at, beyond the length of a secret; it is shown in part."""
_LONGEST_ESCAPE = 9
"""Characters that may stand for one: `%E2%82%AC`."""

_Span = tuple[int, int]


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
        self._longest = _LONGEST_ESCAPE * len(longest_first[0])
        self._pattern = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)

    def hide(self, text: str) -> str:
        """Return a text without the secrets.

        Args:
            text: the text, in full: a part of a secret is not recognized.

        Returns:
            The text, with `REDACTED` in place of each secret.
        """
        read = {text: [(index, index + 1) for index in range(len(text))]}
        for _ in range(2):  # an escape may be inside another, as of JSON in HTML
            for (known, places), (escape, meaning) in product([*read.items()], _ESCAPES):
                plain, spans = _unescaped(known, places, escape, meaning)
                read.setdefault(plain, spans)
        found = [
            (places[match.start()][0], places[match.end() - 1][1])
            for plain, places in read.items()
            for match in self._pattern.finditer(plain)
        ]
        shown, end = [], 0
        for start, stop in sorted(found):
            if start >= end:
                shown += [text[end:start], REDACTED]
            end = max(end, stop)
        return "".join([*shown, text[end:]])

    def clean(self, text: str, length: int, *, cut: bool = False) -> str:
        """Return a text as a short printable line, without the secrets.

        Args:
            text: the text; only its start is read.
            length: most characters kept.
            cut: whether the text may end in the middle of a secret.

        Returns:
            The line.
        """
        most = _LONGEST + self._longest
        cut = cut or len(text) > most
        text = self.hide(text[:most])
        if cut:
            text = text[: -self._longest]
        printable = "".join(c if c.isprintable() else " " for c in text)
        return " ".join(printable.split())[:length]


def _from_backslashes(escape: str) -> str:
    """Return what an escape of JSON or of a string in Python or JavaScript stands for."""
    if len(escape) == 2:
        return escape[1]
    return str(json.loads('"' + escape.lower().replace("\\x", "\\u00") + '"'))


_ESCAPES: Sequence[tuple[re.Pattern[str], Callable[[str], str]]] = (
    (re.compile(r"&#?\w{1,31};"), html.unescape),
    (re.compile(r"(?i)(?:\\u[0-9a-f]{4})+|\\x[0-9a-f]{2}|\\[^ux]"), _from_backslashes),
    (re.compile(r"(?i)(?:%[0-9a-f]{2})+"), unquote),
)
"""What stands for characters in HTML, in JSON and programs, and in URLs, and how it is read."""


def _unescaped(
    text: str, places: Sequence[_Span], escape: re.Pattern[str], meaning: Callable[[str], str]
) -> tuple[str, list[_Span]]:
    """Replace one kind of escapes by what they stand for.

    Args:
        text: the text.
        places: where each of its characters is in the original text.
        escape: matches one or several escapes.
        meaning: returns what these stand for.

    Returns:
        The text without them, and where each of its characters is in the original text.
    """
    parts: list[str] = []
    spans: list[_Span] = []
    end = 0
    for match in escape.finditer(text):
        plain = meaning(match[0])
        parts += [text[end : match.start()], plain]
        spans += places[end : match.start()]
        spans += [(places[match.start()][0], places[match.end() - 1][1])] * len(plain)
        end = match.end()
    return "".join([*parts, text[end:]]), [*spans, *places[end:]]


def _forms(secret: str) -> Iterator[str]:
    # A secret that is not ASCII may be echoed in one encoding and read in another.
    for sent, read in product(("utf-8", "latin-1"), repeat=2):
        yield secret.encode(sent, "replace").decode(read, "replace")
        yield from _base64_forms(secret.encode(sent, "replace"))


def _base64_forms(secret: bytes) -> Iterator[str]:
    """Yield a secret in base64, which differs with its alignment, as after "Bearer ".

    For each of the three alignments, these are the characters that do not depend on the text
    around the secret.
    """
    for before, start in enumerate((0, 2, 3)):
        text = bytes(before) + secret
        known = slice(start, len(text) * 8 // 6)
        for encode in (b64encode, urlsafe_b64encode):
            core = encode(text).decode()[known]
            if len(core) >= _SHORTEST_CORE:
                yield core
