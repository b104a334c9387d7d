"""model-index.yml and the metafiles agree with the configs, and the tables with them."""

import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from mmquad.analysis.comparison import build_shapes
from mmquad.analysis.zoo import read_metafiles, zoo_pages
from mmquad.compat import load_config

ROOT = Path(__file__).parents[1]
METAFILES = read_metafiles(ROOT)
MODELS = [model for content in METAFILES for model in content["Models"]]


def test_every_config_but_the_demos_is_listed_once():
    leaves = {
        str(path.relative_to(ROOT))
        for path in ROOT.glob("configs/*/*/*.py")
        if "-demo_" not in path.name and path.parent.name != "_base_"
    }
    listed = [model["Config"] for model in MODELS]
    assert sorted(listed) == sorted(leaves)
    assert all(model["Name"] == Path(model["Config"]).stem for model in MODELS)


def test_collections_have_what_the_libraries_expect():
    names = [c["Name"] for content in METAFILES for c in content["Collections"]]
    assert len(set(names)) == len(names)
    for content in METAFILES:
        (collection,) = content["Collections"]
        assert set(collection) == {"Name", "Metadata", "Paper", "README", "Code"}
        assert {model["In Collection"] for model in content["Models"]} == {collection["Name"]}
        assert (ROOT / collection["README"]).is_file()


def test_every_figure_says_where_it_is_from():
    results = [result for model in MODELS for result in model.get("Results", [])]
    assert len(results) >= 4 + 2 * 3 + 3
    for result in results:
        assert set(result) == {"Task", "Dataset", "Metrics", "Source"}


@pytest.mark.parametrize("content", METAFILES, ids=lambda c: c["Collections"][0]["Name"])
def test_parameters_are_those_of_the_configs(content: dict):
    for model in content["Models"]:
        cfg = load_config(str(ROOT / model["Config"]))
        if "TIMMBackbone" in cfg.model.backbone.type and not find_spec("timm"):
            continue
        count = sum(p.numel() for p in build_shapes(cfg).parameters())
        assert model["Metadata"]["Parameters"] == count, model["Name"]


def test_figures_are_those_the_configs_name():
    for model in MODELS:
        text = (ROOT / model["Config"]).read_text()
        for result in model.get("Results", []):
            assert all(str(value) in text for value in result["Metrics"].values()), model["Name"]


def test_tables_are_up_to_date(monkeypatch, capsys):
    pages = zoo_pages(ROOT)
    assert len(pages) == len(METAFILES)
    for path, text in pages.items():
        assert path.read_text() == text
        assert text.count("\n| [") == text.count("](", text.index("| --- |"))
    tool = ROOT / "tools" / "misc" / "generate_zoo_tables.py"
    monkeypatch.setattr(sys, "argv", [tool.name, "--check"])
    runpy.run_path(str(tool), run_name="__main__")
    assert capsys.readouterr().out == "all up to date\n"
