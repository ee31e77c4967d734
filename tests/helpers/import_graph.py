"""Which module of the package imports which, read from the source and not by importing it.

Imports inside functions and those for type annotations alone count like all others. Run as a script with the folder of
the package (by default src/sightline), it prints the rooms, the arrows between them and the circles of modules.
"""

import ast
import sys
from functools import cached_property
from pathlib import Path


class Source:
    """The modules of a package as syntax trees.

    Args:
        root: the folder of the package, whose name is the package's.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = {self._name(path): path for path in sorted(root.rglob("*.py"))}
        self.trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in self.files.items()}

    def _name(self, path: Path) -> str:
        parts = [self.root.name, *path.relative_to(self.root).with_suffix("").parts]
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def is_package(self, name: str) -> bool:
        return self.files[name].name == "__init__.py"

    def room(self, name: str) -> str:
        """The room of a module: the first name below the package's, or nothing for the package's own face."""
        return name.split(".")[1] if "." in name else ""

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """The modules of the package that each of its modules imports."""
        return {name: {found for node in ast.walk(tree) for found in self._imported(name, node)} - {name}
                for name, tree in self.trees.items()}  # fmt: skip

    def _imported(self, name: str, node: ast.AST) -> set[str]:
        if isinstance(node, ast.Import):
            return {alias.name for alias in node.names} & self.files.keys()
        if not isinstance(node, ast.ImportFrom):
            return set()
        base = node.module or ""
        if node.level:
            above = name.split(".")[: (1 if self.is_package(name) else 0) - node.level or None]
            base = ".".join([*above, *([node.module] if node.module else [])])
        # What is imported from a package is one of its modules, or else a name in its face.
        both = [(f"{base}.{alias.name}", base) for alias in node.names]
        return {module if module in self.files else face for module, face in both} & self.files.keys()

    @property
    def arrows(self) -> set[tuple[str, str]]:
        """Pairs of rooms of which the first imports from the second."""
        pairs = {(self.room(one), self.room(other)) for one, others in self.imports.items() for other in others}
        return {(one, other) for one, other in pairs if one != other}


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The sets of at least two modules that reach each other (Tarjan's strongly connected components)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in graph.get(name, ()):
            if other not in order:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == order[name]:
            position = stack.index(name)
            if len(stack) - position > 1:
                found.append(set(stack[position:]))
            del stack[position:]

    for name in graph:
        if name not in order:
            visit(name)
    return sorted(found, key=len, reverse=True)


def main(root: Path) -> None:
    source = Source(root)
    targets: dict[str, list[str]] = {}
    for one, other in sorted(source.arrows):
        targets.setdefault(one, []).append(other or root.name)
    for room in sorted({source.room(name) for name in source.files}):
        print(f"{room or root.name}: {', '.join(targets.get(room, ['-']))}")  # noqa: T201
    for circle in circles(source.imports):
        print(f"circle of {len(circle)}: {', '.join(sorted(circle))}")  # noqa: T201
    rooms = {source.room(name) for name in source.files}
    print(f"{len(source.files)} modules, {len(rooms)} rooms, {len(source.arrows)} arrows")  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "src/sightline").resolve())
