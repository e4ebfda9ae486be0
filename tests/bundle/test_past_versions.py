"""A bundle that a released version wrote opens forever, and acts and resumes as it did."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from tests.bundle.make_past_version import DATA, TRAINED_FOR, make_agent, preferences, train
from tests.bundle.test_format import MEMBERS, build, entries_of

from rl_framework import BundleError, load_agent
from rl_framework.bundle import FORMAT_VERSION, format, read_bundle, write_bundle  # noqa: A004

VERSIONS = range(1, FORMAT_VERSION + 1)


def recorded(version):
    return json.loads((DATA / f"version_{version}.json").read_text())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["agent", "checkpoint"])
def test_an_agent_of_every_version_opens_and_acts_as_it_did(version, name):
    path = DATA / f"version_{version}_{name}.zip"
    expected = recorded(version)
    assert read_bundle(path).version == version
    agent = load_agent(path)
    assert agent.num_timesteps == expected["timesteps"][name]
    observations = np.array(expected["observations"], np.float32)
    # Other processors add in another order; float32 keeps some seven digits.
    np.testing.assert_allclose(preferences(agent, observations), expected[name], atol=1e-5)
    clear = np.abs(np.diff(expected[name], axis=1)[:, 0]) > 1e-4
    np.testing.assert_array_equal(
        agent.choose_action(observations, deterministic=True)[clear], np.argmax(expected[name], axis=1)[clear]
    )
    assert clear.sum() > 20
    assert len({*np.argmax(expected[name], axis=1)}) == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_a_checkpoint_of_every_version_resumes_to_the_agent_that_was_trained(version, tmp_path):
    checkpoint = shutil.copy(DATA / f"version_{version}_checkpoint.zip", tmp_path / "checkpoint.zip")
    agent = train(make_agent(), resume_from=checkpoint, checkpoint_directory=tmp_path / "more")
    assert agent.num_timesteps == TRAINED_FOR
    expected = recorded(version)
    np.testing.assert_allclose(
        preferences(agent, np.array(expected["observations"], np.float32)), expected["agent"], atol=1e-3
    )
    assert not np.allclose(
        expected["checkpoint"], expected["agent"], atol=1e-2
    )  # so that the line above says something


def test_every_version_up_to_the_present_one_is_stored_and_none_is_missing_its_migration():
    for version in VERSIONS:
        assert (DATA / f"version_{version}.json").exists(), "run `python -m tests.bundle.make_past_version`"
    assert set(range(1, FORMAT_VERSION)) <= set(format.MIGRATIONS)


@pytest.fixture
def later(monkeypatch):
    """A package whose format is two versions further on, in which `kind` was once called `type`."""

    def one_to_two(manifest):
        manifest = dict(manifest)
        manifest["kind"] = manifest.pop("type")
        return {**manifest, "version": 2}

    def two_to_three(manifest):
        return {**manifest, "version": 3, "information": {**manifest["information"], "migrated": True}}

    monkeypatch.setattr(format, "FORMAT_VERSION", 3)
    monkeypatch.setattr(format, "MIGRATIONS", {1: one_to_two, 2: two_to_three})


def test_an_old_manifest_is_brought_to_the_present_form_one_version_at_a_time(later, tmp_path):
    path = write_bundle(tmp_path / "a.zip", kind="agent", members=MEMBERS)
    members = {name: data for name, data in entries_of(path).items() if name != "manifest.json"}
    manifest = json.loads(entries_of(path)["manifest.json"])
    old = build_manifest_as(tmp_path / "old.zip", members, {**manifest, "version": 1, "type": manifest["kind"]})
    bundle = read_bundle(old)
    assert (bundle.version, bundle.kind, bundle.information) == (1, "agent", {"migrated": True})
    assert bundle.manifest["version"] == 3
    assert bundle.json("parameters.json") == MEMBERS["parameters.json"]
    assert read_bundle(path).version == 3
    assert read_bundle(path).information == {}


def build_manifest_as(path, members, manifest):
    """Writes a bundle with a manifest of an older form, without `kind`."""
    del manifest["kind"]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_a_version_without_a_migration_is_refused(later, monkeypatch, tmp_path):
    path = write_bundle(tmp_path / "a.zip", kind="agent", members=MEMBERS)
    members = {name: data for name, data in entries_of(path).items() if name != "manifest.json"}
    monkeypatch.setattr(format, "MIGRATIONS", {2: dict})
    with pytest.raises(BundleError, match="version 1, which is no longer read"):
        read_bundle(build(tmp_path / "old.zip", members, version=1))


def test_a_migration_that_an_old_manifest_makes_fail_is_a_refusal(later, tmp_path):
    path = write_bundle(tmp_path / "a.zip", kind="agent", members=MEMBERS)
    members = {name: data for name, data in entries_of(path).items() if name != "manifest.json"}
    with pytest.raises(BundleError, match=r"manifest\.json: KeyError"):
        read_bundle(build(tmp_path / "old.zip", members, version=1))  # it has no `type`
