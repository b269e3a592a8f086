"""Which settings a tree needs, and in which order settings can be evaluated."""

from collections.abc import Mapping

from hpjax.study.space.tree import Comparison, Node, Reference, nodes


class Cycle(Exception):
    """Settings that refer to one another in a circle.

    Args:
      path: their names; each refers to the next, the last to the first.
    """

    def __init__(self, path: tuple[str, ...]):
        super().__init__(path)
        self.path = path


def needs(tree: Node) -> dict[str, int]:
    """Returns the settings that a tree refers to, each with the place where it is first."""
    found: dict[str, int] = {}
    for node in nodes(tree):
        if isinstance(node, (Reference, Comparison)):
            found[node.name] = min(node.at, found.get(node.name, node.at))
    return found


def order(trees: Mapping[str, Node], wanted: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """Returns names so that each stands behind those that it needs, else as given.

    Args:
      trees: trees by name; names that it does not hold are not followed.
      wanted: the names to evaluate, what they need is added; None for all.

    Raises:
      Cycle: settings refer to one another in a circle.
    """
    done: dict[str, None] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in done:
            return
        if name in path:
            raise Cycle(path[path.index(name) :])
        for other in needs(trees[name]):
            if other in trees:
                visit(other, (*path, name))
        done[name] = None

    for name in trees if wanted is None else wanted:
        visit(name, ())
    return tuple(done)
