"""Heads of cells: what each of them says, or what is said of it. One empty line stands between two."""

from __future__ import annotations

_ACCEPTED = r"""
url in urls
url@0 in urls@7

url in urls -> pages
url@0 in urls@7 | -> pages

url in urls -> pages --concurrency 200 --timeout 10
url@0 in urls@7 | -> pages | concurrency@21=200@35 | timeout@39=10@49

url in urls -> pages --concurrency 200 --timeout 10 --retries 2
url@0 in urls@7 | -> pages | concurrency@21=200@35 | timeout@39=10@49 | retries@52=2@62

url in urls --concurrency=200 -> pages
url@0 in urls@7 | -> pages | concurrency@12=200@26

url in urls --concurrency = 200
url@0 in urls@7 | concurrency@12=200@28

i, url in enumerate(urls)
i, url@0 in enumerate(urls)@10

i, in pairs
i,@0 in pairs@6

a, *rest in rows
a, *rest@0 in rows@12

*first, last in rows -> lasts
*first, last@0 in rows@16 | -> lasts

(a, b) in pairs
(a, b)@0 in pairs@10

(i, (a, b)) in enumerate(pairs)
(i, (a, b))@0 in enumerate(pairs)@15

i, (a, *b), [c, d] in rows
i, (a, *b), [c, d]@0 in rows@22

a, a in pairs
a, a@0 in pairs@8

_ in range(3)
_@0 in range(3)@5

match in matches
match@0 in matches@9

naïve, größe in données -> œuvres --timeout 10
naïve, größe@0 in données@16 | -> œuvres | timeout@34=10@44

-> model
-> model

->model
-> model

--all
all

--all -> versions
-> versions | all

--all --bg
bg | all

--bg -> job
-> job | bg

-> job --bg
-> job | bg

--help
help

url in urls --help
url@0 in urls@7 | help

--timeout 10
timeout@0=10@10

-> model --timeout 60 --retries 1
-> model | timeout@9=60@19 | retries@22=1@32

x in xs->ys
x@0 in xs@5 | -> ys

x in xs->ys --bg
x@0 in xs@5 | -> ys | bg

x in f(a, b=[1, 2])[0].c
x@0 in f(a, b=[1, 2])[0].c@5

x in {"a": 1, "b": 2}
x@0 in {"a": 1, "b": 2}@5

x in (y for y in ys if y)
x@0 in (y for y in ys if y)@5

x in [y for ys in yss for y in ys]
x@0 in [y for ys in yss for y in ys]@5

x in {y for y in ys}
x@0 in {y for y in ys}@5

x in (a, b)
x@0 in (a, b)@5

x in ()
x@0 in ()@5

x in xs if c else ys
x@0 in xs if c else ys@5

x in xs if c in d else ys
x@0 in xs if c in d else ys@5

x in (xs if c else ys) or zs
x@0 in (xs if c else ys) or zs@5

x in xs or ys
x@0 in xs or ys@5

x in (n := f())
x@0 in (n := f())@5

x in await urls_of(site)
x@0 in await urls_of(site)@5

x in [await f(y) for y in ys]
x@0 in [await f(y) for y in ys]@5

x in (f(y) async for y in ys)
x@0 in (f(y) async for y in ys)@5

x in lambda: 3
x@0 in lambda: 3@5

x in map(lambda y: y - 1, ys)
x@0 in map(lambda y: y - 1, ys)@5

x in a - b
x@0 in a - b@5

x in a -1
x@0 in a -1@5

x in a - -b
x@0 in a - -b@5

x in a*-b
x@0 in a*-b@5

x in -a
x@0 in -a@5

x in a--b
x@0 in a--b@5

x in a --1
x@0 in a --1@5

x in ...
x@0 in ...@5

x in xs[1:2, ::3]
x@0 in xs[1:2, ::3]@5

x in xs@ys
x@0 in xs@ys@5

x in "a --bg -> b"
x@0 in "a --bg -> b"@5

x in 'it\'s --bg'
x@0 in 'it\'s --bg'@5

x in "--bg" '-> x' r"\""
x@0 in "--bg" '-> x' r"\""@5

x in f"{a!r:>{width}} --bg {{ -> {b['k']}" -> ys
x@0 in f"{a!r:>{width}} --bg {{ -> {b['k']}"@5 | -> ys

x in f'{x:"^10}' --bg
x@0 in f'{x:"^10}'@5 | bg

x in rf"\{a}\"" --bg
x@0 in rf"\{a}\""@5 | bg

x in f"}} --bg" f"{{{a}}} '" -> ys
x@0 in f"}} --bg" f"{{{a}}} '"@5 | -> ys

x in f"{a:{{'}': 5}['}']}}' --bg" -> ys
x@0 in f"{a:{{'}': 5}['}']}}' --bg"@5 | -> ys

x in f"\"{a}\"" --bg
x@0 in f"\"{a}\""@5 | bg

x in f(a, ---b, -- c, d =-e)
x@0 in f(a, ---b, -- c, d =-e)@5

x in ["--bg", (f"-> {b}", '#')]
x@0 in ["--bg", (f"-> {b}", '#')]@5

x in f(--a, "->")
x@0 in f(--a, "->")@5

x in xs # a comment --bg -> y
x@0 in xs@5

x in xs -> ys # a comment
x@0 in xs@5 | -> ys

--all # warm up
all

x in xs --timeout 10 -> ys --bg
x@0 in xs@5 | -> ys | timeout@8=10@18 | bg

x in xs --bg -> ys --timeout 10
x@0 in xs@5 | -> ys | timeout@19=10@29 | bg

x in xs --bg->ys
x@0 in xs@5 | -> ys | bg

x in xs --timeout 10->ys
x@0 in xs@5 | -> ys | timeout@8=10@18

x in xs --timeout n*2
x@0 in xs@5 | timeout@8=n*2@18

x in xs --timeout -n
x@0 in xs@5 | timeout@8=-n@18

x in xs --timeout n - 1
x@0 in xs@5 | timeout@8=n - 1@18

x in xs --timeout (10)
x@0 in xs@5 | timeout@8=(10)@18

x in xs --timeout 10 if slow else 1
x@0 in xs@5 | timeout@8=10 if slow else 1@18

x in xs --detach (y in ys) --timeout (1, 2)
x@0 in xs@5 | detach@8=(y in ys)@17 | timeout@27=(1, 2)@37

x in xs --timeout None
x@0 in xs@5 | timeout@8=None@18

x in xs --timeout (n := 5)
x@0 in xs@5 | timeout@8=(n := 5)@18

x in xs --retry-on ConnectionError
x@0 in xs@5 | retry_on@8=ConnectionError@19

x in xs --retry-on (ConnectionError, TimeoutError) --retries 3
x@0 in xs@5 | retry_on@8=(ConnectionError, TimeoutError)@19 | retries@51=3@61

x in xs --retry-on ConnectionError, TimeoutError
x@0 in xs@5 | retry_on@8=ConnectionError, TimeoutError@19

x in xs --retry_on OSError --on_error return --rerun_lost
x@0 in xs@5 | retry_on@8=OSError@19 | on_error@27=return@38 | rerun_lost@45

x in xs --on-error return
x@0 in xs@5 | on_error@8=return@19

x in xs --on-error=raise
x@0 in xs@5 | on_error@8=raise@19

x in xs --on-error "return"
x@0 in xs@5 | on_error@8="return"@19

x in xs --backoff exponential --batch auto --progress text
x@0 in xs@5 | backoff@8=exponential@18 | batch@30=auto@38 | progress@43=text@54

x in xs --backoff 2.5e-1 --batch 10
x@0 in xs@5 | backoff@8=2.5e-1@18 | batch@25=10@33

x in xs --label lambda u: u[-20:]
x@0 in xs@5 | label@8=lambda u: u[-20:]@16

x in xs --label lambda u, n=3: "a" if u in seen else f"--{u}"
x@0 in xs@5 | label@8=lambda u, n=3: "a" if u in seen else f"--{u}"@16

x in xs --label lambda: (yield)
x@0 in xs@5 | label@8=lambda: (yield)@16

x in xs --desc my pages -> ys
x@0 in xs@5 | -> ys | desc@8=my pages@15

x in xs --desc don't stop (yet) [ :-) --bg
x@0 in xs@5 | desc@8=don't stop (yet) [ :-)@15 | bg

x in xs --desc "my --pages -> here" --bg
x@0 in xs@5 | desc@8="my --pages -> here"@15 | bg

x in xs --desc f"{n} pages"
x@0 in xs@5 | desc@8=f"{n} pages"@15

x in xs --desc=pages # 1
x@0 in xs@5 | desc@8=pages@15

x in xs --desc C#, a-b--c -- d: e
x@0 in xs@5 | desc@8=C#, a-b--c -- d: e@15

x in xs --progress
x@0 in xs@5 | progress@8

x in xs --no-progress
x@0 in xs@5 | progress@8=False@8

x in xs --progress False
x@0 in xs@5 | progress@8=False@19

x in xs --progress=False
x@0 in xs@5 | progress@8=False@19

x in xs --no-rerun-lost --unpack --detach
x@0 in xs@5 | rerun_lost@8=False@8 | unpack@24 | detach@33

x in xs --no_rerun_lost --no-unpack --no-detach
x@0 in xs@5 | rerun_lost@8=False@8 | unpack@24=False@24 | detach@36=False@36

x in xs --rerun-lost n > 3 --seed 1 --rate 50 --window 10 --total 5
x@0 in xs@5 | rerun_lost@8=n > 3@21 | seed@27=1@34 | rate@36=50@43 | window@46=10@55 | total@58=5@66

x in lambda y=1: y
x@0 in lambda y=1: y@5

x in a-b
x@0 in a-b@5

x in xs --label lambda u=1: u
x@0 in xs@5 | label@8=lambda u=1: u@16
"""
"""Heads, and what they say: ``target@column in input@column | -> name | option@column=value@column | bg``."""

