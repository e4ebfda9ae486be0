"""The example of ClearML runs unchanged, against the loopback server."""

from __future__ import annotations

from pathlib import Path

from tests.connector.clearml_runs import run_script
from tests.servers.clearml import ClearMLServer

SCRIPT = Path(__file__).resolve().parents[2] / "exploration" / "train_with_clearml.py"


def test_the_use_is_short() -> None:
    code = SCRIPT.read_text()
    use = code[code.index("    connector = ") : code.index('if __name__ == "__main__"')]
    assert len([line for line in use.splitlines() if line.strip()]) < 15


def test_the_script_leaves_a_run_an_agent_and_a_replay(tmp_path: Path) -> None:
    with ClearMLServer() as server:
        done = run_script(server, tmp_path, SCRIPT, arguments=("--total-timesteps", "2048"), timeout=120)
        task = server.task()
        assert (task["name"], task["status"], task["tags"]) == ("ppo on CartPole-v1", "completed", ["cartpole"])
        assert task["id"] in done.stderr
        assert task["hyperparams"]["General"]["gamma"]["value"] == "0.98"
        assert server.scalars(task["id"])["episode/return"]
        assert [model["name"] for model in task["models"]["output"]] == ["agent"]
        assert {entry["key"] for entry in task["execution"]["artifacts"]} == {"agent", "record", "results", "system"}
        (replay,) = server.events_of(task["id"], "training_debug_image")
        assert b"ftyp" in server.file_at(replay["url"])[:16]
