"""What there is by name: registered things, environments, presets, runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rl_framework import registry
from rl_framework.errors import UnknownNameError
from rl_framework.registry import Entry, Registry

__all__ = ["Inventory"]

_Rows = tuple[list[dict[str, Any]], list[str]]

_NAMED = ["name", "origin", "note"]


class Inventory:
    """Lists.

    Args:
        run_directory: Where runs lie.
    """

    def __init__(self, run_directory: Path) -> None:
        self._run_directory = run_directory
        self._special: dict[str, tuple[str, Callable[[str | None], _Rows]]] = {
            "algorithms": ("for --algo", self._algorithms),
            "networks": ("for --net: of composed agents, and mlp, cnn for Stable-Baselines3", self._networks),
            "environments": ("for --env, by family", self._environments),
            "backends": ("for --backend", self._backends),
            "presets": ("tuned parameters, and base: in a configuration", self._presets),
            "connectors": ("for --connector", self._of(registry.connectors)),
            "parts": ("of composed agents; + puts them together in --algo", self._of(registry.parts)),
            "wrappers": ("for environment.wrappers", self._of(registry.wrappers)),
            "runs": ("on this machine", self._runs),
            "plugins": ("what other installed packages and the program add", self._plugins),
        }
        for each in registry.all_registries():
            name = _plural(each.kind)
            self._special.setdefault(name, (f"{name.replace('_', ' ')}", self._of(each)))

    def kinds(self) -> dict[str, str]:
        """Returns what can be listed, and what it is."""
        return {name: text for name, (text, _) in self._special.items()}

    def rows(self, what: str, containing: str | None) -> _Rows:
        """Returns one list.

        Args:
            what: Which.
            containing: For lists that are long: what to look for.

        Returns:
            A dictionary a row, and the columns that are for people.

        Raises:
            UnknownNameError: There is no such list.
        """
        names = (what.lower().replace("-", "_"), _plural(what.lower().replace("-", "_")))
        name = next((each for each in names if each in self._special), None)
        if name is None:
            raise UnknownNameError("WHAT", what, self._special)
        return self._special[name][1](containing)

    def _of(self, known: Registry) -> Callable[[str | None], _Rows]:
        return lambda containing: _described(known.describe(load=True))

    def _algorithms(self, containing: str | None) -> _Rows:
        kinds = (registry.algorithms, registry.imitation_algorithms, registry.offline_algorithms)
        rows, seen = [], set()
        for known in kinds:
            for row in _described(known.describe(load=True))[0]:
                if row["name"] not in seen:  # --algo takes the first of that name
                    seen.add(row["name"])
                    rows.append({**row, "library": _library(row["address"])})
        return rows, ["name", "library", "origin", "note"]

    def _networks(self, containing: str | None) -> _Rows:
        rows, columns = _described(registry.networks.describe(load=True))
        ours = {"origin": "rl_framework", "note": "of Stable-Baselines3's agents", "address": "", "is_broken": False}
        there = {row["name"] for row in rows}
        rows += [{"kind": "network", "name": name, **ours} for name in ("mlp", "cnn") if name not in there]
        return rows, columns

    def _environments(self, containing: str | None) -> _Rows:
        from rl_framework.environment.known_packages import environment_ids, known_environments

        families = known_environments()
        if containing is not None:
            chosen = [family for family in families if family.name == containing]
            if not chosen:
                raise UnknownNameError("TEXT", containing, [family.name for family in families])
            chosen[0].require(f"the environments of {containing}")
            ids = environment_ids([containing])[containing]
            return [{"id": each, "family": containing} for each in ids], ["id"]
        rows = [
            {
                "family": family.name,
                "installed": family.is_installed,
                "extra": family.extra,
                "examples": list(family.examples),
                "description": family.description,
            }
            for family in families
        ]
        return rows, ["family", "installed", "extra", "examples", "description"]

    def _backends(self, containing: str | None) -> _Rows:
        from rl_framework.environment.backends import backends

        rows = [
            {"name": each.name, "installed": each.is_installed, "extra": each.extra, "description": each.description}
            for each in backends().values()
        ]
        return rows, ["name", "installed", "extra", "description"]

    def _presets(self, containing: str | None) -> _Rows:
        from rl_framework.experiment.presets import get_preset, list_presets

        rows = []
        for name in list_presets():
            if containing is not None and containing.lower() not in name.lower():
                continue
            preset = get_preset(name)
            published = preset.published
            rows.append(
                {
                    "name": preset.name,
                    "algorithm": preset.algorithm,
                    "environment": preset.environment,
                    "timesteps": (preset.configuration.get("training") or {}).get("total_timesteps"),
                    "published": None if published is None else published.mean,
                    "source": preset.source,
                }
            )
        return rows, ["name", "timesteps", "published", "source"]

    def _runs(self, containing: str | None) -> _Rows:
        from rl_framework.experiment import Run

        rows = []
        for run in Run.list(self._run_directory):
            summary = run.summary or {}
            rows.append(
                {
                    "run": str(run.folder),
                    "status": run.status,
                    "timesteps": run.timestep,
                    "mean": None if "mean" not in summary else round(summary["mean"], 4),
                    "seeds": len(run.seeds) or None,
                }
            )
        return rows, ["run", "status", "timesteps", "mean", "seeds"]

    def _plugins(self, containing: str | None) -> _Rows:
        entries = [entry for entry in registry.describe(load=True) if entry.origin != "rl_framework"]
        rows, _ = _described(entries)
        return rows, ["kind", "name", "origin", "address", "note"]


def _described(entries: Iterable[Entry]) -> _Rows:
    rows = [
        {
            "kind": entry.kind,
            "name": entry.name,
            "origin": entry.origin,
            "address": entry.address,
            "is_broken": entry.is_broken,
            "note": f"broken: {entry.note}" if entry.is_broken else entry.note,
        }
        for entry in entries
    ]
    return rows, _NAMED


def _library(address: str) -> str:
    package = address.partition(":")[0].partition(".")[0]
    return {"an object of ImitationAlgorithm": "imitation"}.get(address, package or address)


def _plural(word: str) -> str:
    if word.endswith("s"):
        return word
    return f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
