"""Tables of the shipped configs, made from ``model-index.yml`` and the metafiles it lists."""

from pathlib import Path
from typing import Any

import yaml

__all__ = ["read_metafiles", "zoo_pages"]

_INTRO = (
    "<!-- Written by tools/misc/generate_zoo_tables.py from metafile.yml: "
    "do not edit by hand. -->\n\n"
    "# {name}\n\n"
    "[{title}]({url}), on {data}.\n\n"
    "{note}\n\n"
)
_REPORTED = "not measured here"
_NOTE = (
    "Figures marked with a dagger are those **reported by the paper**: these configs have not been "
    "trained by us to the end. Parameters are counted from the configs."
)


def read_metafiles(root: str | Path) -> list[dict[str, Any]]:
    """Contents of the metafiles that ``model-index.yml`` in ``root`` lists.

    Raises:
        FileNotFoundError: A metafile is missing.
    """
    root = Path(root)
    index = yaml.safe_load((root / "model-index.yml").read_text())
    return [yaml.safe_load((root / path).read_text()) for path in index["Import"]]


def zoo_pages(root: str | Path) -> dict[Path, str]:
    """Markdown pages, one per collection, by the path its metafile gives as README.

    Raises:
        ValueError: A model names a collection that its metafile does not have.
    """
    pages = {}
    for content in read_metafiles(root):
        for collection in content["Collections"]:
            models = [m for m in content["Models"] if m["In Collection"] == collection["Name"]]
            if len(models) != len(content["Models"]):
                raise ValueError(f"expected all models in {collection['Name']}, one per metafile")
            pages[Path(root) / collection["README"]] = _page(collection, models)
    return pages


def _page(collection: dict[str, Any], models: list[dict[str, Any]]) -> str:
    intro = _INTRO.format(
        name=collection["Name"],
        title=collection["Paper"]["Title"],
        url=collection["Paper"]["URL"],
        data=collection["Metadata"]["Training Data"],
        note=_NOTE,
    )
    metrics = list(dict.fromkeys(k for m in models for k in _metrics(m)))
    header = ["config", "params (M)", *metrics]
    rows = [header, ["---"] * len(header)]
    for model in models:
        found = _metrics(model)
        config = Path(model["Config"]).name
        parameters = f"{model['Metadata']['Parameters'] / 1e6:.1f}"
        rows.append(
            [f"[{model['Name']}]({config})", parameters, *(found.get(k, "") for k in metrics)]
        )
    return intro + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _metrics(model: dict[str, Any]) -> dict[str, str]:
    return {
        name: f"{value}†" if _REPORTED in result.get("Source", "") else str(value)
        for result in model.get("Results", [])
        for name, value in result["Metrics"].items()
    }
