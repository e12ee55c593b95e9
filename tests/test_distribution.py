"""The package as it is built and installed."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import distes

ROOT = Path(__file__).parents[1]


def test_the_version_has_one_home() -> None:
    """If wrong: a release names another version than the code that it holds."""
    assert f'__version__ = "{distes.__version__}"' in (ROOT / "distes/__init__.py").read_text()
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text()
    assert importlib.metadata.version("distes") == distes.__version__


@pytest.mark.slow
def test_the_wheel_holds_all_that_a_run_needs(tmp_path: Path) -> None:
    """If wrong: what is released lacks a package, or brings the tests along."""
    build = [sys.executable, "-m", "build", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=400)  # the wheel from the sdist
    (wheel,), (source,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    assert {distes.__version__} == {each.name.split("-")[1][:5] for each in (wheel, source)}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("distes/")}
        others = set(archive.namelist()) - held
    package = ROOT / "distes"
    assert held == {
        str(path.relative_to(ROOT))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert all(".dist-info/" in name for name in others)
    assert any(name.endswith("licenses/LICENSE") for name in others)
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "CITATION.cff", "tests/conftest.py", "docs/installing.md"} <= names

    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([*install, str(tmp_path / "site"), str(wheel)], check=True, timeout=200)
    (tmp_path / "work").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "distes", "run", "CartPole-v1", "--workers", "0", "--out", "run"],
        cwd=tmp_path / "work",
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "score: 500.0" in done.stdout
