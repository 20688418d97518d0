"""What a cell tells its user: what to write instead of a missing name, and why a name of the workers is missing."""

from __future__ import annotations

import sys
import types

import pytest

from aiopool.jupyter.magics.told import instead_of, is_new, note_for

EVERYWHERE = {"nlp": "Cell In[2]"}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("asyncio", ". There is a module of that name: import asyncio, in the notebook or in the body"),
        ("pytest", ". There is a module of that name: import pytest, in the notebook or in the body"),
        ("sesion_id", ". Did you mean session_id?"),
        ("nlpp", ". Did you mean nlp?"),
        ("lenn", ". Did you mean len?"),
        ("nothing_like_it", ", neither in the notebook nor in the body"),
        ("_thread", ", neither in the notebook nor in the body"),
    ],
)
def test_a_missing_name_is_told_with_what_to_write(name: str, told: str) -> None:
    """A module that could be imported is what was meant, and not a builtin that looks like it."""
    assert instead_of(name, {"session_id": 1, "_private": 2}, EVERYWHERE) == told


def test_a_module_does_not_hide_a_name_of_the_notebook() -> None:
    """Both may have been meant."""
    told = instead_of("token", {"tokens": []}, {})
    assert "import token," in told
    assert told.endswith("Or did you mean tokens?")


def test_what_only_looks_like_a_module_is_none(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, and a module that was made by hand, cannot be imported anew."""
    (tmp_path / "a_folder_of_data").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "made_by_hand", types.ModuleType("made_by_hand"))
    for name in ("a_folder_of_data", "made_by_hand"):
        assert instead_of(name, {}, {}) == ", neither in the notebook nor in the body"


def test_only_a_name_that_was_not_found_gets_the_note() -> None:
    """The worker's own message for a name that is not there says which cell must run again; it needs no other."""
    assert note_for(NameError("name 'nlp' is not defined"), EVERYWHERE).startswith("nlp was defined with --all in Cell")
    for error in (
        NameError("name 'other' is not defined"),
        NameError("name 'nlp' is not defined in this worker: run that cell again"),
        UnboundLocalError("name 'nlp' is not defined"),
        KeyError("nlp"),
    ):
        assert note_for(error, EVERYWHERE) == ""


def test_a_name_that_not_every_worker_has_gets_a_note_of_its_own() -> None:
    """Whether it is missing as a variable of the body, of a function around, or as a global."""
    for error in (
        UnboundLocalError("cannot access local variable 'nlp' where it is not associated with a value"),
        NameError("cannot access free variable 'nlp' where it is not associated with a value in enclosing scope"),
        NameError("name 'nlp' is not defined"),
    ):
        assert note_for(error, EVERYWHERE, {"nlp"}).startswith("Cell In[2] defines nlp with --all on some ways only")
    assert note_for(UnboundLocalError("cannot access local variable 'nlp' where it is not"), EVERYWHERE) == ""


def test_a_cell_is_told_again_when_its_text_has_changed() -> None:
    """And of each thing once."""
    shell = object()
    told = [is_new(shell, "a test", text) for text in ("one", "one", "two", "two")]
    assert told == [True, False, True, False]
    assert is_new(shell, "another test", "two")
