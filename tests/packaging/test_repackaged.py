"""third_party/: published wheels with other dependencies, and nothing else changed."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import importlib.util
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement

THIRD_PARTY = Path(__file__).parents[2] / "third_party"
FOLDER = THIRD_PARTY / "imitation"
LIBRARIES = ["d3rlpy", "imitation"]

METADATA = b"""Metadata-Version: 2.1
Name: sample
Version: 1.0
Summary: Requires-Dist: is not a field here.
License-File: LICENSE
Requires-Dist: old~=1.0
Requires-Dist: older>=2
Provides-Extra: dev
Requires-Dist: oldest; extra == "dev"
Requires-Python: >=3.8

# Sample

Requires-Dist: this line belongs to the description, with an \xc3\xa9.
"""
REWRITTEN = b"""Metadata-Version: 2.1
Name: sample
Version: 1.0
Summary: Requires-Dist: is not a field here.
License-File: LICENSE
Requires-Dist: new>=2
Requires-Dist: newer
Requires-Python: >=3.8

# Sample

Requires-Dist: this line belongs to the description, with an \xc3\xa9.
"""
FILES = {
    "sample/__init__.py": b"print('bytes\\r\\n')\r\n",
    'sample/a "quoted", name.py': b"",
    "sample/METADATA": b"Requires-Dist: not-metadata\n",
    "sample-1.0.dist-info/METADATA": METADATA,
    "sample-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n",
}
RECORD = "sample-1.0.dist-info/RECORD"
WHEEL = "sample-1.0-py3-none-any.whl"


def digest(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def backend() -> ModuleType:
    specification = importlib.util.spec_from_file_location("repackage", FOLDER / "repackage.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["repackage"] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A small wheel in a folder of its own."""
    folder = tmp_path / "published"
    folder.mkdir()
    with zipfile.ZipFile(folder / WHEEL, "w") as archive, (tmp_path / "RECORD").open("w", newline="") as record:
        writer = csv.writer(record, lineterminator="\n")
        for name, content in FILES.items():
            archive.writestr(zipfile.ZipInfo(name, date_time=(2020, 2, 20, 20, 20, 20)), content)
            writer.writerow([name, digest(content), len(content)])
        writer.writerow([RECORD, "", ""])
        record.flush()
        archive.write(tmp_path / "RECORD", RECORD)
    return folder / WHEEL


