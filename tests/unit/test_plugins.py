"""Backends are found by name, only the named one is imported, and a broken one breaks only itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

from wgdisco.errors import MissingExtra, PluginError
from wgdisco.plugins import Available, build, built_in, find, install_hint, listed

Install = Callable[..., Path]

GOOD = """
from dataclasses import dataclass
import wgdisco

@dataclass
class Shelf(wgdisco.Backend):
    name = "shelf"
    async def get(self, slot): return []

@wgdisco.hookimpl
def wgdisco_backends(): return [Shelf]
"""


@pytest.fixture
def install(tmp_path, monkeypatch) -> Iterator[Install]:
    """Put a distribution with a module of its own and an entry point to it on the path."""
    before = set(sys.modules)

    def put(distribution: str, source: str, name: str = "shelf", *, module: str = "", requires: str = "") -> Path:
        folder = tmp_path / distribution
        module = module or distribution.replace("-", "_")
        about = folder / f"{module}-1.2.dist-info"
        about.mkdir(parents=True)
        (folder / f"{distribution.replace('-', '_')}.py").write_text(source)
        (about / "entry_points.txt").write_text(f"[wgdisco]\n{name} = {module}\n")
        needs = f"Requires-Dist: {requires}\n" if requires else ""
        (about / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\nSummary: On a shelf.\n{needs}"
        )
        monkeypatch.syspath_prepend(folder)
        return folder

    yield put
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def refused(name: str) -> str:
    with pytest.raises(PluginError) as caught:
        find(name)
    return str(caught.value)


def test_each_built_in_is_found_by_the_name_of_its_file() -> None:
    assert {name: find(name).name for name in built_in()} == {name: name for name in built_in()}
    assert "memory" in built_in()


def test_a_third_party_is_found_by_its_entry_point(install: Install) -> None:
    install("wgdisco-shelf", GOOD)
    assert build("shelf", {}).name == "shelf"


def test_the_cache_folder_is_given_to_the_backend() -> None:
    assert build("memory", {}, Path("/var/cache/x")).cache == Path("/var/cache/x")


def test_only_the_named_plugin_is_imported(install: Install) -> None:
    install("wgdisco-shelf", GOOD)
    install("wgdisco-thief", "raise AssertionError('imported')", "thief")
    find("shelf")
    find("memory")
    assert "wgdisco_shelf" in sys.modules
    assert "wgdisco_thief" not in sys.modules


def test_a_broken_plugin_breaks_only_itself(install: Install) -> None:
    install("wgdisco-shelf", GOOD)
    install("wgdisco-crooked", "raise SystemExit(3)", "crooked")
    assert refused("crooked") == "backend 'crooked' of wgdisco-crooked 1.2 is broken: SystemExit: 3"
    assert find("shelf").name == "shelf"
    assert "crooked" in [each.name for each in listed()]


IMPORTS = "import abc, wgdisco\nfrom dataclasses import dataclass\n"
OFFERS = "@wgdisco.hookimpl\ndef wgdisco_backends(): return "


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("raise OSError('no\\n disk')", "OSError: no disk"),
        ("class Stop(BaseException): pass\nraise Stop('here')", "Stop: here"),
        ("def f(:", "SyntaxError: invalid syntax (wgdisco_crooked.py, line 1)"),
        (
            "import wgdisco_crooked.part",
            "ModuleNotFoundError: No module named 'wgdisco_crooked.part'; 'wgdisco_crooked' is not a package",
        ),
        ("import wgdisco.of_tomorrow", "ModuleNotFoundError: No module named 'wgdisco.of_tomorrow'"),
        (
            f"{IMPORTS}def wgdisco_backends(): return []",
            "LookupError: wgdisco_crooked offers no backend; does wgdisco_backends() have @wgdisco.hookimpl?",
        ),
        (
            f"{IMPORTS}{OFFERS}wgdisco.Backend",
            "TypeError: wgdisco_backends() returned <class 'wgdisco.backend.Backend'>, expected a list of Backend classes",
        ),
        (
            f"{IMPORTS}{OFFERS}['crooked']",
            "TypeError: wgdisco_backends() returned 'crooked' in its list, expected subclasses of wgdisco.Backend",
        ),
        (
            f"{IMPORTS}{OFFERS}[int]",
            "TypeError: wgdisco_backends() returned <class 'int'> in its list, expected subclasses of wgdisco.Backend",
        ),
        (
            f"{IMPORTS}class C(wgdisco.Backend):\n name='straight'\n async def get(self, slot): ...\n{OFFERS}[C]",
            "LookupError: wgdisco_crooked offers 'straight'; `name` has to be the entry point's name",
        ),
        (
            f"{IMPORTS}class C(wgdisco.Backend, abc.ABC):\n @abc.abstractmethod\n def load(self): ...\n{OFFERS}[C]",
            "TypeError: C is abstract: it lacks load",
        ),
        (f"{IMPORTS}class C(wgdisco.Backend): name = 'crooked'\n{OFFERS}[C]", "TypeError: C has neither put nor get"),
        (
            f"{IMPORTS}class C(wgdisco.Backend):\n name='crooked'\n url: str\n async def get(self, slot): ...\n{OFFERS}[C]",
            "TypeError: C is no dataclass, so url would be no options: add @dataclass",
        ),
        (f"{IMPORTS}@wgdisco.hookimpl\ndef wgdisco_backends(): return 1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_broken_plugin_is_named_with_distribution_and_cause(install: Install, source: str, cause: str) -> None:
    install("wgdisco-crooked", source, "crooked")
    assert refused("crooked") == f"backend 'crooked' of wgdisco-crooked 1.2 is broken: {cause}"


def test_a_misspelt_hook_is_an_error(install: Install) -> None:
    folder = install("wgdisco-crooked", "import wgdisco\n@wgdisco.hookimpl\ndef wgdisco_backend(): ...", "crooked")
    assert refused("crooked") == (
        "backend 'crooked' of wgdisco-crooked 1.2 is broken: PluginValidationError: unknown hook 'wgdisco_backend' "
        f"in plugin <module 'wgdisco_crooked' from '{folder}/wgdisco_crooked.py'>"
    )


def test_a_hook_with_an_argument_that_there_is_not_is_an_error(install: Install) -> None:
    install("wgdisco-crooked", "import wgdisco\n@wgdisco.hookimpl\ndef wgdisco_backends(node): ...", "crooked")
    assert refused("crooked").endswith(
        "Argument(s) {'node'} are declared in the hookimpl but can not be found in the hookspec"
    )


def test_an_entry_point_to_nowhere_is_broken_and_nothing_to_install(install: Install) -> None:
    install("wgdisco-crooked", "", "crooked", module="nowhere.at_all")
    assert refused("crooked") == (
        "backend 'crooked' of wgdisco-crooked 1.2 is broken: ModuleNotFoundError: No module named 'nowhere'"
    )


def test_control_c_during_an_import_is_still_control_c(install: Install) -> None:
    install("wgdisco-crooked", "raise KeyboardInterrupt", "crooked")
    with pytest.raises(KeyboardInterrupt):
        find("crooked")


def test_two_distributions_with_one_name_are_refused(install: Install) -> None:
    install("wgdisco-shelf", GOOD)
    install("better-shelf", GOOD)
    assert refused("shelf") == (
        "backend 'shelf' is claimed by better-shelf 1.2 and by wgdisco-shelf 1.2; uninstall all but one"
    )
    problem = "never used: 2 distributions claim this name; uninstall all but one"
    assert [each for each in listed() if each.name == "shelf"] == [
        Available("shelf", "better-shelf 1.2", "On a shelf.", problem),
        Available("shelf", "wgdisco-shelf 1.2", "On a shelf.", problem),
    ]


def test_nobody_takes_the_name_of_a_built_in_over(install: Install) -> None:
    install("wgdisco-shelf", GOOD.replace('"shelf"', '"memory"'), "memory")
    assert find("memory").__module__ == "wgdisco.backends.memory"
    problem = "never used: a built-in backend has this name"
    assert Available("memory", "wgdisco-shelf 1.2", "On a shelf.", problem) in listed()


def test_an_unknown_name_is_answered_with_the_nearest(install: Install) -> None:
    install("wgdisco-shelf", GOOD)
    assert refused("shlef") == "there is no backend 'shlef'; did you mean 'shelf'?"
    assert refused("memroy") == "there is no backend 'memroy'; did you mean 'memory'?"


@pytest.mark.parametrize("name", ["zzz", "", "..", "__init__"])
def test_an_unknown_name_like_no_other_is_answered_with_all(install: Install, name: str) -> None:
    install("wgdisco-shelf", GOOD)
    names = ", ".join(sorted([*built_in(), "shelf"]))
    assert refused(name) == f"there is no backend {name!r}; there are: {names}"


def test_a_missing_library_of_a_third_party_names_its_distribution(install: Install) -> None:
    install("wgdisco-shelf", "import plank_of_wood.nails")
    with pytest.raises(MissingExtra) as caught:
        find("shelf")
    assert str(caught.value) == "backend 'shelf' needs plank_of_wood; install it with: pip install wgdisco-shelf"


@pytest.fixture
def built_in_folder(tmp_path, monkeypatch) -> Path:
    """Instead of wgdisco/backends/."""
    import wgdisco.backends

    monkeypatch.setattr("wgdisco.plugins.BUILT_IN", tmp_path)
    monkeypatch.setattr(wgdisco.backends, "__path__", [str(tmp_path)])
    return tmp_path


def test_a_built_in_is_added_by_adding_a_file(built_in_folder: Path) -> None:
    (built_in_folder / "shelf.py").write_text(f'"""On a shelf.\n\nMore."""\n{GOOD}')
    assert (find("shelf").__module__, listed()) == (
        "wgdisco.backends.shelf",
        [Available("shelf", "built in", "On a shelf.")],
    )


def test_a_missing_library_of_a_built_in_names_the_extra(built_in_folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(metadata, "requires", lambda _: ["msgspec>=0.19", 'plank[nails]>=1; extra == "wood"'])
    (built_in_folder / "wood.py").write_text("import plank_of_wood")
    with pytest.raises(MissingExtra) as caught:
        find("wood")
    assert str(caught.value) == "backend 'wood' needs plank_of_wood; install it with: pip install 'wgdisco[wood]'"
    assert listed()[0].missing == "needs plank; install it with: pip install 'wgdisco[wood]'"


def test_a_library_without_an_extra_is_installed_by_its_own_name() -> None:
    assert install_hint("memory", "numpy") == "needs numpy; install it with: pip install numpy"


def test_the_list_names_origin_summary_and_what_is_missing_without_importing(install: Install) -> None:
    install("wgdisco-shelf", "raise AssertionError('imported')", requires="plank-of-wood>=1,<2")
    install("wgdisco-board", "raise AssertionError('imported')", "board", requires="plank; extra == 'test'")
    rows = {each.name: each for each in listed()}
    missing = "needs plank-of-wood; install it with: pip install wgdisco-shelf"
    assert rows["shelf"] == Available("shelf", "wgdisco-shelf 1.2", "On a shelf.", missing)
    assert rows["board"] == Available("board", "wgdisco-board 1.2", "On a shelf.", None)
    assert rows["memory"] == Available(
        "memory",
        "built in",
        "A store in this process's memory, for tests: stores of one `room` share what is in them, and push.",
        None,
    )
    assert [each.name for each in listed()] == sorted(rows)


def loaded_by(code: str) -> set[str]:
    script = f"import sys\nfrom wgdisco import plugins\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_built_in_costs_no_look_at_installed_packages() -> None:
    loaded = loaded_by("plugins.find('memory')")
    assert loaded & {"importlib.metadata", "msgspec", "difflib", "nacl"} == set()
    backends = {name for name in loaded if name.startswith("wgdisco.backends.")}
    assert backends == {"wgdisco.backends.memory"}


def test_the_list_imports_no_backend() -> None:
    loaded = loaded_by("plugins.listed()")
    assert {name for name in loaded if name.startswith("wgdisco.backend")} == set()
    assert loaded & {"asyncio", "pluggy", "msgspec"} == set()
