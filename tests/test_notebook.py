"""The notebook runs from its first cell to its last, and is kept without outputs."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

PATH = Path(__file__).parents[1] / "notebooks" / "quickstart.ipynb"


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(PATH, as_version=4)


def test_it_is_kept_without_outputs(notebook: nbformat.NotebookNode):
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


def test_it_runs(notebook: nbformat.NotebookNode, tmp_path: Path, monkeypatch):
    """Without installing anything, for mmquad is here; about ten seconds, most of them imports."""
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    said = "".join(output.get("text", "") for output in outputs)
    assert said.splitlines()[0].startswith("native - ")
    assert "(1, 48, 38, 51)\n(1, 96, 19, 26)\n(1, 192, 10, 13)\n(1, 384, 5, 7)" in said
    overlap = re.search(r"intersection over union on new scenes: (\S+)", said)
    assert overlap
    # All ground would be 0, all object the 0.3 that objects cover; it has learned 0.9.
    assert float(overlap[1]) > 0.6
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert list(tmp_path.iterdir()) == []
