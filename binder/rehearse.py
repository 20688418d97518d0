"""Do what Binder's build would do, in a bare virtual environment, and then run every notebook there: `make binder`.

The image has a JupyterLab and an ipykernel of its own, in the versions that repo2docker has locked; these come first,
so that what the requirements must lift is there to be lifted. In the end a server is started as the image starts it,
and asked for its first page.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / "build" / "binder"
HOME = PLACE / "home"
ENVIRONMENT = PLACE / "environment"
FIRST_PAGE = "/lab/tree/notebooks/01-quickstart.ipynb"
LEFT_OUT = shutil.ignore_patterns(".*", "build", "dist", "__pycache__", "*.egg-info")
SERVER_SECONDS = 60


def main() -> int:
    """Build and run; the exit code is 1 if a notebook fails."""
    wanted = (ROOT / "binder" / "runtime.txt").read_text(encoding="utf-8").strip()
    python = interpreter(wanted)
    print(f"Binder takes {wanted}, and so does this: {python}", flush=True)
    if PLACE.exists():
        shutil.rmtree(PLACE)
    shutil.copytree(ROOT, HOME, ignore=LEFT_OUT)
    subprocess.run([python, "-m", "venv", str(ENVIRONMENT)], check=True)
    pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    run([*pip, *base_image(wanted)], "what the base image has")
    run([*pip, "-r", "binder/requirements.txt"], "requirements.txt")
    run(["bash", "binder/postBuild"], "postBuild")
    run([str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "check"], "whether all versions agree")
    failed = [notebook.name for notebook in sorted((HOME / "notebooks").glob("*.ipynb")) if not plays(notebook)]
    first = first_page()
    print(f"The first page is {first}")
    if first != FIRST_PAGE:
        failed.append("the first page")
    print(f"Failed: {', '.join(failed)}" if failed else "Binder would show all of it.")
    return 1 if failed else 0


def interpreter(runtime: str) -> str:
    """Where a Python of the image's version is: what is pinned need not exist for another."""
    version = runtime.removeprefix("python-")
    asked = "import sys; print('{}.{}'.format(*sys.version_info))"
    for python in (sys.executable, f"python{version}"):
        try:
            told = subprocess.run([python, "-c", asked], check=False, capture_output=True, text=True).stdout
        except FileNotFoundError:
            continue
        if told.strip() == version:
            return python
    name = f".venv-{version}"
    raise SystemExit(
        f"Binder takes Python {version}, and what is pinned is for that; there is no python{version} here, and this is "
        f"{sys.version.split()[0]}. Name one: make binder VENV={name} PYTHON=/path/to/python{version}"
    )


def base_image(runtime: str) -> list[str]:
    """What matters of the image's own packages, as requirements; repo2docker has them in a lock of conda's."""
    found = find_spec("repo2docker")
    if found is None or found.origin is None:
        raise SystemExit("jupyter-repo2docker is not installed here: it knows what the image has")
    version = runtime.removeprefix("python-")
    lock = Path(found.origin).parent / "buildpacks" / "conda" / f"environment.py-{version}-linux-64.lock"
    named = re.findall(
        r"/(ipykernel|ipywidgets|jupyterlab|notebook|jupyter_server)-(\d[\d.]*)-", lock.read_text(encoding="utf-8")
    )
    return [f"{package}=={number}" for package, number in named]


def run(command: list[str], what: str) -> None:
    """Run it as the image does: at the root of the repository, with the environment's own programs."""
    started = time.monotonic()
    subprocess.run(command, cwd=HOME, env=variables(), check=True)
    print(f"{what}: {time.monotonic() - started:.0f} s", flush=True)


def variables() -> dict[str, str]:
    """An environment like the image's; Binder gives one or two processors and says so."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "PYTHON", "VIRTUAL"))}
    return kept | {"PATH": f"{ENVIRONMENT / 'bin'}{os.pathsep}{kept.get('PATH', '')}", "CPU_LIMIT": "2"}


def plays(notebook: Path) -> bool:
    """Whether every cell runs."""
    started = time.monotonic()
    command = ["python", "notebooks/_run.py", f"notebooks/{notebook.name}", str(PLACE / notebook.name)]
    done = subprocess.run(command, cwd=HOME, env=variables(), check=False, stdout=subprocess.DEVNULL)
    print(f"{notebook.name}: {'FAILED' if done.returncode else 'ok'}, {time.monotonic() - started:.0f} s", flush=True)
    return done.returncode == 0


def first_page() -> str:
    """Where a server, started as the image starts it, sends who comes to its door."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with served(port):
        deadline = time.monotonic() + SERVER_SECONDS
        while time.monotonic() < deadline:
            door = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            try:
                door.request("GET", "/")
                return (door.getresponse().getheader("Location") or "").partition("?")[0]
            except OSError:
                time.sleep(0.2)
            finally:
                door.close()
    raise SystemExit("the server did not answer")


@contextmanager
def served(port: int) -> Iterator[None]:
    """A server, as the image's own command starts it, without a password."""
    command = ["jupyter", "notebook", "--ip=127.0.0.1", f"--port={port}", "--no-browser", "--allow-root"]
    server = subprocess.Popen(
        [*command, "--IdentityProvider.token="],
        cwd=HOME,
        env=variables(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        server.terminate()
        server.wait(20)


if __name__ == "__main__":
    sys.exit(main())
