"""What a cell changes in the kernel's process holds in the workers of the next job, and so does an edited module."""

from __future__ import annotations

import pytest

from tests.kernel.harness import Kernel

pytestmark = pytest.mark.kernel

USE = """
import helper
def use(x):
    import helper
    return helper.f(x)
"""


def edit(kernel: Kernel, returns: str) -> None:
    """Write helper.py. Each form is of another length: Python takes two of one second and one length for the same."""
    (kernel.cwd / "helper.py").write_text(f"def f(x):\n    return {returns}\n")


@pytest.mark.core
def test_changes_of_the_kernels_process_reach_the_next_job(own_kernel: Kernel) -> None:
    """Made by code and by magics, after the workers have started."""
    (own_kernel.cwd / "sub" / "lib").mkdir(parents=True)
    (own_kernel.cwd / "sub" / "lib" / "found.py").write_text("X = 'there'")
    own_kernel.run(
        """
        async def see(_):
            try:
                import found
                there = found.X
            except ImportError:
                there = None
            return [os.environ.get("MINE"), os.environ.get("YOURS"), os.path.basename(os.getcwd()), there]
        await pmap(see, range(4), batch=1)
        """
    )
    own_kernel.run('os.environ["MINE"] = "1"\n%env YOURS=2\n%cd -q sub\nsys.path.append("lib")')
    assert own_kernel.value("await pmap(see, range(4), batch=1)") == [["1", "2", "sub", "there"]] * 4
    own_kernel.run('del os.environ["MINE"]\nos.chdir("..")')
    # Not whether it finds the module: what was relative to the other folder is found where it was imported already.
    assert own_kernel.value("(await pmap(see, [0]))[0][:3]") == [None, "2", own_kernel.cwd.name]


@pytest.mark.core
def test_lines_that_items_log_stand_under_the_cell(own_kernel: Kernel) -> None:
    """From the level on, and in the format, that a cell has set after the workers have started."""
    own_kernel.run(
        """
        import logging
        def work(x):
            logging.getLogger("mine").info("info %d", x)
            logging.getLogger("mine").debug("debug %d", x)
            return x
        await pmap(work, [1])
        """
    )
    cell = own_kernel.run(
        'logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")\nawait pmap(work, [7])'
    )
    assert cell.printed("stderr") == "[item 0] mine: info 7\n"
    cell = own_kernel.run('logging.getLogger("mine").setLevel(logging.WARNING)\nawait pmap(work, [7])')
    assert cell.printed() == ""


def test_warnings_that_a_cell_has_silenced_are_silent_in_workers(own_kernel: Kernel) -> None:
    """Also those of a class of the notebook's own; and those made errors are errors."""
    own_kernel.run(
        """
        import warnings
        class Mine(UserWarning):
            pass
        def warn(text):
            warnings.warn(text, Mine)
        """
    )
    assert "Mine: loud" in own_kernel.run('await pmap(warn, ["loud"])').printed("stderr")
    assert own_kernel.run('warnings.simplefilter("ignore", Mine)\nawait pmap(warn, ["silent"])').printed() == ""
    cell = own_kernel.fail('warnings.simplefilter("error", Mine)\nawait pmap(warn, ["an error"])')
    assert cell.error is not None
    assert cell.error["ename"] == "Mine"


@pytest.mark.core
@pytest.mark.parametrize(
    "before", ["", "import importlib; importlib.reload(helper)", "%load_ext autoreload\n%autoreload 2"]
)
@pytest.mark.parametrize("function", ["use", "helper.f"])
def test_a_module_that_was_edited_is_used_in_its_new_form(own_kernel: Kernel, before: str, function: str) -> None:
    """Whether the kernel has loaded it again, or has not; a function of a cell that uses it, and one of its own."""
    edit(own_kernel, "x + 1")
    own_kernel.run(USE)
    assert own_kernel.value(f"await pmap({function}, [1, 2])") == [2, 3]
    edit(own_kernel, "x * 10")
    own_kernel.run(before or "pass")
    assert own_kernel.value(f"await pmap({function}, [1, 2])") == [10, 20]
    edit(own_kernel, "x * 1000")
    own_kernel.run("pass" if "autoreload" in before else before or "pass")
    assert own_kernel.value(f"await pmap({function}, [1, 2])") == [1000, 2000]
    own_kernel.until(lambda: len(own_kernel.children()) <= 2, "the end of the older workers")


def test_editing_modules_can_be_left_alone(own_kernel: Kernel) -> None:
    """``configure(reload_modules=False)``: workers keep the form that they have imported."""
    edit(own_kernel, "x + 1")
    own_kernel.run("aiopool.configure(reload_modules=False)\n" + USE)
    assert own_kernel.value("await pmap(use, [1])") == [2]
    edit(own_kernel, "x * 10")
    assert own_kernel.value("await pmap(use, [1])") == [2]
    own_kernel.run("aiopool.configure(reload_modules=True)")
    assert own_kernel.value("await pmap(use, [1])") == [10]


def test_an_item_plots_without_a_word(own_kernel: Kernel) -> None:
    """The kernel draws into its cells, which a worker cannot: there, ``show`` closes the figure, and saving works."""
    own_kernel.run(
        """
        import matplotlib.pyplot as plt
        def plot(x):
            import matplotlib.pyplot as plt
            plt.figure()
            plt.plot([1, 2, x])
            plt.savefig(f"{x}.png")
            plt.show()
            return len(plt.get_fignums())
        """
    )
    cell = own_kernel.run("await pmap(plot, range(3))")
    assert (cell.value, cell.printed(), cell.printed("stderr")) == ([0, 0, 0], "", "")
    assert all((own_kernel.cwd / f"{x}.png").stat().st_size for x in range(3))
