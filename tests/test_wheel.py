"""What an installation puts on a user's path."""

from __future__ import annotations

from importlib.metadata import distribution

import pytest


def test_the_only_top_level_name_installed_is_metasd() -> None:
    files = distribution("metasd").files or []
    if any(f.name.startswith("__editable__") or f.name == "pyproject.toml" for f in files):
        pytest.skip("an editable installation has no files of its own; tox tests the wheel")
    tops = {f.parts[0] for f in files if not f.parts[0].startswith("..")}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"metasd"}
    names = {str(f) for f in files}
    assert "metasd/py.typed" in names
    assert any(n.startswith("metasd/data/reference/") for n in names), "the reference trace is not shipped"
    assert any(n.startswith("metasd/data/tables/") for n in names), "the tables are not shipped"
    assert any(n.startswith("metasd/data/report/plotly") and n.endswith(".min.js") for n in names), (
        "no plotting library"
    )
    assert any(n.startswith("metasd/data/report/plotly") and n.endswith("LICENSE.txt") for n in names), "no licence"
