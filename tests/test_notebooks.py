"""Every notebook runs from top to bottom on a small budget, and shows what it shows when it is run."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))
assert NOTEBOOKS


def kinds(cell):
    """What a cell shows: streams by name, results by their formats."""
    return {output.get("name") or tuple(sorted(output.get("data", [output.output_type]))) for output in cell.outputs}


@pytest.mark.filterwarnings("ignore:Proactor event loop:RuntimeWarning")  # Jupyter's, on Windows
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_was_committed_with_its_outputs(path, tmp_path, monkeypatch):
    """A cell that raises fails the run. BATTLESHIP_GRPO_QUICK has notebooks train just long enough.

    Outputs that hold an error, are missing, or are of cells run out of order would be no record of a run.
    """
    committed = nbformat.read(path, as_version=4)
    nbformat.validate(committed)
    monkeypatch.setenv("BATTLESHIP_GRPO_QUICK", "1")
    shutil.copy(path.parent / "pictures.py", tmp_path)
    fresh = nbformat.read(path, as_version=4)
    NotebookClient(fresh, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    pairs = [(old, new) for old, new in zip(committed.cells, fresh.cells, strict=True) if old.cell_type == "code"]
    assert [old.execution_count for old, _ in pairs] == list(range(1, len(pairs) + 1))
    assert [kinds(old) for old, _ in pairs] == [kinds(new) for _, new in pairs]
    assert path.stat().st_size < 1_000_000 and not any("execution" in old.metadata for old, _ in pairs)
