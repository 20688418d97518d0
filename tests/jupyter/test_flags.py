"""Flags: every option of a map is one, with its name, its values and its checks."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

import aiopool
from aiopool.errors import OptionError
from aiopool.jupyter.magics.flags import OPTIONS, OWN, SWITCHES, WORDS, example_of, help_text, instead_of, options_of
from aiopool.jupyter.magics.head import HeadError, read_head
from aiopool.options import NEAR_MISSES, POOL_NEAR_MISSES, MapOptions, PoolOptions

VALUES: dict[str, list[object]] = {
    "concurrency": [1, 200, None],
    "timeout": [10, 0.5, None],
    "retries": [0, 3],
    "backoff": [0, 2.5, "exponential"],
    "retry_on": [ValueError, (ConnectionError, TimeoutError)],
    "on_error": ["raise", "return"],
    "rate": [50, 0.1, None],
    "unpack": [True, False],
    "batch": [1, 1000, "auto"],
    "window": [1000, None],
    "total": [0, 5000, None],
    "label": [str.upper, None],
    "seed": [0, 12, None],
    "rerun_lost": [True, False],
    "desc": ["pages", "my --pages", "it's # 1", None],
    "progress": [True, False, "text"],
    "detach": [True, False],
}
"""Of each option values that it may have."""

WRONG: dict[str, str] = {
    "concurrency": "0",
    "timeout": "-1",
    "retries": "1.5",
    "backoff": "soon",
    "retry_on": "'OSError'",
    "on_error": "ignore",
    "rate": "0",
    "unpack": "1",
    "batch": "big",
    "window": "-5",
    "total": "'5'",
    "label": "'short'",
    "seed": "True",
    "rerun_lost": "never",
    "desc": 'b"pages"',
    "progress": "bar",
    "detach": "yes",
}
"""Of each option the source of a value that it cannot have."""


def evaluating(**names: object) -> Callable[[str, int], object]:
    """What evaluates in a namespace of these names."""
    return lambda source, column: eval(source, dict(names))


def options(line: str, **names: object) -> dict[str, Any]:
    """What the flags of a head set."""
    return options_of(read_head(line), evaluating(**names))


def refusal(line: str) -> str:
    """What is said of a head."""
    with pytest.raises(HeadError) as refused:
        read_head(line)
    return refused.value.msg


def test_the_examples_here_know_every_option() -> None:
    """A new option needs one of each."""
    assert set(VALUES) == set(WRONG) == {field.name for field in fields(MapOptions)} == set(OPTIONS)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("dash", ["-", "_"])
@pytest.mark.parametrize("equals", [" ", "=", "\t= "])
def test_every_option_of_a_map_is_a_flag(name: str, dash: str, equals: str) -> None:
    """Of the same name, with dashes or without, and its value comes through as it is."""
    flag = f"--{name.replace('_', dash)}"
    for value in VALUES[name]:
        assert options(f"x in xs {flag}{equals}value -> ys", value=value) == {
            name: "value" if name == "desc" else value
        }
        if not callable(value) and not isinstance(value, tuple):
            # As its source, behind another flag and before one.
            assert options(f"--bg {flag}{equals}{value!r} --help") == {name: value}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_flag_has_the_checks_of_its_option_and_points_at_the_value(name: str) -> None:
    """What pmap would say of it, said of the flag."""
    line = f" x in xs --{name.replace('_', '-')}  {WRONG[name]} -> ys"
    with pytest.raises(HeadError) as refused:
        options_of(read_head(line, at=9), evaluating())
    try:
        value = eval(WRONG[name], {})
    except NameError:
        value = WRONG[name]
    with pytest.raises(OptionError) as said:
        MapOptions.of({name: value})
    assert str(said.value) == f"{name}={value!r}: " + refused.value.msg.partition(": ")[2]
    assert refused.value.msg.startswith(f"--{name.replace('_', '-')} {WRONG[name]}: {name} must be ")
    assert refused.value.text == f"%%aiopool{line}"
    assert refused.value.offset is not None
    assert refused.value.text[refused.value.offset - 1 :].startswith(f"{WRONG[name]} -> ys")


def test_switches_stand_alone() -> None:
    """Those options that are on or off; --no- is off, also of what is off by itself."""
    assert {name for name in OPTIONS if isinstance(getattr(MapOptions(), name), bool)} == SWITCHES
    assert set(SWITCHES) == {"unpack", "rerun_lost", "detach", "progress"}
    for name in SWITCHES:
        for flag in (name, name.replace("_", "-")):
            assert options(f"x in xs --{flag} -> ys") == {name: True}
            assert options(f"x in xs --no-{flag} -> ys") == {name: False}
            assert options(f"x in xs --no_{flag} --bg") == {name: False}


def test_a_flag_that_is_no_switch_needs_a_value() -> None:
    """The message shows one."""
    for name in sorted({*OPTIONS} - SWITCHES):
        flag = f"--{name.replace('_', '-')}"
        for line in (f"x in xs {flag}", f"x in xs {flag} --bg", f"x in xs {flag}= -> ys", f"{flag} # 10"):
            assert refusal(line) == f"{flag} needs a value: {flag} {example_of(name)}"
        options(f"x in xs {flag} {example_of(name)}")
        denied = f"--no{flag[1:]}"
        assert refusal(f"x in xs {denied}") == (
            f"{denied} cannot be said: leave it out, or give a value, {flag} {example_of(name)}"
        )


def test_words_stand_for_themselves() -> None:
    """Also where the notebook has another thing of that name, and where the word is one of Python's own."""
    assert WORDS == {
        "on_error": ("raise", "return"),
        "backoff": ("exponential",),
        "batch": ("auto",),
        "progress": ("text",),
    }
    for name, words in WORDS.items():
        for word in words:
            assert options(f"x in xs --{name} {word}", **dict.fromkeys(words, "else")) == {name: word}
            assert options(f"x in xs --{name} '{word}' --bg") == {name: word}


