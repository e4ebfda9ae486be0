"""Bundles of real agents, and a forger who changes them."""

import hashlib
import json
import zipfile

import pytest
from tests.agent.samples import make, train, trained


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    """Real bundles, as their members."""
    folder = tmp_path_factory.mktemp("bundles")
    agents = {
        "ppo": trained("ppo"),
        "dqn": trained("dqn"),
        "sac": trained("sac"),
        "gsde": train(make("ppo", {"use_sde": True}), "Pendulum-v1"),
        "normalised": trained("ppo", normalize_observations=True, normalize_rewards=True),
    }
    members = {}
    for name, agent in agents.items():
        with zipfile.ZipFile(agent.save_to_file(folder / f"{name}.zip")) as archive:
            members[name] = {entry: archive.read(entry) for entry in archive.namelist()}
    return members


@pytest.fixture
def forge(bundles, tmp_path):
    """Writes a bundle with something changed and a manifest that agrees with it."""

    def write(kind="ppo", config=None, replace=None, drop=(), sealed=True):
        members = {name: content for name, content in bundles[kind].items() if name not in drop}
        if config is not None:
            data = json.loads(members["config.json"])
            config(data)
            members["config.json"] = json.dumps(data).encode()
        members.update(replace or {})
        manifest = json.loads(members.pop("manifest.json"))
        if sealed:
            manifest["members"] = {
                name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
                for name, content in members.items()
            }
        path = tmp_path / "forged.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("manifest.json", json.dumps(manifest))
            for name, content in members.items():
                archive.writestr(name, content)
        return path

    return write
