"""Turn docstrings into Markdown, as mkdocstrings reads them: doctests, ``::`` and roles."""

import re

import griffe

# An example: lines from ">>>" to the end of the paragraph.
EXAMPLE = re.compile(r"(?:^[ ]*>>>.*\n?)(?:^[ ]*\S.*\n?)*", re.M)
ROLE = re.compile(r":(?:class|func|meth|mod):`([^`]+)`")


def as_markdown(text: str) -> str:
    """Fence examples, drop the second colon before code, and turn roles into code.

    >>> as_markdown("See :func:`f`::")
    'See `f`:'
    """
    text = ROLE.sub(r"`\1`", re.sub(r"::$", ":", text, flags=re.M))
    return EXAMPLE.sub(fence, text)


def fence(example: re.Match) -> str:
    """Put an example into a fence at its own indentation."""
    lines = example[0].rstrip("\n").splitlines()
    indent = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
    return "\n".join([f"{indent}```pycon", *lines, f"{indent}```", ""])


class Docstrings(griffe.Extension):
    """Rewrite each docstring as it is loaded."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Rewrite the docstring of a module, class, function or value."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
