"""Layout of `src/unmask` against its bars: modules, fan-out, function length, modules in a folder, dynamic imports.

    python benchmarks/house.py [--verbose]

Fan-out of a module is the number of other modules of Unmask that it imports, at the top and inside functions, those
imported for types alone included. A function's length counts the lines of its body without its docstring. Modules are
files other than `__init__.py`.
"""

import ast
import statistics
import sys
from collections import Counter
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "src" / "unmask"
MODULES, FAN_OUT, NINE_IN_TEN, BODY, FOLDER = 140, 12, 6, 60, 16


def list_modules() -> dict[str, Path]:
    """Return the file of every module by its dotted name."""
    found = {}
    for path in sorted(SOURCES.rglob("*.py")):
        parts = path.relative_to(SOURCES.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def find_imports(tree: ast.Module, modules: set[str]) -> set[str]:
    """Return the modules of Unmask that one imports, lazily or not."""
    found = set()
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
            names = [name for name in names[:-1] if name in modules] or names[-1:]
        found |= {name for name in names if name in modules}
    return found


def measure_body(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function's body, without its docstring."""
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0  # type: ignore[operator]


def imports_own_by_name(tree: ast.Module) -> bool:
    """Tell whether a module passes a literal name of Unmask to `import_module`."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [call for call in calls if ast.unparse(call.func).rpartition(".")[2] == "import_module" and call.args]
    return any("unmask" in ast.unparse(call.args[0]) for call in named)


def main() -> None:
    """Print every figure beside its bar; exit code 1 where one is missed."""
    modules = list_modules()
    trees = {name: ast.parse(path.read_text()) for name, path in modules.items()}
    files = {name: path for name, path in modules.items() if path.name != "__init__.py"}
    fan_out = {name: len(find_imports(trees[name], set(modules)) - {name, "unmask"}) for name in files}
    bodies = {
        f"{name}.{node.name}": measure_body(node)
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    folders = Counter(str(path.parent.relative_to(SOURCES.parent)) for path in files.values())
    by_name = [name for name, tree in trees.items() if imports_own_by_name(tree)]
    num_lines = sum(len(path.read_text().splitlines()) for path in modules.values())
    figures = [
        ("modules", len(files), MODULES),
        ("largest fan-out", max(fan_out.values()), FAN_OUT),
        ("fan-out, 90th percentile", round(statistics.quantiles(fan_out.values(), n=10)[-1]), NINE_IN_TEN),
        ("longest function body", max(bodies.values()), BODY),
        ("modules in a folder", max(folders.values()), FOLDER),
        ("imports of own modules by name", len(by_name), 0),
    ]
    for what, figure, bar in figures:
        print(f"{what:32} {figure:4d}   bar {bar:4d}   {'held' if figure <= bar else 'missed'}")
    print(f"{'lines of src':32} {num_lines:,}")
    if "--verbose" in sys.argv[1:]:
        shown = (("fan-out", fan_out, FAN_OUT), ("body", bodies, BODY), ("modules", folders, FOLDER))
        for what, measured, bar in shown:
            for name, figure in sorted(measured.items(), key=lambda item: -item[1]):
                if figure > bar:
                    print(f"{what:10} {figure:4d}   {name}")
    sys.exit(any(figure > bar for _, figure, bar in figures))


if __name__ == "__main__":
    main()
