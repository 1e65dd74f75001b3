"""How our code looks, as far as a machine can hold it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "kubeloop"
FUNCTION_MAX = 70
FILE_MAX = 500
MODULES = sorted(PACKAGE.rglob("*.py"))

# Time, chance and the outside world come in through the seams only; these are the seams, and the
# edges of the program that have no simulation.
SEAMS = {
    "time": {
        "actors/world.py",
        "cli/soak.py",
        "cluster.py",
        "net/userspace/worker.py",
        "sim/inside.py",
    },
    "random": {
        "actors/world.py",
        "actors/tapes/seams.py",
        "cluster.py",
        "net/userspace/worker.py",
        "stores.py",
        "sim",
        "chaos",
    },
    "uuid": {"sim/inside.py"},
    "secrets": {"endpoint.py"},
    "socket": {"net", "actors/runtimes", "sim", "process_nodes.py"},
    "subprocess": {
        "actors/runtimes",
        "net/userspace/workers.py",
        "sim/threads.py",
        "sim/twin.py",
    },
}
BANNED_CALLS = {
    ("time", "sleep"),
    ("asyncio", "get_event_loop"),
    ("datetime", "now"),
    ("datetime", "utcnow"),
}


def relative(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_module_tells_what_it_is_and_stays_small(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module begins with a docstring"
    assert len(text.splitlines()) <= FILE_MAX
    for function in functions(tree):
        length = (function.end_lineno or 0) - function.lineno + 1
        assert length <= FUNCTION_MAX, f"{function.name} has {length} lines"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_the_world_comes_in_through_the_seams(path: Path) -> None:
    tree = ast.parse(path.read_text())
    where = relative(path)
    for name in imports(tree):
        allowed = SEAMS.get(name)
        if allowed is not None:
            assert any(where == seam or where.startswith(f"{seam}/") for seam in allowed), (
                f"{where} imports {name}: take it from the world instead"
            )
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if isinstance(owner, ast.Name):
                assert (owner.id, node.func.attr) not in BANNED_CALLS, (
                    f"line {node.lineno} calls {owner.id}.{node.func.attr}"
                )


def test_no_module_is_dead() -> None:
    """Every module is imported by another, or is an entry point."""
    entries = {
        "kubeloop.cli.main", "kubeloop.cluster", "kubeloop.pytest_plugin",
        "kubeloop.actors.runtimes.sandbox.zygote", "kubeloop.net.userspace.worker",
        "kubeloop.net.loop_forwarder", "kubeloop.store.causality",
    }  # fmt: skip
    named: set[str] = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                named.add(node.module)
                named.update(f"{node.module}.{alias.name}" for alias in node.names)
            elif isinstance(node, ast.Import | ast.ImportFrom):  # The latter: from . import x
                named.update(alias.name for alias in node.names)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                named.add(node.value)  # Modules that are loaded by name, or run as a script.
    for path in MODULES:
        if path.name == "__init__.py":
            continue
        module = "kubeloop." + relative(path).removesuffix(".py").replace("/", ".")
        by_name = module in named or path.stem in named or path.name in named
        assert by_name or module in entries, f"nobody imports {module}"


def test_the_tree_names_no_machine() -> None:
    homes = ("/" + "root/", "/" + "work/", "/" + "home/")
    for path in [*MODULES, *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for home in homes:
            assert home not in path.read_text(), f"{path} names a path of somebody's machine"


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]
