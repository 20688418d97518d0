"""A JupyterLab and a Notebook 7 of this very interpreter, with settings of their own and nothing of the machine's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Literal

import aiopool
from tests import without

FrontEnd = Literal["lab", "notebook"]

STARTS_WITHIN = 90.0
ENDS_WITHIN = 10.0

_MODULES = {"lab": "jupyterlab", "notebook": "notebook"}
_EXPOSED = {"lab": "LabApp", "notebook": "JupyterNotebookApp"}
_SETTINGS = {
    # Nothing that pops up over what is looked at, and no cell taken out of the page because it is out of sight.
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "notebook-extension/tracker": {"windowingMode": "none", "autoStartDefaultKernel": True},
    "docmanager-extension/plugin": {"autosave": False},
    # What a kernel offers to Tab later than after a second would be left out.
    "completer-extension/manager": {"providerTimeout": 60_000},
}


class Server:
    """One Jupyter server with the notebooks of a folder, without a password, for this machine alone."""

    def __init__(self, front_end: FrontEnd, folder: Path) -> None:
        self.front_end = front_end
        self.notebooks = folder / "notebooks"
        self.notebooks.mkdir(parents=True)
        self.url = ""
        self._runtime = folder / "runtime"
        self._log = folder / "server.log"
        exposed = f"--{_EXPOSED[front_end]}.expose_app_in_browser=True"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", _MODULES[front_end]),
                    # Whichever is free: one that was looked for here may be taken by another by then.
                    *("--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"),
                    *("--IdentityProvider.token=", "--ServerApp.password=", "--ServerApp.disable_check_xsrf=True"),
                    *(f"--ServerApp.root_dir={self.notebooks}", "--LabApp.extension_manager=readonly", exposed),
                    # One that is installed beside us complains, in a dialog, when a notebook is open twice.
                    "--LanguageServerManager.autodetect=False",
                ],
                env=_environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait_until_it_answers()

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + STARTS_WITHIN
        while True:
            try:
                # Written when it listens; nobody else's server has this process's number and folder.
                told = json.loads((self._runtime / f"jpserver-{self._process.pid}.json").read_text(encoding="utf-8"))
                self.url = f"http://127.0.0.1:{told['port']}"
                urllib.request.urlopen(f"{self.url}/api", timeout=10).read()
            except (OSError, ValueError, urllib.error.URLError):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.close()
                    raise RuntimeError(f"the server did not start:\n{self._log.read_text()[-4000:]}") from None
                time.sleep(0.1)
            else:
                return

    def address(self, name: str) -> str:
        """Where the browser finds a notebook of the folder."""
        return f"{self.url}/lab/tree/{name}?reset" if self.front_end == "lab" else f"{self.url}/notebooks/{name}"

    def close(self) -> None:
        """End the server with its kernels."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(ENDS_WITHIN)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def _environment(folder: Path) -> dict[str, str]:
    """Ours, but for all that says where Jupyter and IPython keep their things."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "IPYTHON"))}
    config = folder / "config"
    for plugin, settings in _SETTINGS.items():
        path = config / "lab" / "user-settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings), encoding="utf-8")
    return inherited | {
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTER_CONFIG_DIR": str(config),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(config / "lab" / "user-settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(config / "lab" / "workspaces"),
        "IPYTHONDIR": str(folder / "ipython"),
        # Absolute: the tests may have been started with a relative one, and the kernel runs elsewhere.
        "PYTHONPATH": without.python_path(str(Path(aiopool.__file__).resolve().parent.parent)),
    }
