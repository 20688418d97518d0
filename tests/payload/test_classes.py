"""Classes of cells: the notebook's own are not touched, a worker has each once, changes arrive with the next job."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref

import pytest

from aiopool import _payload as payload
from aiopool._payload import classes
from aiopool._payload.refs import Ref
from tests.payload.kinds_of_values import MEMBERS, VALUES
from tests.payload.processes import SRC, Child


@pytest.mark.parametrize("mentions", [True, False], ids=["known to the function", "only in the argument"])
@pytest.mark.parametrize("kind", VALUES)
def test_an_instance_goes_there_and_comes_back_as_one(kind, mentions, notebook, child):
    """``isinstance`` holds in the worker and in the notebook, for arguments and results."""
    source, name = VALUES[kind]
    notebook.cell(source)
    if mentions:
        notebook.cell(f"def f(x): return x, isinstance(x, {name}), {name}")
    else:
        notebook.cell(f"def f(x): return x, type(x).__name__ == {notebook[name].__name__!r}, type(x)")
    payload.dump_items([notebook["v"]])  # Python notes the names of its slots on the class, once.
    before = dict(vars(notebook[name]))
    for value, fits, cls in child.run(notebook["f"], notebook["v"], notebook["v"]):
        assert type(value) is notebook[name]
        assert cls is notebook[name]
        assert fits
        assert value == notebook["v"]
    assert dict(vars(notebook[name])) == before


@pytest.mark.parametrize("mentions", [True, False], ids=["known to the function", "only in the argument"])
@pytest.mark.parametrize("kind", MEMBERS)
def test_an_enum_member_is_that_very_member(kind, mentions, notebook, child):
    """``is`` holds in the worker and in the notebook."""
    notebook.cell(MEMBERS[kind])
    other = "E.B" if mentions else "type(x)['B']"
    notebook.cell(f"def f(x): return x, {other}, x is {other}, [x, {{x: x}}]")
    member = notebook["E"]
    for given, (value, fixed, same, inside) in zip(
        (member.A, member.B), child.run(notebook["f"], member.A, member.B), strict=True
    ):
        assert value is given
        assert fixed is member.B
        assert same == (given is member.B)
        assert inside[0] is inside[1][given] is given


COUNTER = """
class Counter:
    n = 0
    seen = []
    def bump(self):
        type(self).n += 1
        self.seen.append(self.n)
        return self.n
