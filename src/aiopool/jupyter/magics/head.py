"""Reads the head of a cell, what stands behind ``%%aiopool``, and says what is wrong with it and where."""

from __future__ import annotations

import keyword
import unicodedata
from dataclasses import dataclass, field

from aiopool.jupyter.magics.clause import read_clause
from aiopool.jupyter.magics.flags import OPTIONS, OWN, SWITCHES, WORDS, example_of, instead_of, written
from aiopool.jupyter.magics.heads import Flag, Head, HeadError
from aiopool.jupyter.magics.parts import Part, is_sign, is_word, shown
from aiopool.jupyter.magics.pieces import Piece, cut

__all__ = ["Flag", "Head", "HeadError", "read_head"]

MAGIC = "%%aiopool"


def read_head(line: str, *, at: int = 0) -> Head:
    """What the head of a cell says. ``line`` is what stands behind ``%%aiopool``, ``at`` how many characters before it.

    ::

        read_head(" i, url in enumerate(urls) -> pages --timeout 10 --bg", at=9)

    Raises :class:`HeadError`, a SyntaxError that points into the line, for what cannot be read; and nothing else.
    """
    line = MAGIC.rjust(at)[:at] + line.rstrip("\r\n")
    for end in "\r\n":
        if end in line:
            where = line.index(end)
            raise HeadError.at(line, where, where, "the head of a cell is one line: write all of it there")
    return _Reader(line).read(_parts(line, cut(line, at)))


def _parts(line: str, pieces: list[Piece]) -> list[Part]:
    """The clause, which no flag or arrow opens, then what each flag and each arrow opens."""
    parts = [Part(line, None, [])]
    for piece in pieces:
        if piece.kind in ("flag", "arrow"):
            parts.append(Part(line, piece, []))
        else:
            parts[-1].pieces.append(piece)
    return parts


@dataclass
class _Reader:
    """Puts a head together, part by part."""

    line: str
    into: str = ""
    flags: list[Flag] = field(default_factory=list)
    seen: dict[str, Piece] = field(default_factory=dict)

    def read(self, parts: list[Part]) -> Head:
        clause = read_clause(parts[0])
        for part in parts[1:]:
            opener = part.opener
            if opener is not None and opener.kind == "arrow":
                self.arrow(part, opener)
            elif opener is not None:
                self.flag(part, opener)
        self.agree(bool(clause.target))
        return Head(
            target=clause.target,
            target_column=clause.target_column,
            source=clause.source,
            source_column=clause.source_column,
            into=self.into,
            flags=tuple(self.flags),
            background="bg" in self.seen,
            everywhere="all" in self.seen,
            help="help" in self.seen,
            line=self.line,
        )

    def agree(self, mapped: bool) -> None:  # noqa: FBT001 - of a clause that is there or not
        """``--all`` has neither input nor options."""
        everywhere = self.seen.get("all")
        if everywhere is None:
            return
        if mapped:
            raise HeadError.at(
                self.line,
                everywhere.start,
                everywhere.end,
                "--all runs the body once on every worker and takes no input: leave out one of the two",
            )
        for flag in self.flags:
            opener = self.seen[flag.name]
            message = f"{opener.text} is for a map: --all runs the body once on every worker, and takes no such flag"
            raise HeadError.at(self.line, opener.start, opener.end, message)

    def once(self, name: str, opener: Piece) -> None:
        if name in self.seen:
            message = f"{opener.text} stands here twice: leave out one of them"
            if self.seen[name].text != opener.text:
                message = f"{opener.text} contradicts or repeats {self.seen[name].text}: leave out one of them"
            raise HeadError.at(self.line, opener.start, opener.end, message)
        self.seen[name] = opener

    def arrow(self, part: Part, opener: Piece) -> None:
        """``-> name``."""
        part.refuse_colon()
        part.refuse_single_dash(at_start=False)
        if "->" in self.seen:
            raise part.error("two arrows: the results get one name", opener)
        self.seen["->"] = opener
        if not part.pieces:
            raise part.error("no name stands behind ->: write -> pages", opener)
        first = part.pieces[0]
        if first.kind != "word":
            raise part.error(f"{shown(part.text)} is no name: behind -> stands the name that the results get, -> pages")
        # As Python does with every name.
        name = unicodedata.normalize("NFKC", first.text)
        if keyword.iskeyword(name) or name == "__debug__":
            raise part.error(f"{first.text} is a word of Python's own and no name: choose another one", first)
        if len(part.pieces) > 1:
            raise self.behind_name(part, first)
        self.into = name

    def behind_name(self, part: Part, first: Piece) -> HeadError:
        second = part.pieces[1]
        part.of(part.pieces[1:]).refuse_equals()
        if is_sign(second, ","):
            return part.error(f"one name stands behind ->: take {first.text}, and unpack it in the next cell")
        if second.kind == "word":
            hint = part.option_hint(second) or "a flag begins with --, and the input stands before the arrow"
            return part.error(f"{second.text} cannot stand behind -> {first.text}: {hint}", second)
        if self.line.startswith("--", second.start):
            return part.error("a flag needs a space before it", second)
        return part.error(f"{shown(part.text)} is no name: behind -> stands the name that the results get, -> pages")

    def flag(self, part: Part, opener: Piece) -> None:
        """``--name``, ``--name value``, ``--name=value``, ``--no-name``."""
        part.refuse_colon()
        given = part.value()
        name = opener.text.removeprefix("--").replace("-", "_")
        off = name.removeprefix("no_") if name.startswith("no_") else ""
        if name in OPTIONS:
            self.once(name, opener)
            self.flags.append(self.option(name, part, given, opener))
        elif name in OWN:
            self.bare(part, given, opener)
            self.once(name, opener)
        elif off in SWITCHES:
            self.bare(part, given, opener)
            self.once(off, opener)
            self.flags.append(Flag(off, "False", opener.start, opener.start))
        elif off in OPTIONS:
            example = f"{written(off)} {example_of(off)}"
            raise part.error(f"{opener.text} cannot be said: leave it out, or give a value, {example}", opener)
        elif off in OWN:
            raise part.error(f"{opener.text} cannot be said: leave it out", opener)
        else:
            hint = instead_of(name, given.text if given.pieces else None)
            raise part.error(f"there is no flag {opener.text}: {hint}", opener)

    def bare(self, part: Part, given: Part, opener: Piece) -> None:
        """A flag that takes no value."""
        given.refuse_single_dash(at_start=True)
        if not part.pieces:
            return
        hint = "leave it out"
        if any(is_word(piece, "in") for piece in given.pieces):
            hint = f"the input stands before all flags: {shown(given.text)} {opener.text}"
        elif len(given.pieces) == 1 and given.pieces[0].kind == "word" and not keyword.iskeyword(given.text):
            hint = f"leave {given.text} out, or write -> {given.text} if the results get that name"
        raise part.error(f"{opener.text} takes no value: {hint}", *(given.pieces or part.pieces))

    def option(self, name: str, part: Part, given: Part, opener: Piece) -> Flag:
        if not given.pieces:
            if name in SWITCHES and not part.pieces:
                return Flag(name, None, opener.start, opener.start)
            message = f"{opener.text} needs a value: {written(name)} {example_of(name)}"
            raise part.error(message, opener)
        text, start = given.text, given.start
        if text not in WORDS.get(name, ()) and given.pieces[0].kind != "prose":
            given.refuse_single_dash(at_start=False)
            given.read_value(opener.text, several=name == "retry_on")
        return Flag(name, text, opener.start, start)
