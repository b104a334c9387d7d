"""The card of a model: what it is, how it is used, and only figures that were measured."""

from collections.abc import Mapping
from typing import Any

import yaml

__all__ = ["model_card"]

_TASKS = {
    "mmpretrain": "image-classification",
    "mmdet": "object-detection",
    "mmseg": "image-segmentation",
}
_SHOWN = 20


def model_card(facts: Mapping[str, Any], sha256: str) -> str:
    """Markdown with the front matter of the Hugging Face hub.

    Args:
        facts: What :func:`mmquad.publishing.export_hub` writes as ``config.json``.
        sha256: Of ``model.safetensors``.
    """
    front = yaml.safe_dump(_front_matter(facts), sort_keys=False, allow_unicode=True)
    sections = [
        f"---\n{front}---\n\n# {facts['name']}\n\n{_introduction(facts)}",
        _use(facts),
        _preprocessing(facts["preprocessing"]),
        _metrics(facts),
        _origin(facts, sha256),
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(facts: Mapping[str, Any]) -> dict[str, Any]:
    task = _TASKS[facts["library"]]
    front: dict[str, Any] = {"license": facts["license"]} if facts["license"] else {}
    front |= {"library_name": "mmquad", "pipeline_tag": task}
    front["tags"] = ["state-space-model", facts["model"].lower(), facts["library"]]
    if facts["metrics"] and facts["dataset"]:
        measured = [
            {"type": name.rpartition("/")[2], "name": name, "value": value}
            for name, value in facts["metrics"].items()
        ]
        dataset = {"type": facts["dataset"].lower(), "name": facts["dataset"]}
        result = {"task": {"type": task}, "dataset": dataset, "metrics": measured}
        front["model-index"] = [{"name": facts["name"], "results": [result]}]
    return front


def _introduction(facts: Mapping[str, Any]) -> str:
    task = _TASKS[facts["library"]].replace("-", " ")
    text = (
        f"A model for {task}, of {facts['library']}, on {facts['model']} as mmquad has it: "
        f"{facts['parameters']:,} parameters in all."
    )
    classes = facts["dataset_meta"].get("classes") or []
    if classes:
        more = ", ..." if len(classes) > _SHOWN else ""
        text += f"\n\n{len(classes)} classes: {', '.join(classes[:_SHOWN])}{more}."
    return text


def _use(facts: Mapping[str, Any]) -> str:
    return f"""## Use

The features of its backbone, in plain PyTorch (`FOLDER`: this folder, or `hf://owner/name`):

```python
from mmquad.backbones import {facts["model"]}

model = {facts["model"]}.from_pretrained("FOLDER")
```

The whole model, with `config.py` from here:

```bash
python tools/test.py config.py FOLDER/model.safetensors
```"""


def _preprocessing(how: Mapping[str, Any]) -> str:
    def numbers(values: list[float] | None, scale: float) -> str:
        return ", ".join(f"{value / scale:.6g}" for value in values) if values else "none"

    steps = ", then ".join(f"`{step['type']}`" for step in how["pipeline"]) or "none given"
    return f"""## Preprocessing

| | values from 0 to 255 | from 0 to 1 |
|---|---|---|
| mean ({how["channels"]}) | {numbers(how["mean"], 1)} | {numbers(how["mean"], 255)} |
| standard deviation | {numbers(how["std"], 1)} | {numbers(how["std"], 255)} |

Channels are {how["channels"]}. Height and width are padded to multiples of \
{how["pad_size_divisor"]}. Steps before that, in full in `config.json`: {steps}."""


def _metrics(facts: Mapping[str, Any]) -> str:
    if not facts["metrics"]:
        return "## Metrics\n\nNothing was measured when this was exported."
    rows = "\n".join(f"| {name} | {value:.6g} |" for name, value in facts["metrics"].items())
    where = "Measured on the test data of `config.py`, with its test settings."
    if facts["dataset"]:
        where = f"Measured on {facts['dataset']}, with the test settings of `config.py`."
    return f"## Metrics\n\n{where}\n\n| | |\n|---|---|\n{rows}"


def _origin(facts: Mapping[str, Any], sha256: str) -> str:
    stated = [text for text in (facts["license"], facts["licence"]) if text]
    licence = "; of the release: ".join(stated) or "not stated"
    return f"""## Origin

Exported by mmquad {facts["mmquad_version"]} from `{facts["source"]}` (SHA-256 `{facts["sha256"]}`).
SHA-256 of `model.safetensors`: `{sha256}`. Licence of the weights: {licence}."""
