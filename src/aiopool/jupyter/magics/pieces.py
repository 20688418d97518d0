"""Cuts the head of a cell into pieces at its outermost level: words, strings, whole brackets, arrows, flags.

Python's own ``tokenize`` would do, but for two things: it tells other stories about f-strings and about what is never
closed in 3.11 and in 3.12, and it knows neither flags nor a title without quotes.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from aiopool.jupyter.magics.heads import HeadError

__all__ = ["PROSE", "Kind", "Piece", "cut", "is_quoted"]

Kind = Literal["word", "number", "string", "brackets", "sign", "flag", "arrow", "prose"]

PROSE = ("desc",)
"""Flags whose value is a title: everything up to the next flag, unless it begins with a quote."""

_CLOSING = {"(": ")", "[": "]", "{": "}"}
_BLANK = " \t\f"
_QUOTED = re.compile(r"(?P<prefix>[rR][bBfF]?|[bBfF][rR]?|[uU])?(?P<quote>'''|\"\"\"|'|\")")
_FLAG = re.compile(r"--(?P<name>[^\W\d]\w*(?:-\w+)*)")
_NUMBER = re.compile(r"\.?\d(?:[eE][+-]?(?=\d)|[\w.])*")
_EQUALS = re.compile(r"[ \t\f]*=?[ \t\f]*")
_SIGN = re.compile(r":=|==|!=|<=|>=|<<|>>|\*\*|//|.")
_END_OF_PROSE = re.compile(r"(?<![^ \t\f])--(?=[^\W\d])|->|(?<![^ \t\f])#|$")

_LOOKALIKES = {
    "\N{EM DASH}": "a flag begins with two minus signs: --",
    "\N{EN DASH}": "a flag begins with two minus signs: --",
    "\N{MINUS SIGN}": "write the - of the keyboard",
    "\N{RIGHTWARDS ARROW}": "write ->",
    "\N{RIGHTWARDS DOUBLE ARROW}": "write ->",
    "\N{LEFT DOUBLE QUOTATION MARK}": 'write "',
    "\N{RIGHT DOUBLE QUOTATION MARK}": 'write "',
    "\N{DOUBLE LOW-9 QUOTATION MARK}": 'write "',
    "\N{LEFT SINGLE QUOTATION MARK}": "write '",
    "\N{RIGHT SINGLE QUOTATION MARK}": "write '",
}


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the line that is whole: ``line[start:end]``."""

    kind: Kind
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Open:
    """A bracket, or a level of an f-string, that still has to be closed."""

    level: Literal["bracket", "string", "field", "spec"]
    start: int
    closing: str


def cut(line: str, at: int) -> list[Piece]:
    """The pieces of ``line[at:]``, without blanks and comments. Raises :class:`HeadError` for what is never closed."""
    return _Scanner(line, at).scan()


def is_quoted(text: str) -> bool:
    """Whether this begins as a string literal does."""
    return _QUOTED.match(text) is not None


