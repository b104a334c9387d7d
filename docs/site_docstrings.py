"""Docstrings of the package as mkdocstrings wants them; `mkdocs.yml` names this file."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:attr|class|func|meth|mod):`~?(?P<name>[\w.]+)`")


class Docstrings(griffe.Extension):
    """Sphinx roles become links, an ``Example:`` the section of that name."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Go through everything once all of the package is there, so that names resolve."""
        self._visit(pkg)

    def _visit(self, thing: griffe.Object) -> None:
        if thing.docstring:
            text = re.sub(r"^Example:$", "Examples:", thing.docstring.value, flags=re.MULTILINE)
            thing.docstring.value = ROLE.sub(lambda match: _link(match["name"], thing), text)
        for member in thing.members.values():
            if isinstance(member, griffe.Object):
                self._visit(member)


def _link(name: str, thing: griffe.Object) -> str:
    """A reference to what a docstring names, or the name alone if the site does not show it.

    Raises:
        KeyError: A name in full, ``mmquad.x.y``, does not exist.
    """
    try:
        path = name if name.startswith("mmquad.") else thing.resolve(name)
    except griffe.NameResolutionError:
        return f"`{name}`"
    if not path.startswith("mmquad."):
        return f"`{name}`"
    found = thing.package[path.removeprefix("mmquad.")]  # through what packages export, too
    path = found.canonical_path
    is_shown = found.has_docstring and not any(part.startswith("_") for part in path.split("."))
    return f"[`{name}`][{path}]" if is_shown else f"`{name}`"
