"""Pages of docstrings for mkdocs: one for each public module that api.md lists."""

import re
from pathlib import Path

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

FOLDER = "reference"
LIST = "api.md"
PACKAGE = "plugins"
MODULE = re.compile(r"^### `([\w.]+)`$", re.M)


def public_names(text: str) -> dict[str, list[str]]:
    """Read the names of each module from the page: those before the colon of a bullet."""
    part = text.split("\n## Names in Python\n", 1)[1].split("\n## ", 1)[0]
    _, *parts = MODULE.split(part)
    return {
        module: [
            name
            for bullet in re.split(r"^- ", bullets, flags=re.M)
            for name in re.findall(r"`(\w+)`", bullet.partition(":")[0])
        ]
        for module, bullets in zip(parts[::2], parts[1::2], strict=True)
    }


def has_docstring(package: griffe.Object, module: str, name: str) -> bool:
    """Tell whether a name is a class or function of the package, not a module or a value."""
    try:
        part = package[f"{module}.{name}".partition(".")[2]]
        return (part.is_class or part.is_function) and part.has_docstring
    except (griffe.GriffeError, KeyError):
        return False


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page of docstrings for each public module that has some."""
    text = Path(config.docs_dir, LIST).read_text(encoding="utf-8")
    # The source is read, not imported: a build needs no torch.
    root = Path(config.docs_dir).parent
    package = griffe.load(PACKAGE, search_paths=[root], allow_inspection=False)
    for module, names in public_names(text).items():
        blocks = [f"::: {module}.{name}" for name in names if has_docstring(package, module, name)]
        if blocks:
            page = "\n\n".join([f"# {module}", *blocks])
            files.append(File.generated(config, f"{FOLDER}/{module}.md", content=page))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Link the modules of the list with their pages."""
    if page.file.src_uri != LIST:
        return markdown
    pages = files.src_uris
    return MODULE.sub(
        lambda found: (
            f"### [`{found[1]}`]({FOLDER}/{found[1]}.md)"
            if f"{FOLDER}/{found[1]}.md" in pages
            else found[0]
        ),
        markdown,
    )
