import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import unmask

PACKAGE = Path(unmask.__file__).parent
ROOMS = (
    "errors", "types", "parameters", "paths", "processes", "decision", "trust", "forgeries",
    "keys", "config", "media", "page", "faces", "forging", "synthetic", "sources", "data", "preparation", "models",
    "metrics", "tracking", "training",
    "evaluation", "inference", "web", "cli",
)  # fmt: skip
OPEN_TO_INFERENCE = {
    "errors", "types", "parameters", "paths", "processes", "decision", "trust", "forgeries",
    "media", "faces", "models.network", "models.checkpoint", "models.bundle", "models.heatmaps",
}  # fmt: skip
HEAVY = {"torch", "torchvision", "lightning", "mlflow", "pandas", "sklearn", "matplotlib", "albumentations", "cv2"}
DYNAMIC = {"import_module", "__import__", "resolve_name", "get_object", "get_class", "find_spec", "run_module"}
BY_TARGET = {"unmask.trust", "unmask.sources.recognition", "unmask.training.parts"}
"""Modules that import what a `_target_` names."""
FILES = {"unmask." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}


def walk(node: ast.AST, *, into_functions: bool) -> Iterator[ast.AST]:
    is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    is_for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    if into_functions or not (is_function or is_for_types):
        yield node
        for child in ast.iter_child_nodes(node):
            yield from walk(child, into_functions=into_functions)


@cache
def imports_of(module: str, *, into_functions: bool = True) -> frozenset[str]:
    found: set[str] = set()
    for node in walk(ast.parse(FILES[module].read_text()), into_functions=into_functions):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports with dots; write the full name"
            found |= ({f"{node.module}.{alias.name}" for alias in node.names} & FILES.keys()) or {str(node.module)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in DYNAMIC:
            found |= {each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and each.value in FILES}
    return frozenset(found)


def reached_from(module: str, *, into_functions: bool) -> set[str]:
    """Return the top names of everything that comes with a module, through our own modules too."""
    seen, todo = set[str](), [module]
    while todo:
        new = imports_of(todo.pop(), into_functions=into_functions) - seen
        seen |= new
        todo += new & FILES.keys()
    return {name.partition(".")[0] for name in seen}


def room_of(module: str) -> str:
    return module.split(".")[1]


def modules_in(*rooms: str) -> list[str]:
    return [module for module in FILES if room_of(module) in rooms]


def list_edges() -> list[tuple[str, str]]:
    return [(module, name) for module in modules_in(*ROOMS) for name in imports_of(module) if name in FILES]


def test_every_module_belongs_to_a_room() -> None:
    assert {room_of(module) for module in FILES} == {*ROOMS, "__init__"}
    assert {room_of(name) for edge in list_edges() for name in edge} == set(ROOMS)  # so the tests below see them all


def test_imports_go_one_way_through_the_rooms() -> None:
    assert not [edge for edge in list_edges() if ROOMS.index(room_of(edge[0])) < ROOMS.index(room_of(edge[1]))]


def test_nobody_imports_the_commands() -> None:
    assert not [edge for edge in list_edges() if room_of(edge[1]) == "cli" != room_of(edge[0])]


def test_inference_uses_only_what_a_service_needs() -> None:
    for module, name in list_edges():
        if room_of(module) == "inference" != room_of(name):
            assert {room_of(name), name.removeprefix("unmask.")} & OPEN_TO_INFERENCE, f"{module} imports {name}"


def test_inference_is_free_of_hydra_lightning_and_mlflow() -> None:
    for module in modules_in("inference"):
        found = reached_from(module, into_functions=True)
        assert not found & {"hydra", "omegaconf", "lightning", "torchmetrics", "mlflow"}, module


def test_commands_answer_before_heavy_imports() -> None:
    for module in modules_in("cli"):
        assert not reached_from(module, into_functions=False) & HEAVY, module


def test_media_and_inference_start_without_torch() -> None:
    for module in modules_in("media", "inference"):
        assert "torch" not in reached_from(module, into_functions=False), module


def test_imports_by_name_are_imports_of_a_target() -> None:
    for module, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in DYNAMIC - {"find_spec"}:
                named = [str(each.value) for each in ast.walk(node) if isinstance(each, ast.Constant)]
                assert not [name for name in named if name.startswith("unmask")], f"{module}:{node.lineno}"
                assert module in BY_TARGET, f"{module}:{node.lineno} imports by a name; import it, or take a _target_"


def test_an_import_within_a_function_or_by_its_name_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "def f():\n    from unmask.data import tables\n    importlib.import_module('unmask.models.network')\n"
    (tmp_path / "lazy.py").write_text(code)
    monkeypatch.setitem(FILES, "unmask.media.lazy", tmp_path / "lazy.py")
    assert {"unmask.data.tables", "unmask.models.network"} <= imports_of("unmask.media.lazy")


def test_every_pool_of_processes_says_how_they_start() -> None:
    # The default of Python depends on its version: forkserver from 3.14 on, where each imports torch anew.
    keywords = {"DataLoader": "multiprocessing_context", "ProcessPoolExecutor": "mp_context", "ProcessPool": "context"}
    silent = []
    for module, path in FILES.items():
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        for call in calls:
            wanted = keywords.get(ast.unparse(call.func).rpartition(".")[2])
            given = {keyword.arg or ast.unparse(keyword.value).partition("(")[0] for keyword in call.keywords}
            if wanted and not {wanted, "describe_loader"} & given:
                silent.append(f"{module}:{call.lineno}")
    assert silent == []


def test_no_module_is_a_drawer_for_everything() -> None:
    assert not {path.stem for path in FILES.values()} & {"utils", "util", "helpers", "common", "misc"}


def test_the_house_keeps_its_size() -> None:
    modules = [module for module, path in FILES.items() if path.name != "__init__.py"]
    fan_out = {module: {name for edge, name in list_edges() if edge == module} - {module} for module in modules}
    readers = [module for module in modules if module.startswith("unmask.sources.")]  # a file for each dataset
    folders = Counter(FILES[module].parent for module in modules if module not in readers)
    assert len(modules) - len(readers) <= 165  # 129 before the subjects of preparation and evaluation grew
    assert not [module for module, names in fan_out.items() if len(names) > 12]
    assert not [folder for folder, count in folders.items() if count > 16]


def test_no_module_binds_a_name_twice() -> None:
    def name_bound(node: ast.stmt) -> list[str]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return [] if "overload" in map(ast.unparse, node.decorator_list) else [node.name]
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        return [target.id for target in targets if isinstance(target, ast.Name)]

    bound = {
        module: Counter(name for node in ast.parse(path.read_text()).body for name in name_bound(node))
        for module, path in FILES.items()
    }
    assert not [(module, name) for module, names in bound.items() for name, count in names.items() if count > 1]


def test_no_file_is_longer_than_400_lines() -> None:
    assert not [module for module, path in FILES.items() if len(path.read_text().splitlines()) > 400]
