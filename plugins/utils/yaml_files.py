"""Read YAML that people write, without making objects, within limits, without losses."""

import copy
import functools
import os
from typing import Any

import yaml

from plugins.errors import InputError
from plugins.utils.io import read_text

# No file of settings comes near these; a hostile one would take minutes and gigabytes to expand.
DEPTH = 50
VALUES = 100_000


def read_yaml(path: str | os.PathLike) -> object:
    """Read the plain values in a YAML file in UTF-8.

    Raises:
        InputError: from ``read_text``, or the text is not YAML, names an object, gives a key
            twice, or nests or repeats too much; the message names file and line.
    """
    return parse_yaml(read_text(path), str(path))


def parse_yaml(text: str, source: str) -> object:
    """Read the plain values in YAML text; ``source`` names it in messages, see ``read_yaml``."""
    return copy.deepcopy(_parse(text, source))


@functools.lru_cache(maxsize=64)  # one process reads the configs that others are based on often
def _parse(text: str, source: str) -> object:
    try:
        loader = _PlainLoader(text)
        loader.name = source
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        why = " ".join(filter(None, (error.context, error.problem)))
        raise InputError(f"{_place(source, error.problem_mark)}: not YAML: {why}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{source}: not YAML: {' '.join(str(error).split())}") from error
    except InputError:
        raise
    # What a scalar raises that is none of its type: 2001-99-99, !!bool x, !!timestamp x.
    except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(f"{source}: a value is not of its YAML type ({why})") from error


def _place(source: str, mark: yaml.Mark | None) -> str:
    return f"{source}:{mark.line + 1}" if mark else source


class _PlainLoader(yaml.SafeLoader):
    """Load like PyYAML's safe loader, which makes no objects, with limits and no silent loss.

    PyYAML lets the second of two equal keys win, and expands aliases without end.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        # For each finished node, the number of its values and the depth of their nesting.
        self._sizes: dict[yaml.Node, tuple[int, int]] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        mark = self.peek_event().start_mark
        if self.check_event(yaml.AliasEvent):
            node = super().compose_node(parent, index)
            if node not in self._sizes:
                self._refuse("an alias inside of its own anchor", mark)
            return node
        self._depth += 1
        if self._depth > DEPTH:
            self._refuse(f"nested more than {DEPTH} deep", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        self._measure(node, mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if first := lines.get((key.tag, key.value)):
                    self._refuse(
                        f"the key '{key.value}' is given twice, first in line {first}",
                        key.start_mark,
                    )
                lines[key.tag, key.value] = key.start_mark.line + 1
        return node

    def _measure(self, node: yaml.Node | None, mark: yaml.Mark) -> None:
        assert node is not None
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        sizes = [self._sizes[child] for child in children]
        values = 1 + sum(size[0] for size in sizes)
        depth = 1 + max((size[1] for size in sizes), default=0)
        if depth > DEPTH:
            self._refuse(f"aliases nest more than {DEPTH} deep", mark)
        if values > VALUES:
            self._refuse(f"more than {VALUES:,} values, aliases counted each time", mark)
        self._sizes[node] = values, depth

    def _refuse(self, why: str, mark: yaml.Mark) -> None:
        raise InputError(f"{_place(self.name, mark)}: {why}")