"""


def test_the_notebooks_class_is_untouched_by_what_comes_back(notebook, child):
    """Class attributes and globals that a worker changed stay in the worker."""
    notebook.cell(COUNTER + "limit = 3\ndef f(c):\n    global limit\n    limit = 99\n    return c, c.bump()")
    method = notebook["Counter"].bump
    (value, n), *_ = child.run(notebook["f"], notebook["Counter"]())
    assert (type(value), n) == (notebook["Counter"], 1)
    assert (notebook["Counter"].n, notebook["Counter"].seen, notebook["limit"]) == (0, [], 3)
    assert notebook["Counter"].bump is method


def test_more_arguments_of_a_class_leave_its_state_in_the_worker(notebook, child):
    """A cache or a singleton on a class is not reset under items that run."""
    notebook.cell(COUNTER + "def f(c): return c.bump()")
    counter = notebook["Counter"]
    child.start(notebook["f"])
    assert [child.items(counter())[0] for _ in range(3)] == [1, 2, 3]
    assert child.items(counter(), counter()) == [4, 5]


def test_each_job_whose_function_uses_a_class_starts_with_the_notebooks_state_of_it(notebook, child):
    """Running the cell again gives the same again."""
    notebook.cell(COUNTER + "def f(x): return Counter().bump(), len(Counter.seen)")
    assert child.run(notebook["f"], 1, 2) == [(1, 1), (2, 2)]
    assert child.run(notebook["f"], 1, 2) == [(1, 1), (2, 2)]


@pytest.mark.parametrize("function", ["def f(c): return c.n", "def f(c): return Counter.n"], ids=["argument", "both"])
def test_a_class_attribute_that_changed_between_jobs_is_seen(function, notebook, child):
    """Also if only the arguments carry the class, and the worker has it already."""
    notebook.cell(COUNTER + function)
    assert child.run(notebook["f"], notebook["Counter"]()) == [0]
    notebook.cell("Counter.n = 7")
    assert child.run(notebook["f"], notebook["Counter"]()) == [7]


def test_a_global_of_a_method_that_changed_between_jobs_is_seen(notebook, child):
    """Only the arguments carry the class, and nothing of the class itself has changed."""
    notebook.cell("rate = 2\nclass Order:\n    def total(self): return rate\ndef f(o): return o.total()")
    assert child.run(notebook["f"], notebook["Order"]()) == [2]
    notebook.cell("rate = 3")
    assert child.run(notebook["f"], notebook["Order"]()) == [3]


def test_a_redefined_class_and_the_old_one_live_side_by_side(notebook, child):
    """Old instances keep the old class, as in any Python program."""
    notebook.cell("class P:\n    def m(self): return 'old'\nold = P()\ndef f(p): return p.m(), isinstance(p, P)")
    assert child.run(notebook["f"], notebook["old"]) == [("old", True)]
    notebook.cell("class P:\n    def m(self): return 'new'\nnew = P()")
    assert child.run(notebook["f"], notebook["old"], notebook["new"]) == [("old", False), ("new", True)]


def test_a_job_reads_a_class_once(notebook, child):
    """A change while a job runs does not reach half of its items; the next job sees it."""
    notebook.cell(COUNTER + "def f(c): return c.n")
    child.start(notebook["f"])
    assert child.items(notebook["Counter"]()) == [0]
    notebook.cell("Counter.n = 7")
    assert child.items(notebook["Counter"]()) == [0]
    child.start(notebook["f"])
    assert child.items(notebook["Counter"]()) == [7]


def test_a_value_that_was_put_brings_its_class_as_it_was_then(notebook, child):
    """Also if the class has changed since the last job."""
    notebook.cell(COUNTER + "def f(c): return c.n")
    assert child.run(notebook["f"], notebook["Counter"]()) == [0]
    notebook.cell("Counter.n = 7")
    ref = Ref(notebook["Counter"]())
    assert child.run(notebook["f"], ref) == [7]


def test_an_older_job_does_not_bring_back_what_a_newer_one_changed(notebook, child):
    """Its arguments were pickled before the change and arrive after it."""
    notebook.cell(COUNTER + "def f(c): return c.n")
    child.start(notebook["f"])
    late = payload.dump_items([notebook["Counter"]()]).blobs[0]
    notebook.cell("Counter.n = 7")
    assert child.run(notebook["f"], notebook["Counter"]()) == [7]
    assert child.get("item", late) == 7


def test_a_functions_methods_and_helpers_share_their_globals(notebook, child):
    """As in the notebook, where there is one namespace; also after arguments of the class have arrived."""
    notebook.cell(
        """
        config = {}
        class Reader:
            def read(self): return config.get("x")
        def f(reader):
            config["x"] = "set"
            return reader.read(), Reader().read()
        """
    )
    reader = notebook["Reader"]()
    for _ in range(2):
        assert child.run(notebook["f"], reader, reader) == [("set", "set"), ("set", "set")]


def test_a_class_made_in_a_worker_comes_home_and_goes_out_again(notebook, child, fresh_child):
    """By value: its methods work here, in the worker that made it (which keeps its own), and in another one."""
    notebook.cell(
        """
        import collections, dataclasses
        class Base:
            def hello(self): return "hello " + self.name
        made = {}
        def f(name):
            if "cls" not in made:
                @dataclasses.dataclass
                class Made(Base):
                    name: str
                made["cls"] = Made
            return made["cls"](name)
        def g(x): return x.hello(), x, made.get("cls")
        def same(x): return x
        """
    )
    one, two = child.run(notebook["f"], "one", "two")
    assert type(one) is type(two)
    assert isinstance(one, notebook["Base"])
    assert one.hello() == "hello one"
    (greeting, back, _), *_ = child.run(notebook["g"], one)
    assert greeting == "hello one"
    assert type(back) is type(one)
    (greeting, back, _), *_ = fresh_child.run(notebook["g"], one)
    assert greeting == "hello one"
    assert type(back) is type(one)


def test_functions_come_home_by_value(notebook, child):
    """A result may be a function or a closure; it uses the notebook's own classes."""
    notebook.cell("class P: ...\ndef f(n):\n    def inner(x): return x + n, P()\n    return inner")
    (inner,) = child.run(notebook["f"], 10)
    total, p = inner(1)
    assert (total, type(p)) == (11, notebook["P"])


def test_two_threads_may_meet_a_new_class_at_once(notebook):
    """Items of one worker are loaded in several threads; none sees half a class."""
    notebook.cell("\n".join(["class P:", *(f"    def m{i}(self): return {i}" for i in range(300))]))
    payload.dump_function(lambda: None)
    data = payload.dump_items([notebook["P"]()]).blobs[0]
    code = (
        "import sys, threading; from aiopool import _payload as payload\n"
        f"data = {data!r}\n"
        "sys.setswitchinterval(1e-6)\n"
        "found, barrier = [], threading.Barrier(4)\n"
        "def load():\n    barrier.wait(10)\n    found.append(payload.load_item(data).m299())\n"
        "threads = [threading.Thread(target=load) for _ in range(4)]\n"
        "[t.start() for t in threads]; [t.join(20) for t in threads]\n"
        "print(found)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": SRC},
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
    )
    assert (done.stdout.strip(), done.stderr) == ("[299, 299, 299, 299]", "")