@pytest.fixture
def package(tmp_path: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package like third_party/imitation around the small wheel, which pip finds in its folder, without an index."""
    folder = tmp_path / "package"
    folder.mkdir()
    for name in ("repackage.py", "README.md"):
        (folder / name).write_bytes((FOLDER / name).read_bytes())
    sha256 = hashlib.sha256(published.read_bytes()).hexdigest()
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["pip"]\nbuild-backend = "repackage"\nbackend-path = ["."]\n'
        '[project]\nname = "sample"\nversion = "1.0"\ndependencies = ["new>=2", "newer"]\n'
        f'[tool.repackage]\nwheel = "{WHEEL}"\nsha256 = "{sha256}"\n'
    )
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(published.parent))
    return folder


def test_dependency_lines_are_replaced_where_they_stood(backend: ModuleType) -> None:
    assert backend.rewrite_dependencies(METADATA, ("new>=2", "newer")) == REWRITTEN


def test_a_field_that_goes_on_in_the_next_line_is_replaced_whole(backend: ModuleType) -> None:
    metadata = METADATA.replace(b"older>=2\n", b"older\n        >=2\n")
    assert metadata != METADATA
    assert backend.rewrite_dependencies(metadata, ("new>=2", "newer")) == REWRITTEN


def test_dependencies_are_added_where_there_were_none(backend: ModuleType) -> None:
    assert backend.rewrite_dependencies(b"Name: a\n\nText\n", ("b",)) == b"Name: a\nRequires-Dist: b\n\nText\n"


def test_only_metadata_and_record_change(backend: ModuleType, published: Path, tmp_path: Path) -> None:
    backend.repackage(published, tmp_path / WHEEL, ("new>=2", "newer"))
    with zipfile.ZipFile(published) as before, zipfile.ZipFile(tmp_path / WHEEL) as after:
        assert after.namelist() == before.namelist()
        assert after.testzip() is None
        changed = {name for name in before.namelist() if before.read(name) != after.read(name)}
        assert changed == {"sample-1.0.dist-info/METADATA", RECORD}
        assert after.read("sample-1.0.dist-info/METADATA") == REWRITTEN
        assert [entry.date_time for entry in after.infolist()] == [entry.date_time for entry in before.infolist()]


def test_record_lists_every_file_with_its_hash_and_size(backend: ModuleType, published: Path, tmp_path: Path) -> None:
    backend.repackage(published, tmp_path / WHEEL, ("new>=2", "newer"))
    with zipfile.ZipFile(tmp_path / WHEEL) as archive:
        rows = list(csv.reader(archive.read(RECORD).decode().splitlines()))
        assert [row[0] for row in rows] == archive.namelist()
        for name, hashed, size in rows[:-1]:
            assert (hashed, int(size)) == (digest(archive.read(name)), len(archive.read(name)))
    assert rows[-1] == [RECORD, "", ""]


def test_building_twice_gives_the_same_wheel(backend: ModuleType, package: Path, tmp_path: Path) -> None:
    wheels = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        wheels.append((tmp_path / name / backend.build_wheel(str(tmp_path / name))).read_bytes())
    assert wheels[0] == wheels[1]


def test_building_leaves_nothing_in_its_folder(backend: ModuleType, package: Path, tmp_path: Path) -> None:
    before = sorted(package.rglob("*"))
    (tmp_path / "wheels").mkdir()
    assert backend.build_wheel(str(tmp_path / "wheels")) == WHEEL
    assert sorted(package.rglob("*")) == before
    assert [path.name for path in (tmp_path / "wheels").iterdir()] == [WHEEL]


def test_options_of_another_download_are_not_in_the_way(
    backend: ModuleType, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONSTRAINT", "relative-to-somewhere-else.txt")
    monkeypatch.setenv("PIP_REQUIRE_HASHES", "1")
    assert backend.build_wheel(str(tmp_path)) == WHEEL


def test_another_wheel_than_the_pinned_one_is_refused(backend: ModuleType, package: Path, tmp_path: Path) -> None:
    pyproject = package / "pyproject.toml"
    actual = backend.Specification.read(pyproject).sha256
    pyproject.write_text(pyproject.read_text().replace(actual, "0" * 64))
    (tmp_path / "wheels").mkdir()
    with pytest.raises(backend.RepackageError, match=f"expected sha256 {'0' * 64}, got {actual}"):
        backend.build_wheel(str(tmp_path / "wheels"))
    assert not list((tmp_path / "wheels").iterdir())


def test_without_index_and_wheel_the_error_says_what_to_do(
    backend: ModuleType, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nothing").mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    with pytest.raises(backend.RepackageError) as raised:
        backend.build_wheel(str(tmp_path))
    message = str(raised.value)
    assert f"{WHEEL} could not be fetched" in message
    assert "sample==1.0" in message
    assert "set PIP_FIND_LINKS" in message


def test_source_distribution_builds_the_same_wheel(
    backend: ModuleType, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct, unpacked = tmp_path / "direct", tmp_path / "unpacked"
    direct.mkdir()
    backend.build_wheel(str(direct))
    with tarfile.open(tmp_path / backend.build_sdist(str(tmp_path))) as archive:
        archive.extractall(unpacked, filter="data")
    assert "Requires-Dist: new>=2\n" in (unpacked / "sample-1.0" / "PKG-INFO").read_text()
    monkeypatch.chdir(unpacked / "sample-1.0")
    backend.build_wheel(str(unpacked))
    assert (unpacked / WHEEL).read_bytes() == (direct / WHEEL).read_bytes()


def test_pip_accepts_the_wheel(backend: ModuleType, package: Path, tmp_path: Path) -> None:
    """pip checks the names and installs it; the code that arrives is the code that was published."""
    backend.build_wheel(str(tmp_path))
    target = tmp_path / "installed"
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-compile", "--target", str(target)]
    subprocess.run([*command, str(tmp_path / WHEEL)], check=True, capture_output=True)
    assert (target / "sample" / "__init__.py").read_bytes() == FILES["sample/__init__.py"]


def test_every_library_has_the_same_backend() -> None:
    """A backend has to lie in the folder that it builds, and a link would not survive a source distribution."""
    assert [path.parent.name for path in sorted(THIRD_PARTY.glob("*/pyproject.toml"))] == LIBRARIES
    assert len({(THIRD_PARTY / library / "repackage.py").read_bytes() for library in LIBRARIES}) == 1


@pytest.mark.parametrize("library", LIBRARIES)
def test_pinned_wheel_is_the_declared_version(library: str) -> None:
    tables = tomllib.loads((THIRD_PARTY / library / "pyproject.toml").read_text())
    assert tables["project"]["name"] == library
    assert tables["tool"]["repackage"]["wheel"] == f"{library}-{tables['project']['version']}-py3-none-any.whl"
    assert len(bytes.fromhex(tables["tool"]["repackage"]["sha256"])) == 32


class TestInstalled:
    """What `make install` and `poetry install` leave in the environment."""

    @pytest.mark.parametrize("library", LIBRARIES)
    def test_metadata_names_the_rewritten_dependencies(self, library: str) -> None:
        project: dict[str, Any] = tomllib.loads((THIRD_PARTY / library / "pyproject.toml").read_text())["project"]
        installed = importlib.metadata.requires(library) or []
        assert {str(Requirement(text)) for text in installed} == {
            str(Requirement(text)) for text in project["dependencies"]
        }
        assert importlib.metadata.version(library) == project["version"]

    @pytest.mark.parametrize("library", LIBRARIES)
    def test_files_are_those_of_the_published_record(self, library: str) -> None:
        """RECORD still has the published hash of each file of code, and the files have it too."""
        files = [file for file in importlib.metadata.files(library) or [] if file.suffix == ".py"]
        assert len(files) > 60
        for file in files:
            assert file.hash is not None
            assert digest(Path(str(file.locate())).read_bytes()) == f"sha256={file.hash.value}", file

    def test_importing_gym_says_nothing(self) -> None:
        """d3rlpy imports it, and Stable-Baselines3 where it is there; later gym-notices make it print."""
        finished = subprocess.run([sys.executable, "-c", "import gym"], check=True, capture_output=True, text=True)
        assert (finished.stdout, finished.stderr) == ("", "")

    def test_behavior_cloning_learns_a_rule(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """BC of the installed imitation, on the installed Stable-Baselines3 and gymnasium."""
        from gymnasium import spaces
        from imitation.algorithms.bc import BC
        from imitation.data.types import Transitions

        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where imitation opens its log
        torch.manual_seed(0)
        rng = np.random.default_rng(0)
        observations = rng.uniform(-1, 1, size=(256, 2)).astype(np.float32)
        actions = (observations[:, 0] > 0).astype(np.int64)
        demonstrations = Transitions(
            obs=observations,
            acts=actions,
            infos=np.array([{}] * 256),
            next_obs=observations,
            dones=np.zeros(256, dtype=bool),
        )
        learner = BC(
            observation_space=spaces.Box(-1, 1, (2,), np.float32),
            action_space=spaces.Discrete(2),
            rng=rng,
            demonstrations=demonstrations,
            device="cpu",
        )
        learner.train(n_epochs=20, progress_bar=False)
        chosen, _ = learner.policy.predict(observations, deterministic=True)
        assert (chosen == actions).mean() > 0.95

    def test_offline_algorithm_learns_a_rule(self) -> None:
        """An algorithm of the installed d3rlpy, on the installed gymnasium."""
        from d3rlpy.algos import DiscreteBCConfig
        from d3rlpy.dataset import MDPDataset

        torch.manual_seed(0), np.random.seed(0)
        rng = np.random.default_rng(0)
        observations = rng.uniform(-1, 1, size=(256, 2)).astype(np.float32)
        actions = (observations[:, :1] > 0).astype(np.int64)
        ends = np.tile(np.arange(8) == 7, 32).astype(np.float32)
        dataset = MDPDataset(observations, actions, np.zeros((256, 1), np.float32), ends)
        learner = DiscreteBCConfig(learning_rate=3e-3, batch_size=64).create()
        learner.build_with_dataset(dataset)
        for _ in range(100):
            learner.update(dataset.sample_transition_batch(64))
        assert (learner.predict(observations) == actions[:, 0]).mean() > 0.95