def test_a_name_that_does_not_exist_is_an_error_of_the_expression() -> None:
    """Only where words may stand it is one of them, misspelt."""
    with pytest.raises(NameError, match="seconds"):
        options("x in xs --timeout seconds")
    with pytest.raises(NameError, match="other"):
        options("x in xs --on-error other.name")
    with pytest.raises(HeadError, match="--on-error retrun: on_error must be 'raise' or 'return'"):
        options("x in xs --on-error retrun")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("pages", "pages"),
        ("my pages  of today", "my pages  of today"),
        ("don't stop (yet", "don't stop (yet"),
        ("x", "x"),
        ("3 * 2", "3 * 2"),
        ("C#", "C#"),
        ("pages # of today", "pages"),
        ("None", None),
        ('"pages"', "pages"),
        ("'--bg -> # pages'", "--bg -> # pages"),
        ("f'{x} pages'", "7 pages"),
        ("r'\\d' 'x'", "\\dx"),
        ("'a' + 'b'", "ab"),
        ('""', ""),
    ],
)
def test_a_title_is_text_with_or_without_quotes(written: str, value: str | None) -> None:
    """Without them it is never looked up: a title is no expression."""
    for line in (f"x in xs --desc {written}", f"x in xs --desc={written} --bg", f"x in xs --desc {written}->ys"):
        if "#" in written and "'" not in written and not line.endswith(written):
            continue  # The rest of the line is the comment's.
        assert options(line, x=7) == {"desc": value}


def test_values_are_evaluated_where_they_stand() -> None:
    """With their column in the cell's first line, so that a traceback points there; words and titles are not."""
    seen: list[tuple[str, int]] = []

    def evaluate(source: str, column: int) -> object:
        seen.append((source, column))
        return 5

    line = " é in xs --timeout  n*2 --retries=f('--x') -> ys --batch auto --desc my pages --no-progress"
    found = options_of(read_head(line, at=9), evaluate)
    assert found == {"timeout": 5, "retries": 5, "batch": "auto", "desc": "my pages", "progress": False}
    whole = f"%%aiopool{line}"
    assert seen == [(source, whole.index(source)) for source in ("n*2", "f('--x')")]


@pytest.mark.parametrize(
    "source",
    [
        'lambda u: f"{u[-20:]} --bg" if u in {"->"} else \'#\'',
        "lambda u, n=len('--x'): (u --n)",
        "(lambda *a, **k:\t'x'\t'y')",
        "[str, repr][0] # --bg",
        "{'--x': str, '->': repr}['->']",
    ],
)
def test_values_reach_over_brackets_strings_and_lambdas(source: str) -> None:
    """What looks like a flag or an arrow inside of them is none."""
    found = options(f"x in xs --label {source}") | options(f"--label={source}")
    assert list(found) == ["label"]
    assert callable(found["label"])


def test_several_exceptions_need_no_brackets() -> None:
    """The one option whose value may be a tuple."""
    assert options("x in xs --retry-on OSError, KeyError --bg") == {"retry_on": (OSError, KeyError)}