_REJECTED = r"""
urls
^^^^
there is no "in": say what each item is called, "url in urls", or leave urls out: the body then runs once

urls.items()
^^^^^^^^^^^^
there is no "in": say what each item is called, "x in urls.items()", or leave urls.items() out: the body then
runs once

enumerate(urls) -> pages
^^^^^^^^^^^^^^^
there is no "in": say what each item is called, "x in enumerate(urls)", or leave enumerate(urls) out: the body
then runs once

results --bg
^^^^^^^
there is no "in": say what each item is called, "result in results", or leave results out: the body then runs
once

class
^^^^^
there is no "in": a head reads url in urls -> pages --timeout 10

url of urls
^^^^^^^^^^^
there is no "in": a head reads url in urls -> pages --timeout 10

url: urls
^^^^^^^^^
there is no "in": a head reads url in urls -> pages --timeout 10

(url in urls)
^^^^^^^^^^^^^
leave out the brackets around the head

[f(url) for url in urls]
^^^^^^^^^^^^^^^^^^^^^^^^
this is a comprehension: write what stands behind its "for" here, and the rest as the body

(url for url in urls)
^^^^^^^^^^^^^^^^^^^^^
this is a comprehension: write what stands behind its "for" here, and the rest as the body

f(url) for url in urls
       ^^^
write what stands behind "for" here, and what is done with each item as the body

for url in urls
^^^
leave out "for": the head begins with what each item is called, url in urls

for i, url in enumerate(urls)
^^^
leave out "for": the head begins with what each item is called, url in urls

async for url in urls
^^^^^^^^^
leave out "async for": an asynchronous input is read as any other

pages = [url in urls]
      ^
the name of the results stands behind an arrow at the end: -> pages

pages = url in urls
      ^
the name of the results stands behind an arrow at the end: -> pages

url in urls:
           ^
leave out the colon: the head of a cell ends without one

url in urls -> pages:
                    ^
leave out the colon: the head of a cell ends without one

url in urls --bg:
                ^
leave out the colon: the head of a cell ends without one

url in urls;
           ^
leave out the semicolon: the head of a cell ends without one

url in urls: await fetch(url)
           ^
leave out the colon: the body stands in the lines below

url in urls if url
            ^^
filter the input: url in [url for url in urls if url]

i, url in enumerate(urls) if i > 3 and url --bg
                          ^^
filter the input: i, url in [(i, url) for i, url in enumerate(urls) if i > 3 and url]

x in xs for y in ys
        ^^^
there is one "in": for all pairs write x, y in itertools.product(xs, ys)

x in xs if x for y in ys
             ^^^
there is one "in": for all pairs write x, y in itertools.product(xs, ys)

x in xs, y in ys
       ^
there is one input: for several write x, y in zip(xs, ys), and brackets around a tuple

x in xs and y in ys
              ^^
there is one "in": for several inputs write x, y in zip(xs, ys)

x in xs in ys
        ^^
there is one "in": for several inputs write x, y in zip(xs, ys)

x in xs y in ys
        ^
y cannot stand behind xs: there is one input, so for several write x, y in zip(xs, ys)

x in (y in ys)
     ^^^^^^^^^
a comparison is True or False, and no input: write what there is to iterate

x in not xs
     ^^^^^^
a comparison is True or False, and no input: write what there is to iterate

x not in xs
  ^^^^^^
"not in" asks a question: say what each item is called, url in urls

x in xs, ys
       ^
there is one input: for several write x, y in zip(xs, ys), and brackets around a tuple

x in xs,
       ^
there is one input: for several write x, y in zip(xs, ys), and brackets around a tuple

x in *xs
     ^
leave out the star: the input itself is iterated

in urls
^^
no name stands before "in": say what each item is called, url in urls

url in
    ^^
no input stands behind "in": url in urls

url in -> pages
    ^^
no input stands behind "in": url in urls

url in --bg
    ^^
no input stands behind "in": url in urls

f(x) in xs
^^^^
f(x) is no target: an item is assigned to names only: url, or i, url, or a, *rest

1 in xs
^
1 is no target: an item is assigned to names only: url, or i, url, or a, *rest

"x" in xs
^^^
"x" is no target: an item is assigned to names only: url, or i, url, or a, *rest

x.y in xs
^^^
x.y is no target: an item is assigned to names only: url, or i, url, or a, *rest

x[0] in xs
^^^^
x[0] is no target: an item is assigned to names only: url, or i, url, or a, *rest

a, b.c in xs
   ^^^
b.c is no target: an item is assigned to names only: url, or i, url, or a, *rest

i, (a, 5) in xs
       ^
5 is no target: an item is assigned to names only: url, or i, url, or a, *rest

*rest in rows
^^^^^
*rest is no target: write names, url in urls or i, (a, *rest) in rows

*a, *b in rows
    ^^
*b is no target: only one name can take the rest

() in xs
^^
() is no target: an item is assigned to names only: url, or i, url, or a, *rest

True in xs
^^^^
True is no target: an item is assigned to names only: url, or i, url, or a, *rest

class in xs
^^^^^
class is no target: write names, url in urls or i, (a, *rest) in rows

i url in pairs
  ^^^
a comma is missing: i, url

(x := 1) in xs
 ^^^^^^
x := 1 is no target: an item is assigned to names only: url, or i, url, or a, *rest

await x in xs
^^^^^^^
await x is no target: an item is assigned to names only: url, or i, url, or a, *rest

__debug__ in xs
^^^^^^^^^
__debug__ is no target: an item is assigned to names only: url, or i, url, or a, *rest

lambda in xs
^^^^^^
lambda is no target: write names, url in urls or i, (a, *rest) in rows

größe, ñ.é in données
       ^^^
ñ.é is no target: an item is assigned to names only: url, or i, url, or a, *rest

x in xs ys
        ^^
ys cannot stand behind xs: -> ys gives the results that name, and a flag begins with --

x in xs as ys
        ^^
the name of the results stands behind an arrow: -> ys

x in xs async
        ^^^^^
async cannot stand behind xs: something is missing between them, or the two minus signs of a flag

x in ñ.é[0] ys
            ^^
ys cannot stand behind ñ.é[0]: -> ys gives the results that name, and a flag begins with --

x in None ys
          ^^
ys cannot stand behind None: -> ys gives the results that name, and a flag begins with --

x in "a" 'b' ys
             ^^
ys cannot stand behind "a" 'b': -> ys gives the results that name, and a flag begins with --

x in xs 5
        ^
5 cannot stand behind xs: something is missing between them, or the two minus signs of a flag

x in xs +
        ^
something is missing behind +

x in xs or
        ^^
something is missing behind or

x in xs = 5
     ^^
options are flags: %%aiopool --help lists those that exist

x in y := f()
       ^^
brackets are missing around what := belongs to

x in (yield)
     ^^^^^^^
"yield" has no meaning in the head of a cell: leave it out

x in xs$
       ^
$ is no sign of Python: leave it out

x in f(a b)
     ^^^^^^
the input is no expression of Python: f(a b)

x in 1_
     ^^
the input is no expression of Python: 1_

x in a --b
       ^^^
there is no flag --b: write --batch ..., or --bg for a job in the background

x in a -b
       ^^
-b is no flag, which has two minus signs and a whole word: write --batch ..., or --bg for a job in the
background, or a difference as a - b

x in xs -> a.b
           ^^^
a.b is no name: behind -> stands the name that the results get, -> pages

x in xs -> a, b
           ^^^^
one name stands behind ->: take a, and unpack it in the next cell

x in xs -> "x"
           ^^^
"x" is no name: behind -> stands the name that the results get, -> pages

x in xs -> a[0]
           ^^^^
a[0] is no name: behind -> stands the name that the results get, -> pages

x in xs -> (a)
           ^^^
(a) is no name: behind -> stands the name that the results get, -> pages

x in xs -> class
           ^^^^^
class is a word of Python's own and no name: choose another one

x in xs -> None
           ^^^^
None is a word of Python's own and no name: choose another one

x in xs -> 5
           ^
5 is no name: behind -> stands the name that the results get, -> pages

x in xs -> a -> b
             ^^
two arrows: the results get one name

x in xs ->
        ^^
no name stands behind ->: write -> pages

x in xs -> --bg
        ^^
no name stands behind ->: write -> pages

-> a b
     ^
b cannot stand behind -> a: a flag begins with --, and the input stands before the arrow

-> a timeout=10
     ^^^^^^^
options are flags: write --timeout 10

-> a, timeout=10
      ^^^^^^^
options are flags: write --timeout 10

-> a--bg
    ^
a flag needs a space before it

-> a = 5
   ^^^^^
a = 5 is no name: behind -> stands the name that the results get, -> pages

-> pages x in xs
         ^
x cannot stand behind -> pages: a flag begins with --, and the input stands before the arrow

x in xs => ys
        ^^
the arrow is written ->

x in xs > ys
        ^
the arrow is written with a minus sign: -> ys

x in xs --> ys
        ^^^
the arrow is written ->, with one minus sign

x in xs - > ys
        ^^^
the arrow is written without a blank: ->

x in xs --timeout
        ^^^^^^^^^
--timeout needs a value: --timeout 10

x in xs --timeout -> ys
        ^^^^^^^^^
--timeout needs a value: --timeout 10

x in xs --timeout=
        ^^^^^^^^^
--timeout needs a value: --timeout 10

x in xs --desc
        ^^^^^^
--desc needs a value: --desc my pages

x in xs --progress=
        ^^^^^^^^^^
--progress needs a value: --progress text

x in xs --timeout 10 --timeout 5
                     ^^^^^^^^^
--timeout stands here twice: leave out one of them

x in xs --on-error raise --on_error return
                         ^^^^^^^^^^
--on_error contradicts or repeats --on-error: leave out one of them

x in xs --progress --no-progress
                   ^^^^^^^^^^^^^
--no-progress contradicts or repeats --progress: leave out one of them

x in xs --bg --bg
             ^^^^
--bg stands here twice: leave out one of them

x in xs --timeout 10 20
                     ^^
20 cannot stand behind 10: something is missing between them, or the two minus signs of a flag

x in xs --timeout 10 pages
                     ^^^^^
pages cannot stand behind 10: -> pages gives the results that name, and a flag begins with --

x in xs --timeout 10, --bg
                    ^
leave out the comma: blanks stand between flags, and a tuple stands in brackets

x in xs --timeout 10: --bg
                    ^
leave out the colon: the head of a cell ends without one

x in xs --timeout * 2
                  ^^^
the value of --timeout is no expression of Python: * 2

x in xs --timeout await f()
                  ^^^^^^^^^
the value of --timeout cannot be awaited: do so in a cell before, and write its name here

x in xs --timeout [y async for y in ys]
                  ^^^^^^^^^^^^^^^^^^^^^
the value of --timeout cannot be awaited: do so in a cell before, and write its name here

x in xs --label (yield)
                ^^^^^^^
"yield" has no meaning in the head of a cell: leave it out

x in xs --label f(
                 ^
( is never closed: write its ); the head is one line, so what is long gets a name in a cell above

x in xs --retry-on OSError KeyError
                           ^^^^^^^^
KeyError cannot stand behind OSError: several classes stand in brackets, (ConnectionError, TimeoutError)

--timeout 10 x in xs
             ^
x cannot stand behind 10: the input stands before all flags

--detach x in xs
         ^^^^^^^
the input stands before all flags: x in xs --detach

--bg x in xs
     ^^^^^^^
--bg takes no value: the input stands before all flags: x in xs --bg

x in xs --bg pages
             ^^^^^
--bg takes no value: leave pages out, or write -> pages if the results get that name

x in xs --bg=True
             ^^^^
--bg takes no value: leave it out

x in xs --bg False
             ^^^^^
--bg takes no value: leave it out

x in xs --no-bg
        ^^^^^^^
--no-bg cannot be said: leave it out

x in xs --no-timeout
        ^^^^^^^^^^^^
--no-timeout cannot be said: leave it out, or give a value, --timeout 10

x in xs --no-progress x
                      ^
--no-progress takes no value: leave x out, or write -> x if the results get that name

x in xs --no-nothing
        ^^^^^^^^^^^^
there is no flag --no-nothing: %%aiopool --help lists those that exist

x in xs --help me
               ^^
--help takes no value: leave me out, or write -> me if the results get that name

x in xs --all
        ^^^^^
--all runs the body once on every worker and takes no input: leave out one of the two

--all --timeout 10
      ^^^^^^^^^
--timeout is for a map: --all runs the body once on every worker, and takes no such flag

--no-progress --all
^^^^^^^^^^^^^
--no-progress is for a map: --all runs the body once on every worker, and takes no such flag

x in xs -c 5
        ^^
-c is no flag, which has two minus signs and a whole word: write --concurrency 5

x in xs -c
        ^^
-c is no flag, which has two minus signs and a whole word: write --concurrency ..., or a difference as xs - c

-h
^^
-h is no flag, which has two minus signs and a whole word: write --help

x in xs -> ys -c 5
              ^^
-c is no flag, which has two minus signs and a whole word: write --concurrency 5

x in xs --bg -t 10
             ^^
-t is no flag, which has two minus signs and a whole word: write --timeout 10

x in xs -timeout 10
        ^^^^^^^^
-timeout is no flag, which has two minus signs and a whole word: write --timeout 10

-c 5 x in xs
^^
-c is no flag, which has two minus signs and a whole word: write --concurrency ...

x in xs timeout=10
        ^^^^^^^
options are flags: write --timeout 10

x in xs, timeout=10
         ^^^^^^^
options are flags: write --timeout 10

x in xs concurrency 10
        ^^^^^^^^^^^
concurrency cannot stand behind xs: options are flags, --concurrency 10

x in xs --
        ^^
no flag's name stands right behind --: a flag is written --timeout 10

x in xs -- timeout 10
        ^^
no flag's name stands right behind --: a flag is written --timeout 10

x in xs --=5
        ^^
no flag's name stands right behind --: a flag is written --timeout 10

x in xs ---timeout 10
        ^^^
a flag begins with two minus signs: --timeout 10

x in xs --timeout --10 --
                       ^^
no flag's name stands right behind --: a flag is written --timeout 10

x in xs --Timeout 10
        ^^^^^^^^^
there is no flag --Timeout: write --timeout 10

x in xs --time 10
        ^^^^^^
there is no flag --time: did you mean --timeout?

x in xs --conc 5
        ^^^^^^
there is no flag --conc: did you mean --concurrency?

x in xs --nothing-like-it
        ^^^^^^^^^^^^^^^^^
there is no flag --nothing-like-it: %%aiopool --help lists those that exist

x in f(xs
      ^
( is never closed: write its ); the head is one line, so what is long gets a name in a cell above

x in f(xs]
         ^
] does not close the ( before it: write )

x in xs)
       ^
) closes nothing: take it away, or open it before

x in {"a": (1, 2}
                ^
} does not close the ( before it: write )

x in "abc
     ^^^^
this string is never closed: write its "; the head is one line

x in 'abc"
     ^^^^^
this string is never closed: write its '; the head is one line

x in f"{a
     ^^^^
this string is never closed: write its "; the head is one line

x in f"{a)}"
         ^
) does not close the { before it: write }

x in f"{a[0)}"
           ^
) does not close the [ before it: write ]

x in xs --desc "abc
               ^^^^
this string is never closed: write its "; the head is one line

x in xs \
        ^
the head of a cell is one line: take \ away and write all of it here

x in "a" --bg "
              ^
this string is never closed: write its "; the head is one line

resize 8
^^^^^^
a command has one percent sign: %aiopool resize 8

cancel all
^^^^^^
a command has one percent sign: %aiopool cancel all

timeout=10 x in xs
^^^^^^^
options are flags: write --timeout

x in xs -> a timeout=10, bg=True
             ^^^^^^^
options are flags: write --timeout 10

x in xs, chunksize=5
         ^^^^^^^^^
options are flags: write --batch 5

x in xs --timeout: 10
                 ^
leave out the colon: a blank stands there

x in xs --timeout 10, retries=3
                      ^^^^^^^
options are flags: write --retries 3

x in xs bg=True
        ^^
options are flags: write --bg

x in a > b c
           ^
c cannot stand behind a > b: -> c gives the results that name, and a flag begins with --

x in - xs ys
          ^^
ys cannot stand behind - xs: -> ys gives the results that name, and a flag begins with --

x in lambda: (a b)
     ^^^^^^^^^^^^^
the input is no expression of Python: lambda: (a b)

x in xs async for
              ^^^
there is one "in": for all pairs write x, y in itertools.product(xs, ys)

x in a ... b
     ^^^^^^^
the input is no expression of Python: a ... b

async x in xs
^^^^^^^
async x is no target: write names, url in urls or i, (a, *rest) in rows

async
^^^^^
there is no "in": a head reads url in urls -> pages --timeout 10

url for url in urls
    ^^^
write what stands behind "for" here, and what is done with each item as the body

(x > 3)
^^^^^^^
there is no "in": say what each item is called, "x in (x > 3)", or leave (x > 3) out: the body then runs once

s
^
there is no "in": say what each item is called, "x in s", or leave s out: the body then runs once

ass
^^^
there is no "in": say what each item is called, "x in ass", or leave ass out: the body then runs once

urls.items
^^^^^^^^^^
there is no "in": say what each item is called, "x in urls.items", or leave urls.items out: the body then runs
once

x in xs as
        ^^
the name of the results stands behind an arrow: -> pages

-> __debug__
   ^^^^^^^^^
__debug__ is a word of Python's own and no name: choose another one

-> a timeout 10
     ^^^^^^^
timeout cannot stand behind -> a: options are flags, --timeout 10

x in xs --bg x y
             ^^^
--bg takes no value: leave it out

x in xs --bg 5
             ^
--bg takes no value: leave it out

x in xs --bg=
            ^
--bg takes no value: leave it out

x in xs --desc "a" b
                   ^
b cannot stand behind "a": -> b gives the results that name, and a flag begins with --

x in xs --label lambda u: u -> a.b
                               ^^^
a.b is no name: behind -> stands the name that the results get, -> pages

data
^^^^
there is no "in": say what each item is called, "x in data", or leave data out: the body then runs once

x in xs "a"
        ^^^
"a" cannot stand behind xs: something is missing between them, or the two minus signs of a flag
"""
"""Heads, where the caret stands, and what is said."""


def _blocks(table: str) -> list[list[str]]:
    """What stands between empty lines, line by line."""
    return [block.split("\n") for block in table.strip("\n").split("\n\n")]


ACCEPTED = _blocks(_ACCEPTED)
REJECTED = _blocks(_REJECTED)