def test_a_class_that_fails_to_load_fails_again_and_others_do_not(notebook, child):
    """Half a class is never taken for a whole one."""
    notebook.cell(
        """
        class Stubborn:
            def __reduce__(self): return (eval, ("[][0]",))
        class P:
            thing = Stubborn()
            def m(self): return 1
        class Q:
            def m(self): return 2
        def f(x): return x.m()
        """
    )
    child.start(notebook["f"])
    for _ in range(2):
        with pytest.raises(IndexError):
            child.items(notebook["P"]())
    assert child.items(notebook["Q"]()) == [2]


def test_a_result_of_a_class_that_is_gone_says_so(notebook, child):
    """It names the class; and it takes many other classes for one to go."""
    notebook.cell("class Vanished: ...\ndef f(x): return x")
    child.start(notebook["f"])
    kind, answer = child.ask("item", payload.dump_items([notebook["Vanished"]()]).blobs[0])
    assert kind == b"V"
    gone = weakref.ref(notebook["Vanished"])
    notebook.names.clear()
    gc.collect()
    assert type(payload.load_value(answer)) is gone()
    classes._kept.clear()
    classes.new_epoch()
    gc.collect()
    assert gone() is None
    with pytest.raises(LookupError, match="the class `Vanished` came back, but that class no longer exists here"):
        payload.load_value(answer)


def test_no_more_than_a_thousand_classes_are_kept_alive(monkeypatch):
    """A script that makes a class for each job does not grow for ever."""
    monkeypatch.setattr(classes, "_KEPT_CLASSES", 10)
    for _ in range(20):
        payload.dump_items([type("P", (), {"__module__": "__main__"})()])
    assert len(classes._kept) == 10
    classes._kept.clear()


def test_loading_in_the_process_that_made_a_class_changes_nothing(notebook):
    """An engine may run in the very process: what it loads is the class itself, as it is now."""
    notebook.cell(COUNTER + "def f(c): return c.bump()")
    function = payload.load_function(payload.dump_function(notebook["f"]).data)
    (blob,) = payload.dump_items([notebook["Counter"]()]).blobs
    notebook["Counter"].n = 5
    item = payload.load_item(blob)
    assert type(item) is notebook["Counter"]
    assert function(item) == 6
    assert type(payload.load_value(payload.dump_value(item))) is notebook["Counter"]
    assert notebook["Counter"].n == 6


def test_a_live_worker_takes_a_class_that_a_replaced_one_had(notebook):
    """A worker that starts in the middle of a job has all it needs in each argument."""
    notebook.cell("class Base:\n    k = 2\nclass P(Base):\n    def m(self): return self.k * 2\ndef f(x): return x.m()")
    function = payload.dump_function(notebook["f"])
    blob = payload.dump_items([notebook["P"]()]).blobs[0]
    for _ in range(2):
        with Child() as worker:
            worker.get("load", function.data)
            assert worker.get("item", blob) == 4


def test_the_lock_is_free_afterwards():
    """Nothing that raised has left it taken."""
    taken = []

    def take():
        if classes._lock.acquire(timeout=5):
            taken.append(True)
            classes._lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join(10)
    assert taken == [True]


def test_a_class_that_came_with_the_function_need_not_come_again(notebook, child):
    """Given their function, arguments are small, and mean the same."""
    notebook.cell(COUNTER + "class Other: n = 5\ndef f(c): return isinstance(c, Counter), c.n, c")
    values = [notebook["Counter"](), notebook["Other"]()]
    function = payload.dump_function(notebook["f"])
    alone, given = payload.dump_items(values), payload.dump_items(values, function)
    assert len(given.blobs[0]) * 5 < len(alone.blobs[0])
    assert given.blobs[1] == alone.blobs[1]
    child.get("load", function.data)
    for blobs in (alone.blobs, given.blobs):
        (fits, n, back), (other_fits, other_n, _) = [child.get("item", blob) for blob in blobs]
        assert (fits, n, other_fits, other_n) == (True, 0, False, 5)
        assert type(back) is notebook["Counter"]


@pytest.mark.parametrize("kind", [*VALUES, *MEMBERS])
def test_a_class_that_has_not_changed_is_seen_to_be_the_same(kind, notebook):
    """Else each job would reset it under the items of others; also after instances were made and pickled."""
    source, name = VALUES.get(kind) or (MEMBERS[kind], "E")
    notebook.cell(source)
    digests = set()
    for _ in range(3):
        payload.dump_function(lambda: None)
        payload.dump_items([notebook.names.get("v", notebook[name])])
        digests.add(classes.definitions().of(notebook[name]).stamp.digest)
    assert len(digests) == 1
