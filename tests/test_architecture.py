"""The house keeps its plan: rooms in order, no circles, small files and signatures, faces, private modules, guests.

What still breaks a rule stands in `ALLOWED`, which only shrinks: an entry that is no longer true fails the test too.
"""

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from helpers.import_graph import Source, circles

# From top to bottom; each imports only from those below it. The package's own face, "", stands on top.
ROOMS = (
    "__main__", "cli", "app", "demo", "", "rendering", "study", "runs", "gad", "auditing", "evaluation", "explaining",
    "methods", ("sampling", "propagation", "aggregation"), "arrays", "models", "operations", "options",
    "_common", "errors",
)  # fmt: skip
# Examples of use, which nothing but a face above imports.
GUESTS = ("demo", "gad.reproduction")
HOSTS = ("__main__", "cli")
MOST_LINES, MOST_PARAMETERS = 400, 8

ALLOWED: dict[str, set[str]] = {}


@cache
def this_package() -> Source:
    return Source(Path(__file__).parents[1] / "src" / "sightline")


def short(source: Source, name: str) -> str:
    return name.removeprefix(source.root.name).removeprefix(".") or "sightline"


def arrow(source: Source, one: str, other: str) -> str:
    return f"{short(source, one)} -> {short(source, other)}"


def rank(room: str) -> int:
    """The height of a room, 0 at the top.

    Raises:
        StopIteration: the room is not in the table.
    """
    return next(at for at, level in enumerate(ROOMS) if room == level or (room and room in level))


def is_upward(source: Source, one: str, other: str) -> bool:
    here, there = source.room(one), source.room(other)
    return here != there and rank(there) <= rank(here)


def imports(source: Source) -> Iterator[tuple[str, str]]:
    return ((one, other) for one, others in source.imports.items() for other in others)


def upward_imports(source: Source) -> set[str]:
    return {arrow(source, one, other) for one, other in imports(source) if is_upward(source, one, other)}


def import_circles(source: Source) -> set[str]:
    """Circles within a room; one that leaves a room has an upward import, which is counted already."""
    graph = {
        one: {other for other in others if not is_upward(source, one, other)} for one, others in source.imports.items()
    }
    return {" ".join(sorted(short(source, name) for name in circle)) for circle in circles(graph)}


def long_files(source: Source) -> set[str]:
    return {
        short(source, name)
        for name, path in source.files.items()
        if len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES
    }


