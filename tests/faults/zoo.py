"""Payloads that are bad in their own way: what an item raises or returns, or what it is given. Each is a cell.

``bad()`` is what the item with the bad luck does; ``HERE`` is the process of the notebook, so that a value can be
good in its worker and bad in the notebook. Beside it: of which type its error is, and what the error says.
"""

from __future__ import annotations

LOADED_HERE = """
import os
def here(kind, text):
    if os.getpid() == HERE:
        raise kind(text)
    return []
class Bad:
    def __init__(self, kind): self.kind = kind
    def __reduce__(self): return here, (self.kind, 'will not load')
class BadState:
    def __init__(self, kind): self.kind = kind
    def __setstate__(self, state):
        if os.getpid() == HERE:
            raise state['kind']('no such state')
        self.__dict__.update(state)
class BadError(Exception):
    def __init__(self, kind): super().__init__('the real message'); self.kind = kind
    def __reduce__(self): return remake, (self.kind,)
def remake(kind):
    if os.getpid() == HERE:
        raise kind('it will not load')
    return BadError(kind)
"""

RAISED = {
    "an init of two arguments": (
        """
        class TwoArguments(Exception):
            def __init__(self, code, why):
                super().__init__(f'{code}: {why}')
                self.code = code
        def bad(): raise TwoArguments(404, 'gone')
        """,
        "TwoArguments",
        "404: gone",
    ),
    "a lock inside": (
        """
        import threading
        class Locked(Exception): ...
        def bad():
            error = Locked('it was locked')
            error.lock = threading.Lock()
            raise error
        """,
        "Locked",
        "it was locked",
    ),
    **{
        f"{kind} when it is loaded here": (
            f"{LOADED_HERE}\nimport asyncio\ndef bad(): raise BadError({kind})",
            "RemoteError",
            "BadError: the real message",
        )
        for kind in ("ValueError", "SystemExit", "KeyboardInterrupt", "GeneratorExit", "StopIteration", "MemoryError")
    },
    "a str that raises": (
        "class Mute(Exception):\n    def __str__(self): raise RuntimeError\ndef bad(): raise Mute(1)",
        "RemoteError",
        "Mute: <exception str() failed>",
    ),
    "a repr that raises": (
        "class Mute(Exception):\n    def __repr__(self): raise SystemExit\ndef bad(): raise Mute('said')",
        "Mute",
        "said",
    ),
    "a reduce that raises": (
        "class Stiff(Exception):\n    def __reduce__(self): raise KeyboardInterrupt\ndef bad(): raise Stiff('said')",
        "Stiff",
        "said",
    ),
    "an init that raises": (
        """
        class Once(Exception):
            def __init__(self, *args):
                if args != ('said',): raise SystemExit
                super().__init__('it ' + args[0])
        def bad(): raise Once('said')
        """,
        "Once",
        "it said",
    ),
    "a message of 50 MB": (
        "def bad(): raise ValueError('begin ' + 'x' * 50_000_000 + ' end')",
        "ValueError",
        "characters left out",
    ),
    "an attribute of 20 MB": (
        "def bad():\n    error = OSError('said')\n    error.body = bytes(20_000_000)\n    raise error",
        "OSError",
        "said",
    ),
    "a thousand causes": (
        """
        def bad():
            root = error = ValueError('the last one')
            for number in range(1000):
                error.__cause__ = KeyError(number)
                error = error.__cause__
            raise root
        """,
        "ValueError",
        "the last one",
    ),
    "contexts in a circle": (
        """
        def bad():
            one, two = ValueError('one'), KeyError('two')
            one.__context__, two.__context__ = two, one
            raise one
        """,
        "ValueError",
        "one",
    ),
    "a cause of itself": (
        "def bad():\n    error = ValueError('one')\n    error.__cause__ = error\n    raise error",
        "ValueError",
        "one",
    ),
    "a group": (
        "def bad(): raise ExceptionGroup('many', [ValueError(1), ExceptionGroup('more', [KeyError(2)])])",
        "ExceptionGroup",
        "many (2 sub-exceptions)",
    ),
    "a group with an exit": (
        "def bad(): raise BaseExceptionGroup('many', [ValueError(1), SystemExit(2)])",
        None,
        "many",
    ),
    "a group of exits": (
        "def bad(): raise BaseExceptionGroup('many', [KeyboardInterrupt(), GeneratorExit()])",
        None,
        "many",
    ),
    "a subclass of str": (
        """
        class Text(str):
            def __str__(self): raise SystemExit
            def __len__(self): raise SystemExit
        def bad(): raise ValueError(Text('said'))
        """,
        "RemoteError",
        "ValueError: <exception str() failed>",
    ),
    "surrogates": (r"def bad(): raise ValueError('\udc80 and \ud800')", "ValueError", "\udc80 and \ud800"),
    "a null": (r"def bad(): raise ValueError('a\0b')", "ValueError", "a\0b"),
    **{
        f"our own {name}": (f"from aiopool.errors import {name}\ndef bad(): raise {name}('said')", name, "said")
        for name in ("FrameError", "InternalError", "JobCancelled", "JobStopped", "PoolClosed", "WorkerLost")
    },
    **{
        name: (f"import asyncio\ndef bad(): raise {name}('said')", "ItemExited", f"{name.split('.')[-1]}: said")
        for name in ("SystemExit", "KeyboardInterrupt", "GeneratorExit", "StopAsyncIteration", "asyncio.CancelledError")
    },
    "a subclass of KeyboardInterrupt": (
        "class Mine(KeyboardInterrupt): ...\ndef bad(): raise Mine('said')",
        "ItemExited",
        "Mine: said",
    ),
    "sys.exit": ("import sys\ndef bad(): sys.exit('said')", "ItemExited", "SystemExit: said"),
}  # fmt: skip
"""What an item raises."""

