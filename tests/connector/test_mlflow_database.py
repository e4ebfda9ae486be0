"""A new database of MLflow is there when all of it is there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.servers.mlflow import empty_database

from rl_framework.connector.mlflow.service import MLflowService

pytest.importorskip("mlflow")
utils = pytest.importorskip("mlflow.store.db.utils")


class Killed(BaseException):
    """A process that goes away."""


@pytest.fixture(autouse=True)
def _there_is_one_to_copy() -> None:
    empty_database()  # MLflow makes it, before anything is put in its place


def copied(engine: Any) -> None:
    """Stands for what takes MLflow seconds."""
    shutil.copyfile(empty_database(), engine.url.database)


def test_a_database_that_was_being_made_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow itself would say "table already exists" for ever."""

    def killed(engine: Any) -> None:
        utils.InitialBase.metadata.create_all(engine)
        raise Killed

    monkeypatch.setattr(utils, "_initialize_tables", killed)
    with pytest.raises(Killed):
        _ = MLflowService(tmp_path / "a folder").client
    assert list((tmp_path / "a folder").iterdir()) == []
    monkeypatch.setattr(utils, "_initialize_tables", copied)
    client = MLflowService(tmp_path / "a folder").client
    assert client.get_experiment(client.create_experiment("one")).name == "one"
    assert [path.name for path in (tmp_path / "a folder").glob("*.db")] == ["mlflow.db"]


def test_one_that_is_half_made_is_told(tmp_path: Path) -> None:
    utils.InitialBase.metadata.create_all(engine := utils.create_sqlalchemy_engine(f"sqlite:///{tmp_path}/mlflow.db"))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE registered_models (name TEXT)")
    engine.dispose()
    service = MLflowService(tmp_path)
    with pytest.raises(Exception, match="CREATE TABLE") as caught, service.asking() as client:
        client.search_experiments()
    assert "move it away, and sync() delivers what is kept" in service.explain(caught.value)


@pytest.mark.parametrize("has_links", [True, False], ids=["links", "no-links"])
def test_another_process_that_was_quicker(has_links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rl_framework.connector.mlflow import database

    def refuse(*arguments: Any) -> None:
        raise PermissionError("no links here")

    def late(engine: Any) -> None:
        copied(engine)
        (tmp_path / "mlflow.db").write_bytes(b"what another one has written")

    if not has_links:
        monkeypatch.setattr("os.link", refuse)
    monkeypatch.setattr(utils, "_initialize_tables", late)
    database.make_database(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"what another one has written"]
    (tmp_path / "mlflow.db").unlink()
    monkeypatch.setattr(utils, "_initialize_tables", copied)
    database.make_database(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert (tmp_path / "mlflow.db").read_bytes() == empty_database().read_bytes()


def test_what_is_no_new_file_is_left_to_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rl_framework.connector.mlflow import database

    def unexpected(engine: Any) -> None:
        raise AssertionError(engine.url)

    monkeypatch.setattr(utils, "_initialize_tables", unexpected)
    (tmp_path / "there.db").write_bytes(b"")
    for uri in ("sqlite://", "sqlite:///:memory:", "http://127.0.0.1:9", "", f"sqlite:///{tmp_path / 'there.db'}"):
        database.make_database(uri)
    assert [path.name for path in tmp_path.iterdir()] == ["there.db"]
