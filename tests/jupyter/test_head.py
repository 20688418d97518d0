"""The head of a cell: every way to write it, and what is said of those that are none."""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.ultratb import SyntaxTB

from aiopool.jupyter.magics.flags import OPTIONS, SWITCHES, WORDS
from aiopool.jupyter.magics.head import Flag, Head, HeadError, read_head
from tests.jupyter.heads import ACCEPTED, REJECTED


def told(head: Head) -> str:
    """All that a head says, in one line."""
    parts = []
    if head.target or head.source:
        parts.append(f"{head.target}@{head.target_column} in {head.source}@{head.source_column}")
    if head.into:
        parts.append(f"-> {head.into}")
    for flag in head.flags:
        value = "" if flag.value is None else f"={flag.value}@{flag.value_column}"
        parts.append(f"{flag.name}@{flag.column}{value}")
    own = {"bg": head.background, "all": head.everywhere, "help": head.help}
    return " | ".join([*parts, *(name for name, there in own.items() if there)])


@pytest.mark.parametrize(
    ("line", "expected"), [pytest.param(line, " ".join(rest), id=line) for line, *rest in ACCEPTED]
)
def test_a_head_says_what_is_written_there(line: str, expected: str) -> None:
    """Target, input, name, flags and their places, in all versions of Python the same."""
    assert told(read_head(line)) == expected


@pytest.mark.parametrize(
    ("line", "caret", "message"),
    [pytest.param(line, caret, " ".join(rest), id=line) for line, caret, *rest in REJECTED],
)
def test_what_is_wrong_in_a_head_is_said_where_it_stands(line: str, caret: str, message: str) -> None:
    """Each message says what to write instead; none of them is Python's own, which each version words anew."""
    with pytest.raises(HeadError) as refused:
        read_head(line)
    assert refused.value.msg == message
    assert drawn(refused.value) == caret


def drawn(error: SyntaxError) -> str:
    """What stands below the line."""
    assert error.offset is not None
    assert error.end_offset is not None
    return " " * (error.offset - 1) + "^" * (error.end_offset - error.offset)


def test_there_are_many_ways_to_write_a_head_and_more_to_miss_it() -> None:
    """A table that has lost its rows tests nothing."""
    assert len(ACCEPTED) >= 60
    assert len(REJECTED) >= 60


@pytest.mark.parametrize("line", ["", "   ", "\t", "# only a comment", " # --bg -> x", "\n", " \r\n"])
def test_without_a_word_the_body_simply_runs_once(line: str) -> None:
    """No input, no name, no flag."""
    assert read_head(line) == Head()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("\tx\tin\txs\t->\tys\t--bg\t# done", "x@1 in xs@6 | -> ys | bg"),
        ("x in xs\f--timeout\t10  ", "x@0 in xs@5 | timeout@8=10@18"),
        ("x in xs --desc\tmy pages\t--bg", "x@0 in xs@5 | desc@8=my pages@15 | bg"),
        ('x in """a "quoted" --bg""" -> ys', 'x@0 in """a "quoted" --bg"""@5 | -> ys'),
        ("x in f'''{a['b']} --bg''' -> ys", "x@0 in f'''{a['b']} --bg'''@5 | -> ys"),
        (
            "x in xs --desc a\N{EM DASH}b \N{RIGHTWARDS ARROW} c",
            "x@0 in xs@5 | desc@8=a\N{EM DASH}b \N{RIGHTWARDS ARROW} c@15",
        ),
        ("x in '\N{EM DASH}' --bg", "x@0 in '\N{EM DASH}'@5 | bg"),
        # Two characters that make one letter; a name is what Python makes of it.
        (
            "e\N{COMBINING ACUTE ACCENT} in xs -> \N{LATIN SMALL LIGATURE FI}",
            "e\N{COMBINING ACUTE ACCENT}@0 in xs@6 | -> fi",
        ),
        ("\N{MATHEMATICAL BOLD SMALL X} in xs --bg", "\N{MATHEMATICAL BOLD SMALL X}@0 in xs@5 | bg"),
    ],
)
def test_blanks_and_letters_of_all_kinds_are_read(line: str, expected: str) -> None:
    """Columns count characters, whatever they take as bytes or on a screen."""
    assert told(read_head(line)) == expected


