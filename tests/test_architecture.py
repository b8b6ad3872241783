"""The shape of the house: imports point downward, the lesson knows nothing of the rooms, and little lies at the top."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import battleship_grpo

PACKAGE = Path(battleship_grpo.__file__).parent
FLOORS = [  # from the ground up; within a floor imports may go anywhere but in a circle
    {"backend", "game", "env", "networks", "policy", "rollout", "advantages", "objectives", "optim", "algorithms"},
    {"players"}, {"runs"}, {"screens", "study"},
    {"train", "evaluate", "play", "compare", "benchmark", "preferences", "gym"},
]


def imports(path):
    """Modules of the package that a file imports, as paths; at its top, and inside of functions."""
    at_top, inside = set(), set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            for name in (alias.name for alias in node.names):
                target = next(p for p in (base / f"{name}.py", base / name / "__init__.py", base.with_suffix(".py"),
                                           base / "__init__.py") if p.is_file())
                (at_top if node in tree.body else inside).add(target)
    return at_top, inside


def floor(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return next((number for number, rooms in enumerate(FLOORS) if room in rooms), None)


FILES = [path for path in PACKAGE.rglob("*.py") if path.parent == PACKAGE or path.parent.parent == PACKAGE]
GRAPH = {path: imports(path) for path in FILES}


def test_imports_point_downward_and_never_in_a_circle():
    """But for the policy, whose `save` and `load` reach up for its file when they are called."""
    for path, (at_top, inside) in GRAPH.items():
        above = {target for target in at_top | inside if floor(path) is not None and (floor(target) or 0) > floor(path)}
        assert above <= ({PACKAGE / "runs" / "policy_file.py"} - at_top if path.name == "policy.py" else set()), path
    TopologicalSorter({path: at_top - {path} for path, (at_top, _) in GRAPH.items()}).prepare()


def test_minimal_stands_alone():
    assert GRAPH[PACKAGE / "minimal.py"] == (set(), set())


def test_the_top_shows_the_lesson_the_commands_and_the_rooms():
    entries = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert entries == set().union(*FLOORS, {"__init__", "__main__", "minimal"}) and len(entries) <= 24
