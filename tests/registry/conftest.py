from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from rl_framework.registry.plugins import installed_plugins

InstallPackage = Callable[..., None]


@pytest.fixture
def install_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InstallPackage]:
    """Puts a package into a folder of installed packages, as pip leaves it."""
    site, installed = tmp_path / "site", set()
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def install(
        name: str, entry_points: Mapping[str, Mapping[str, str]], modules: Mapping[str, str] | None = None
    ) -> None:
        information = site / f"{name.replace('-', '_')}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = []
        for group, names in entry_points.items():
            lines += [f"[rl_framework.{group}]", *(f"{key} = {value}" for key, value in names.items())]
        (information / "entry_points.txt").write_text("\n".join(lines) + "\n")
        for module, code in (modules or {}).items():
            (site / f"{module}.py").write_text(code)
        installed.update(modules or ())
        # What Python knows of a folder is renewed only if the folder's time has changed, which two writes can share.
        importlib.invalidate_caches()
        installed_plugins.cache_clear()

    installed_plugins.cache_clear()
    yield install
    for module in installed:
        sys.modules.pop(module, None)  # the next test may have another module of that name, or ask whether it is there
    installed_plugins.cache_clear()