@pytest.mark.parametrize(
    ("line", "column", "message"),
    [
        ("x in xs \N{EM DASH}timeout 10", 8, "(em dash) is no sign of Python: a flag begins with two minus signs: --"),
        ("x in xs \N{EN DASH}bg", 8, "(en dash) is no sign of Python: a flag begins with two minus signs: --"),
        ("x in xs \N{RIGHTWARDS ARROW} ys", 8, "(rightwards arrow) is no sign of Python: write ->"),
        ("x in [\N{LEFT DOUBLE QUOTATION MARK}a", 6, '(left double quotation mark) is no sign of Python: write "'),
        ("x in\N{NO-BREAK SPACE}xs", 4, "U+00A0 (no-break space) stands here: write a space, or take it away"),
        (
            "x in xs\N{ZERO WIDTH SPACE} --bg",
            7,
            "U+200B (zero width space) stands here: write a space, or take it away",
        ),
        ("x in xs\0", 7, "U+0000 (no character that can be seen) stands here: write a space, or take it away"),
        ("x in xs\n--bg", 7, "the head of a cell is one line: write all of it there"),
        ("x in xs\r--bg\n", 7, "the head of a cell is one line: write all of it there"),
        ('x in """abc"', 5, 'this string is never closed: write its """; the head is one line'),
        ("x in '\ud800'", 5, "the input is no expression of Python: '"),
        ("x in " + "(" * 300 + ")" * 300, 5, "the input is no expression of Python: ((("),
        ("x in " + "not " * 9000 + "y", 5, "the input is no expression of Python: not not"),
        ("(" * 9000, 8999, "( is never closed: write its )"),
        ("x in " + "f'{" * 3000, None, "this string is never closed: write its '; the head is one line"),
    ],
)
def test_signs_that_only_look_right_are_named(line: str, column: int | None, message: str) -> None:
    """They come from web pages, and from programs that mean well. What nests too deep is refused as well."""
    with pytest.raises(HeadError) as refused:
        read_head(line)
    assert message in refused.value.msg
    assert refused.value.offset is not None
    assert column is None or refused.value.offset == column + 1
    if "sign of Python" in message or "stands here" in message:
        assert refused.value.end_offset == refused.value.offset + 1


def test_the_same_quotes_within_a_string_s_fields_end_nothing() -> None:
    """Python allows them since 3.12; before, the whole string is what is refused, not its second half."""
    source = """f"{{{a["--b -> c"]:{{"}": 5}["}"]}}}} \\"{b["(" + f"{c["#"]}"]}" """.strip()
    if sys.version_info >= (3, 12):
        assert told(read_head(f"x in {source} --bg")) == f"x@0 in {source}@5 | bg"
        return
    with pytest.raises(HeadError, match="the input is no expression of Python") as refused:
        read_head(f"x in {source} --bg")
    assert drawn(refused.value) == " " * 5 + "^" * len(source)


def test_columns_are_those_of_the_cell_s_line() -> None:
    """What stands before the head, the magic's name and blanks, is counted."""
    for line, *_ in ACCEPTED:
        head, moved = read_head(line), read_head(line, at=12)
        assert moved == replace(
            head,
            target_column=head.target_column + 12 * bool(head.target),
            source_column=head.source_column + 12 * bool(head.source),
            flags=tuple(
                replace(flag, column=flag.column + 12, value_column=flag.value_column + 12) for flag in head.flags
            ),
        )
        assert moved.line == f"   %%aiopool{line}"
    for line, caret, *_ in REJECTED:
        with pytest.raises(HeadError) as refused:
            read_head(line, at=9)
        assert drawn(refused.value) == " " * 9 + caret
        assert refused.value.text == f"%%aiopool{line}"