RETURNED = {
    **{
        f"{kind} when it is {how}": (
            f"{LOADED_HERE}\nimport asyncio\ndef bad(): return [1, {made}({kind})]",
            "ItemExited" if kind in EXITS else kind,
            said,
        )
        for how, made, said in (("made", "Bad", "will not load"), ("given its state", "BadState", "no such state"))
        for EXITS in [("SystemExit", "KeyboardInterrupt", "GeneratorExit", "asyncio.CancelledError", "StopIteration")]
        for kind in ("ValueError", "MemoryError", "RecursionError", *EXITS)
    },
    "a missing class": (
        """
        import sys, types
        def bad():
            module = types.ModuleType('only_there')
            exec('class Only: ...', module.__dict__)
            sys.modules['only_there'] = module
            return module.Only()
        """,
        "ModuleNotFoundError",
        "only_there",
    ),
    "lists 200,000 deep": (
        "def bad():\n    deep = []\n    for _ in range(200_000): deep = [deep]\n    return deep",
        "NotPicklable",
        "nested too deeply",
    ),
    "dicts 200,000 deep": (
        "def bad():\n    deep = {}\n    for _ in range(200_000): deep = {1: deep}\n    return deep",
        "NotPicklable",
        "nested too deeply",
    ),
    "tuples 200,000 deep": (
        "def bad():\n    deep = ()\n    for _ in range(200_000): deep = (deep,)\n    return deep",
        "NotPicklable",
        "nested too deeply",
    ),
    "objects 200,000 deep": (
        """
        class Node:
            def __init__(self, next): self.next = next
        def bad():
            deep = None
            for _ in range(200_000): deep = Node(deep)
            return deep
        """,
        "NotPicklable",
        "nested too deeply",
    ),
    "a reduce that lies": (
        "class Liar:\n    def __reduce__(self): return 7\ndef bad(): return Liar()",
        "NotPicklable",
        "Liar",
    ),
    "a reduce without end": (
        "class Endless:\n    def __reduce__(self): return Endless, (), Endless()\ndef bad(): return Endless()",
        "NotPicklable",
        "nested too deeply",
    ),
}
"""What an item returns."""

GIVEN = {
    **{
        f"{kind} when it is loaded there": (
            f"""
import os, asyncio
def there(kind):
    if os.getpid() != HERE: raise kind('will not load there')
    return None
class Bad:
    def __reduce__(self): return there, ({kind},)
def bad(): return Bad()
""",
            "ItemExited" if kind in EXITS else kind,
            "will not load there",
        )
        for EXITS in [("SystemExit", "KeyboardInterrupt", "GeneratorExit", "asyncio.CancelledError", "StopIteration")]
        for kind in ("ValueError", "MemoryError", *EXITS)
    },
    "a missing class": (
        """
        import sys, types
        def bad():
            module = types.ModuleType('only_here')
            exec('class Only: ...', module.__dict__)
            sys.modules['only_here'] = module
            return module.Only()
        """,
        "ModuleNotFoundError",
        "only_here",
    ),
    **{
        f"{kind} when it is pickled": (
            f"class Bad:\n    def __reduce__(self): raise {kind}('said')\ndef bad(): return Bad()",
            "NotPicklable",
            f"{kind}: said",
        )
        for kind in ("ValueError", "SystemExit", "GeneratorExit", "StopIteration")
    },
    "lists 200,000 deep": (
        "def bad():\n    deep = []\n    for _ in range(200_000): deep = [deep]\n    return deep",
        "NotPicklable",
        "nested too deeply",
    ),
    "objects 200,000 deep": (
        """
        class Node:
            def __init__(self, next): self.next = next
        def bad():
            deep = None
            for _ in range(200_000): deep = Node(deep)
            return deep
        """,
        "NotPicklable",
        "nested too deeply",
    ),
}
"""What an item is given."""
