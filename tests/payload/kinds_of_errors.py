"""Exceptions: what the cell defines, what the item does, and what then holds of the `error` that came back."""

from __future__ import annotations

ERRORS = {
    "a builtin": (
        "",
        "raise ValueError('x')",
        "error.args == ('x',)",
    ),
    "no message": (
        "",
        "raise KeyError",
        "error.args == ()",
    ),
    "a key": (
        "",
        "{}['k']",
        "str(error) == \"'k'\"",
    ),
    "two arguments": (
        "",
        "raise ValueError('x', [2])",
        "error.args == ('x', [2])",
    ),
    "an OSError": (
        "",
        "open('/no/such')",
        "(type(error), error.errno, error.filename) == (FileNotFoundError, 2, '/no/such')",
    ),
    "a decoding error": (
        "",
        "b'\\xff'.decode()",
        "(error.object, error.start, error.reason) == (b'\\xff', 0, 'invalid start byte')",
    ),
    "a syntax error": (
        "",
        "compile('a b', 'x.py', 'exec')",
        "(error.filename, error.lineno, error.text) == ('x.py', 1, 'a b\\n')",
    ),
    "an import error": (
        "",
        "import nowhere",
        "(type(error), error.name) == (ModuleNotFoundError, 'nowhere')",
    ),
    "an unknown name": (
        "",
        "raise NameError('name x', name='x')",
        "type(error) is NameError",
    ),
    "an error of a cell": (
        "class E(Exception): ...",
        "raise E('x', 1)",
        "type(error) is E and error.args == ('x', 1)",
    ),
    "a nested class": (
        """
        class Api:
            class Error(Exception): ...
        """,
        "raise Api.Error(1)",
        "type(error) is Api.Error and error.args == (1,)",
    ),
    "two arguments to init": (
        """
        class E(Exception):
            def __init__(self, code, msg):
                super().__init__(f'{code}: {msg}')
                self.code = code
        """,
        "raise E(5, 'bad')",
        "(type(error), error.code, error.args) == (E, 5, ('5: bad',))",
    ),
    "keyword-only init": (
        """
        class E(Exception):
            def __init__(self, msg, *, url): super().__init__(msg); self.url = url
        """,
        "raise E('m', url='u')",
        "(type(error), error.url, str(error)) == (E, 'u', 'm')",
    ),
    "an init that would change the message again": (
        """
        class E(Exception):
            def __init__(self, msg): super().__init__('Bad: ' + msg)
        """,
        "raise E('x')",
        "(type(error), str(error)) == (E, 'Bad: x')",
    ),
    "an init that calls no super": (
        """
        class E(Exception):
            def __init__(self, a, b): self.a, self.b = a, b
            def __str__(self): return f'{self.a}-{self.b}'
        """,
        "raise E(1, 2)",
        "(type(error), error.a, str(error)) == (E, 1, '1-2')",
    ),
    "an OSError with an init of its own": (
        """
        class E(OSError):
            def __init__(self, url, code): super().__init__(code, 'no', url); self.url = url
        """,
        "raise E('http://x', 2)",
        "(type(error), error.errno, error.filename, error.url) == (E, 2, 'http://x', 'http://x')",
    ),
    "a new of its own": (
        """
        class E(Exception):
            def __new__(cls, a, b): return super().__new__(cls, a, b)
            def __init__(self, a, b): self.b = b
        """,
        "raise E(1, 2)",
        "(type(error), error.args, error.b) == (E, (1, 2), 2)",
    ),
    "a frozen dataclass": (
        """
        import dataclasses
        @dataclasses.dataclass(frozen=True)
        class E(Exception):
            a: int
            b: int
        """,
        "raise E(1, 2)",
        "(type(error), error.a, error.b) == (E, 1, 2)",
    ),
    "slots": (
        """
        class E(Exception):
            __slots__ = ('a',)
            def __init__(self, a): super().__init__(a); self.a = a
        """,
        "raise E(3)",
        "(type(error), error.a) == (E, 3)",
    ),
    "a reduce of its own": (
        """
        class E(Exception):
            def __init__(self, *, a): super().__init__(a); self.a = a
            def __reduce__(self): return make, (self.a,)
        def make(a): return E(a=a)
        """,
        "raise E(a=3)",
        "(type(error), error.a) == (E, 3)",
    ),
    "a reduce that raises": (
        """
        class E(Exception):
            def __reduce__(self): raise RuntimeError
        """,
        "raise E('x')",
        "(type(error), error.args) == (E, ('x',))",
    ),
    "a reduce that raises SystemExit": (
        """
        class E(Exception):
            def __reduce_ex__(self, p): raise SystemExit
        """,
        "raise E('x')",
        "(type(error), error.args) == (E, ('x',))",
    ),
    "a reduce that makes something else": (
        """
        class E(Exception):
            def __reduce__(self): return dict, ()
        """,
        "raise E('x')",
        "(type(error), error.args) == (E, ('x',))",
    ),
    "a lock in an attribute": (
        """
        import threading
        class E(Exception): ...
        """,
        "e = E('x'); e.lock = threading.Lock(); e.n = 1; raise e",
        "type(error) is E and error.n == 1 and '_thread.lock' in repr(error.lock)",
    ),
    "a lock in an argument": (
        "import threading",
        "raise ValueError('x', threading.Lock())",
        "type(error) is ValueError and error.args[0] == 'x' and '_thread.lock' in str(error)",
    ),
    "a lock as the message": (
        "import threading",
        "raise ValueError(threading.Lock())",
        "type(error) is ValueError and str(error).startswith('<unlocked _thread.lock')",
    ),
    "itself as an attribute": (
        "",
        "e = ValueError('x'); e.me = e; raise e",
        "error.me is error",
    ),
    "a library's error": (
        "import urllib.error, email.message",
        "raise urllib.error.HTTPError('http://x', 404, 'gone', email.message.Message(), None)",
        "(type(error), error.code, error.url) == (urllib.error.HTTPError, 404, 'http://x')",
    ),
    "a JSON error": (
        "import json",
        "json.loads('[1')",
        "(type(error), error.pos) == (json.JSONDecodeError, 2)",
    ),
    "a pydantic error": (
        """
        import pydantic
        class M(pydantic.BaseModel):
            x: int
        """,
        "M(x='a')",
        "isinstance(error, pydantic.ValidationError) and error.errors()[0]['loc'] == ('x',)",
    ),
    "a huge message": (
        "",
        "raise ValueError('x' * 1_000_000)",
        ("type(error) is ValueError and 30_000 < len(str(error)) < 70_000 and 'characters left out' in str(error)"),
    ),
    "a huge attribute": (
        "class E(Exception): ...",
        "e = E('x'); e.body = b'y' * 3_000_000; e.n = 1; raise e",
        "type(error) is E and error.n == 1 and len(repr(error.body)) < 70_000",
    ),
    "an interrupt in a chain is only shown": (
        "",
        """
        try: raise KeyboardInterrupt('k')
        except KeyboardInterrupt: raise ValueError('x')
        """,
        "type(error) is ValueError and type(error.__context__) is KeyboardInterrupt",
    ),
    "a BaseException of a cell": (
        "class E(BaseException): ...",
        "raise E(1)",
        "type(error) is E",
    ),
    "a class that the worker made": (
        "",
        "E = type('E', (ValueError,), {'__module__': '__main__'}); raise E(3)",
        "type(error).__name__ == 'E' and isinstance(error, ValueError) and error.args == (3,)",
    ),
    "one of ours": (
        "from aiopool.errors import WorkerLost",
        "raise WorkerLost('gone', 7, -9, 'tail')",
        "(error.pid, error.exitcode, error.stderr) == (7, -9, 'tail')",
    ),
}