def test_the_caret_stands_below_the_mistake_wherever_the_error_is_shown() -> None:
    """In IPython and in Python's own traceback, also behind letters that are two bytes each."""
    with pytest.raises(HeadError) as refused:
        read_head(" größe, ñ.é in données", at=9)
    refused.value.filename = "<cell>"
    ipython = "".join(SyntaxTB(theme_name="nocolor").structured_traceback(HeadError, refused.value, []))
    python = "".join(traceback.format_exception_only(refused.value))
    for shown, carets in ((ipython, "^"), (python, "^^^")):
        line, caret = next(
            (line, caret)
            for line, caret in zip(shown.splitlines(), shown.splitlines()[1:], strict=False)
            if "%%" in line
        )
        assert caret.strip() == carets
        assert line[caret.index("^") :].startswith("ñ.é")


# --- what is written can be read -----------------------------------------------------------------------------------

NAMES = st.sampled_from(["x", "url", "größe", "_", "match", "in_", "e\N{COMBINING ACUTE ACCENT}t"])
BLANKS = st.sampled_from([" ", "  ", "\t", " \t "])
STRINGS = st.sampled_from(
    [
        '"--bg"',
        "'-> x'",
        "'it\\'s'",
        'r"\\" --all"',
        "f'{x!r:>{n}} --bg'",
        "f\"{{ {f(x, '--bg')} # \"",
        "\"é) in [\" '('",
        '"""a "b" c"""',
    ]
)
LEAVES = NAMES | STRINGS | st.sampled_from(["10", "1e-3", "0x1f", "None", "...", "[]", "()"])


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Expressions that need no brackets around them, made of some that may."""
    two = st.tuples(inner, inner)
    return (
        two.map(lambda each: f"f({each[0]}, key={each[1]})")
        | two.map(lambda each: f"[{each[0]} for y in {each[1]} if y not in z]")
        | two.map(lambda each: f"({each[0]}, {each[1]})")
        | two.map(lambda each: "{" + f"{each[0]}: ({each[1]})" + "}")
        | two.map(lambda each: f"({each[0]}) - -({each[1]})")
        | two.map(lambda each: f"(n := {each[0]})[{each[1]} : --x]")
    )


EXPRESSIONS = st.recursive(LEAVES, larger, max_leaves=6)
WHOLE = (
    EXPRESSIONS
    | st.tuples(EXPRESSIONS, EXPRESSIONS).map(lambda each: f"{each[0]} if x in {each[1]} else -y")
    | st.tuples(NAMES, EXPRESSIONS).map(lambda each: f"lambda {each[0]}, n=1, *rest: {each[1]}")
)
TARGETS = st.recursive(
    NAMES,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda each: f"({', '.join(each)},)")
        | st.tuples(inner, NAMES).map(lambda each: f"({each[0]}, *{each[1]})")
    ),
    max_leaves=5,
) | st.tuples(NAMES, NAMES).map(", ".join)
TITLES = st.sampled_from(
    ["my pages", "don't stop", "a-b--c: (", "C# [1]", "Größe", '"quoted --bg"', "f'{n} of -> {m}'"]
)


@dataclass
class Writing:
    """A line that is being written, and what it says."""

    line: str = ""
    flags: list[Flag] = field(default_factory=list)

    def add(self, text: str) -> int:
        """Write on, and return where that begins."""
        self.line += text
        return len(self.line) - len(text)

    def option(self, name: str, written: str, value: str | None, equals: str) -> None:
        """Write a flag with its value."""
        column = self.add(written)
        if value is None or written.startswith("--no"):
            self.flags.append(Flag(name, value, column, column))
            return
        self.add(equals)
        self.flags.append(Flag(name, value, column, self.add(value)))


def values(name: str) -> st.SearchStrategy[str | None]:
    """What may stand behind a flag."""
    if name == "desc":
        return TITLES
    words = st.sampled_from(WORDS[name]) if name in WORDS else st.nothing()
    return words | WHOLE | (st.none() if name in SWITCHES else st.nothing())


@st.composite
def writings(draw: st.DrawFn) -> tuple[str, Head]:
    """A line, and the head that it is."""
    writing, head = Writing(), Head()
    writing.add(draw(BLANKS))
    if draw(st.booleans()):
        target, source = draw(TARGETS), draw(WHOLE | EXPRESSIONS.map("await {}".format))
        column = writing.add(target)
        writing.add(draw(BLANKS) + "in" + draw(BLANKS))
        head = replace(head, target=target, target_column=column, source=source, source_column=writing.add(source))
    options = [] if (everywhere := not head.target and draw(st.booleans())) else draw(st.sets(st.sampled_from(OPTIONS)))
    own = draw(st.sets(st.sampled_from(["bg", "help", "->"]))) | ({"all"} if everywhere else set())
    for name in draw(st.permutations([*sorted(options), *sorted(own)])):
        if name == "->":
            head = replace(head, into=draw(st.sampled_from(["pages", "größe", "_"])))
            writing.add(draw(BLANKS | st.just("")) + "->" + draw(BLANKS | st.just("")) + head.into)
            continue
        writing.add(draw(BLANKS))
        dashed = draw(st.sampled_from([f"--{name}", f"--{name.replace('_', '-')}"]))
        if name in own:
            writing.add(dashed)
        elif name in SWITCHES and draw(st.booleans()):
            writing.option(name, dashed.replace("--", "--no-", 1), "False", "")
        else:
            writing.option(name, dashed, draw(values(name)), draw(BLANKS | st.sampled_from(["=", " = "])))
    writing.add(draw(st.sampled_from(["", " ", "\t# and --so -> on", "  "])))
    flags = {"background": "bg" in own, "everywhere": "all" in own, "help": "help" in own}
    return writing.line, replace(head, flags=tuple(writing.flags), **flags)


@settings(deadline=None)
@given(writings())
def test_what_is_written_is_what_is_read(written: tuple[str, Head]) -> None:
    """In whatever order, with whatever blanks, and with brackets and strings that look like flags."""
    line, head = written
    assert read_head(line) == head


SCRAPS = st.sampled_from(
    [
        *(
            "x",
            "xs",
            " in ",
            "->",
            " --",
            "--timeout ",
            " --bg",
            " --all",
            " --desc ",
            "=",
            "-",
            ",",
            ":",
            "#",
            "\\",
            "\n",
        ),
        *(
            "(",
            ")",
            "[",
            "]",
            "{",
            "}",
            "'",
            '"',
            "'" * 3,
            "f'",
            'rf"',
            "!r",
            "for ",
            "if ",
            "else ",
            "lambda ",
            "not ",
        ),
        *("await ", "async ", "yield ", "1", "1_", "0x", "é", "\0", "\N{EM DASH}", "timeout=10", " -c ", "$", "."),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(SCRAPS, max_size=14).map("".join) | st.text())
def test_whatever_is_written_the_answer_is_a_head_or_says_where_it_is_wrong(line: str) -> None:
    """A SyntaxError of ours with a place in the line: never another one, nor a warning."""
    text = "%%aiopool" + line.rstrip("\r\n")
    try:
        head = read_head(line, at=9)
    except HeadError as error:
        refused = error
    else:
        assert text[head.target_column :].startswith(head.target)
        assert text[head.source_column :].startswith(head.source)
        assert all(text[flag.column :].startswith("--") for flag in head.flags)
        return
    assert refused.text == text
    assert len(drawn(refused)) <= len(text) + 1
    assert 0 < len(refused.msg) < 400