def exported(source: Source, face: str) -> set[str]:
    """The names in the `__all__` of a module."""
    for node in source.trees[face].body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def long_signatures(source: Source) -> set[str]:
    """Functions of more parameters than a reader keeps in mind, besides what the package itself offers to users."""
    public = exported(source, source.root.name)
    found = set()

    def visit(node: ast.AST, within: str, offered: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                visit(child, f"{within}.{child.name}", child.name in public)
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                taken = [*child.args.posonlyargs, *child.args.args, *child.args.kwonlyargs]
                taken = [argument.arg for argument in taken if argument.arg not in {"self", "cls"}]
                own = child.name == "__init__" or not child.name.startswith("_")
                is_public = (offered and own) if isinstance(node, ast.ClassDef) else child.name in public
                if len(taken) > MOST_PARAMETERS and not is_public:
                    found.add(f"{within}.{child.name}")
                visit(child, f"{within}.{child.name}", False)
            else:
                visit(child, within, offered)

    for name, tree in source.trees.items():
        visit(tree, short(source, name), False)
    return found


def public_modules(source: Source) -> set[str]:
    """Modules in a package that are neither packages nor private by their own name or that of a package around them."""
    return {
        short(source, name)
        for name in source.files
        if name.count(".") > 1 and not source.is_package(name)
        and not any(part.startswith("_") for part in name.split(".")[1:])
    }  # fmt: skip


def shadowed_functions(source: Source) -> set[str]:
    """Modules by the name of something that a user gets from the package."""
    public = exported(source, source.root.name)
    return {short(source, name) for name in source.files if name.rpartition(".")[2] in public}


def is_guest(source: Source, name: str) -> bool:
    return any(f"{short(source, name)}.".startswith(f"{guest}.") for guest in GUESTS)


def imported_guests(source: Source) -> set[str]:
    return {
        arrow(source, one, other)
        for one, other in imports(source)
        if is_guest(source, other) and not is_guest(source, one) and source.room(one) not in HOSTS
    }


def bypassed_faces(source: Source) -> set[str]:
    """Pairs of rooms of which one imports a private module of the other instead of what its package exports."""
    return {
        f"{source.room(one) or 'sightline'} -> {source.room(other)}"
        for one, other in imports(source)
        if source.room(one) != source.room(other) and source.room(other) not in {"", "_common"}
        and any(part.startswith("_") for part in other.split(".")[2:])
    }  # fmt: skip


RULES: dict[str, Callable[[Source], set[str]]] = {
    rule.__name__: rule
    for rule in (
        upward_imports,
        import_circles,
        long_files,
        long_signatures,
        public_modules,
        shadowed_functions,
        imported_guests,
        bypassed_faces,
    )
}


@pytest.mark.parametrize("rule", RULES)
def test_the_house_keeps_its_plan(rule):
    found, allowed = RULES[rule](this_package()), ALLOWED.get(rule, set())
    assert not found - allowed, f"{rule}: against docs/architecture.md; mend it rather than allowing it"
    assert not allowed - found, f"{rule}: mended; take it out of ALLOWED"


def test_every_room_and_guest_is_there():
    source = this_package()
    named = [room for level in ROOMS for room in ([level] if isinstance(level, str) else level)]
    assert sorted({source.room(name) for name in source.files}) == sorted(named)
    assert [guest for guest in GUESTS if f"sightline.{guest}" not in source.files] == []


@pytest.mark.parametrize(
    ("rule", "files", "expected"),
    [
        ("upward_imports", {"models/_a.py": "def f():\n    from sightline.arrays import x"}, {"models._a -> arrays"}),
        ("upward_imports", {"arrays/_a.py": "from sightline.models import x\nimport sightline.errors"}, set()),
        ("upward_imports", {"sampling/_a.py": "from sightline import propagation"}, {"sampling._a -> propagation"}),
        ("upward_imports", {"models/_a.py": "from sightline import __version__"}, {"models._a -> sightline"}),
        (
            "import_circles",
            {
                "models/_a.py": "from sightline.models._b import x",
                "models/_b.py": "if TYPE_CHECKING:\n    from sightline.models import _c",
                "models/_c.py": "def f():\n    from ._a import y",
                "models/_d.py": "from sightline.models import _a",
            },
            {"models._a models._b models._c"},
        ),
        ("long_files", {"models/_a.py": "x = 1\n" * 400, "models/_b.py": "x = 1\n" * 401}, {"models._b"}),
        (
            "long_signatures",
            {
                "models/_a.py": "def known(a, b, c, d, e, f, g, h, i): ...\n"
                "def f(a, b, c, d, /, e, *, f, g, h): ...\n"
                "def g(a, b, c, d, /, e, *, f, g, h, i):\n    def h(a, b, c, d, e, f, g, h, i): ...\n"
                "class Known:\n    def __init__(self, a, b, c, d, e, f, g, h, i): ...\n"
                "    def _own(self, a, b, c, d, e, f, g, h, i): ...\n"
                "class Other:\n    def __init__(self, a, b, c, d, e, f, g, h, i): ...\n"
                "    def fit(self, a, b, c, d, e, f, g, h): ...\n"
            },
            {"models._a.g", "models._a.g.h", "models._a.Known._own", "models._a.Other.__init__"},
        ),
        ("public_modules", {"models/a.py": "", "models/kinds/b.py": "", "_common/c.py": ""}, {"models.a"}),
        ("shadowed_functions", {"models/known.py": ""}, {"models.known"}),
        (
            "imported_guests",
            {"demo/_a.py": "", "gad/_b.py": "from sightline.demo import _a", "cli/_c.py": "import sightline.demo._a"},
            {"gad._b -> demo._a"},
        ),
        (
            "bypassed_faces",
            {
                "models/_a.py": "from sightline._common.words import counted\nfrom sightline.operations import wide",
                "models/_b.py": "from sightline.models._a import x\nfrom sightline.operations._linear import Linear",
                "operations/_linear.py": "",
            },
            {"models -> operations"},
        ),
    ],
)  # fmt: skip
def test_the_rules_bite(tmp_path, rule, files, expected):
    root = tmp_path / "sightline"
    for room in ("models", "arrays", "operations", "sampling", "propagation", "demo", "gad", "cli", "_common"):
        (root / room).mkdir(parents=True)
        (root / room / "__init__.py").touch()
    (root / "__init__.py").write_text('__all__ = ["Known", "known"]')
    for name in ("errors.py", "_common/words.py"):
        (root / name).touch()
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    if "models/kinds/b.py" in files:
        (root / "models" / "kinds" / "__init__.py").touch()
        expected = {*expected, "models.kinds.b"}
    assert RULES[rule](Source(root)) == expected


if __name__ == "__main__":
    for title, check in RULES.items():
        print(title, *sorted(check(this_package())), sep="\n    ")  # noqa: T201