class _Scanner:
    """Walks over the line once. What is open is kept as a list, so that no nesting is too deep."""

    def __init__(self, line: str, at: int) -> None:
        self.line = line
        self.first = self.here = at
        self.pieces: list[Piece] = []
        self.open: list[_Open] = []

    def scan(self) -> list[Piece]:
        while self.here < len(self.line):
            if self.open and self.open[-1].level in ("string", "spec"):
                self.in_string()
            else:
                self.in_code()
        for level in reversed(self.open):
            if level.level == "string":
                raise self.unclosed_string(level.start)
            if level.level == "bracket":
                opening = self.line[level.start]
                message = (
                    f"{opening} is never closed: write its {level.closing}; the head is one line, so what is long "
                    "gets a name in a cell above"
                )
                raise self.error(level.start, level.start + 1, message)
        return self.pieces

    def error(self, start: int, end: int, message: str) -> HeadError:
        return HeadError.at(self.line, start, end, message)

    def unclosed_string(self, start: int) -> HeadError:
        quoted = _QUOTED.match(self.line, start)
        quote = quoted["quote"] if quoted else '"'
        return self.error(
            start, len(self.line), f"this string is never closed: write its {quote}; the head is one line"
        )

    def take(self, kind: Kind, start: int, end: int) -> None:
        """Go on at ``end``. Inside of brackets and strings nothing is a piece of its own."""
        if not self.open:
            self.pieces.append(Piece(kind, self.line[start:end], start, end))
        self.here = end

    def in_string(self) -> None:
        """One step in an f-string, outside of its fields, or in the format of a field."""
        here, top = self.here, self.open[-1]
        char = self.line[here]
        string = next(level for level in reversed(self.open) if level.level == "string")
        if char == "\\":
            # A backslash takes a quote's meaning away, even in a raw string, but no brace's.
            self.here += 1 if self.line[here + 1 : here + 2] in ("{", "}") else 2
        elif self.line.startswith(string.closing, here):
            # In a format it is an error, which Python reports; here the string is over.
            del self.open[self.open.index(string) :]
            self.take("string", string.start, here + len(string.closing))
        elif top.level == "string" and self.line.startswith("{{", here):
            self.here += 2
        elif char == "{":
            self.open.append(_Open("field", here, "}"))
            self.here += 1
        elif char == "}" and top.level == "spec":
            del self.open[-2:]
            self.here += 1
        else:
            self.here += 1

    def in_code(self) -> None:
        """One step outside of strings."""
        here = self.here
        char = self.line[here]
        if char in _BLANK:
            self.here += 1
        elif char == "#":
            self.here = len(self.line)
        elif quoted := _QUOTED.match(self.line, here):
            self.string(quoted)
        elif char in _CLOSING:
            self.open.append(_Open("bracket", here, _CLOSING[char]))
            self.here += 1
        elif char in ")]}":
            self.close(char)
        elif char == ":" and self.open and self.open[-1].level == "field":
            self.open.append(_Open("spec", here, "}"))
            self.here += 1
        elif not self.open and char in "-=":
            self.dash()
        else:
            self.plain(char)

    def string(self, quoted: re.Match[str]) -> None:
        quote, start, end = quoted["quote"], quoted.start(), quoted.end()
        if "f" in (quoted["prefix"] or "").lower():
            self.open.append(_Open("string", start, quote))
            self.here = end
        elif closed := re.compile(rf"(?:\\.|(?!{quote}).)*{quote}").match(self.line, end):
            self.take("string", start, closed.end())
        else:
            raise self.unclosed_string(start)

    def close(self, char: str) -> None:
        here = self.here
        top = self.open[-1] if self.open else None
        if top is None:
            raise self.error(here, here + 1, f"{char} closes nothing: take it away, or open it before")
        if top.closing != char:
            opening = self.line[top.start]
            raise self.error(here, here + 1, f"{char} does not close the {opening} before it: write {top.closing}")
        self.open.pop()
        self.take("brackets", top.start, here + 1)

    def dash(self) -> None:
        """A minus or equals sign at the outermost level: it may begin an arrow or a flag."""
        line, here = self.line, self.here
        if line.startswith("->", here):
            self.take("arrow", here, here + 2)
        elif line.startswith("=>", here):
            raise self.error(here, here + 2, "the arrow is written ->")
        elif not line.startswith("--", here) or not (here == self.first or line[here - 1] in _BLANK):
            self.plain(line[here])
        elif flag := _FLAG.match(line, here):
            self.take("flag", here, flag.end())
            if flag["name"].replace("-", "_") in PROSE:
                self.prose()
        elif line.startswith("-->", here):
            raise self.error(here, here + 3, "the arrow is written ->, with one minus sign")
        elif line.startswith("---", here):
            raise self.error(here, here + 3, "a flag begins with two minus signs: --timeout 10")
        elif line[here + 2 : here + 3] in ("", *_BLANK, "="):
            message = "no flag's name stands right behind --: a flag is written --timeout 10"
            raise self.error(here, here + 2, message)
        else:
            self.plain("-")

    def prose(self) -> None:
        """A title without quotes."""
        equals = _EQUALS.match(self.line, self.here)
        start = self.here if equals is None else equals.end()
        found = _END_OF_PROSE.search(self.line, start)
        end = len(self.line) if found is None else found.start()
        text = self.line[start:end].rstrip(_BLANK)
        if text and not is_quoted(text):
            self.take("prose", start, start + len(text))

    def plain(self, char: str) -> None:
        """A word, a number or a sign."""
        line, here = self.line, self.here
        if char.isidentifier():
            end = here + 1
            while end < len(line) and ("a" + line[end]).isidentifier():
                end += 1
            self.take("word", here, end)
        elif number := _NUMBER.match(line, here):
            self.take("number", here, number.end())
        elif char in _LOOKALIKES:
            name = unicodedata.name(char).lower()
            raise self.error(here, here + 1, f"{char} ({name}) is no sign of Python: {_LOOKALIKES[char]}")
        elif not char.isprintable():
            name = unicodedata.name(char, "no character that can be seen").lower()
            raise self.error(here, here + 1, f"U+{ord(char):04X} ({name}) stands here: write a space, or take it away")
        elif char == "\\":
            raise self.error(here, here + 1, "the head of a cell is one line: take \\ away and write all of it here")
        else:
            sign = _SIGN.match(line, here)
            self.take("sign", here, here + 1 if sign is None else sign.end())