# --- flags that do not exist ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted({*NEAR_MISSES, *POOL_NEAR_MISSES, *(f.name for f in fields(PoolOptions))}))
def test_near_misses_name_what_there_is_for_cells(name: str) -> None:
    """Flags, or another magic: never keywords, which cannot be written in a head."""
    flag = f"--{name.replace('_', '-')}"
    message = refusal(f"x in xs {flag} 4 -> ys")
    assert message.startswith(f"there is no flag {flag}: write ")
    advice = message.partition(": ")[2]
    assert "=" not in advice
    settings = [setting.replace("_", "-") for setting in inspect.signature(aiopool.configure).parameters]
    for found in re.finditer(r"(%aiopool configure )?(?<!-)--([\w-]+)", advice):
        known = settings if found[1] else [*(option.replace("_", "-") for option in OPTIONS), *OWN, "no-progress"]
        assert found[2] in known, advice


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--chunksize 5", "there is no flag --chunksize: write --batch 5"),
        ("--chunk_size=n // 4", "there is no flag --chunk_size: write --batch n // 4"),
        (
            "--n-jobs 4",
            (
                "there is no flag --n-jobs: write %aiopool resize 4 for more or fewer workers, or --concurrency 4 for "
                "the items at a time"
            ),
        ),
        (
            "--n-jobs -1",
            (
                "there is no flag --n-jobs: write %aiopool resize ... for more or fewer workers, or --concurrency ... "
                "for the items at a time"
            ),
        ),
        ("--threads 2", "there is no flag --threads: write %aiopool configure --threads-per-worker 2"),
        (
            "--memory-limit '2 GB'",
            "there is no flag --memory-limit: write %aiopool configure --max-memory-per-worker '2 GB'",
        ),
        ("--return-exceptions", "there is no flag --return-exceptions: write --on-error return"),
        ("--return-exceptions True", "there is no flag --return-exceptions: write --on-error return"),
        ("--attempts 3", "there is no flag --attempts: write --retries 2, which counts the attempts after the first"),
        ("--attempts 0", "there is no flag --attempts: write --retries 0, which counts the attempts after the first"),
        ("--tries n", "there is no flag --tries: write --retries ..., which counts the attempts after the first"),
        ("--limit 5", "there is no flag --limit: write --concurrency 5 or --rate 5"),
        ("--progress-bar", "there is no flag --progress-bar: write --progress"),
        ("--progress-bar text", "there is no flag --progress-bar: write --progress text"),
        (f"--chunksize {'x' * 50}", "there is no flag --chunksize: write --batch ..."),
        ("--title my pages", "there is no flag --title: write --desc my pages"),
        ("--background", "there is no flag --background: write --bg"),
        ("--noblock", "there is no flag --noblock: write --bg"),
        ("--out pages", "there is no flag --out: write -> pages"),
        ("--everywhere", "there is no flag --everywhere: write --all"),
        ("--quiet", "there is no flag --quiet: write --no-progress"),
        (
            "--initializer f",
            (
                "there is no flag --initializer: write what it does in a cell of its own, %%aiopool --all: it runs "
                "once on every worker"
            ),
        ),
        ("--TIMEOUT 5", "there is no flag --TIMEOUT: write --timeout 5"),
        ("--timeuot 5", "there is no flag --timeuot: did you mean --timeout?"),
        ("--no-rerun", "there is no flag --no-rerun: did you mean --no-rerun-lost?"),
        ("--retry-in 5", "there is no flag --retry-in: did you mean --retry-on?"),
        ("--zebra 5", "there is no flag --zebra: %%aiopool --help lists those that exist"),
    ],
)
def test_a_flag_that_does_not_exist_is_refused_with_the_right_one(line: str, message: str) -> None:
    """With the value that was written, where it means the same."""
    assert refusal(f"x in xs {line}") == message
    assert refusal(f"{line} -> ys") == message


def test_one_letter_is_answered_with_a_word() -> None:
    """Each of the alphabet, with one dash or with two."""
    for letter in "abcdefghijklmnopqrstuvwxyz":
        assert instead_of(letter, "5") in refusal(f"x in xs -{letter} 5")
        assert instead_of(letter, "5") in refusal(f"x in xs --{letter} 5")


# --- help ----------------------------------------------------------------------------------------------------------


def test_help_lists_every_flag_in_one_line_each() -> None:
    """In a terminal of usual width."""
    lines = help_text().splitlines()
    assert len(lines) < 60
    assert max(map(len, lines)) <= 100
    for name in (*OPTIONS, *OWN):
        found = [line for line in lines if re.match(rf"  --{name.replace('_', '-')}[ ]", line)]
        assert len(found) == 1, name
        flag, meaning = re.split(r" {2,}| (?=\w[\w ]*[:;,])", found[0].strip(), maxsplit=1)
        assert flag
        assert meaning


def test_help_says_what_differs_without_an_input() -> None:
    """What the name gets, and that a body which may have run once already is not run again unasked."""
    text = " ".join(help_text().split())
    assert "the body runs once, on one worker, and NAME gets its value" in text
    assert "It is not run again if its worker dies, unless you say --rerun-lost" in text
    assert "--unpack has no effect here" in text


def test_the_examples_of_help_can_be_read() -> None:
    """Five of them; and so can every flag with the value that is shown beside it."""
    examples = [line.strip() for line in help_text().partition("Examples:")[2].strip().splitlines()]
    assert len(examples) == 5
    for example in examples:
        head = read_head(example.removeprefix("%%aiopool"))
        assert set(options_of(head, evaluating())) <= set(OPTIONS)
    for name in OPTIONS:
        assert set(options(f"x in xs --{name} {example_of(name)}")) == {name}
