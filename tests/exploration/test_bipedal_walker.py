"""The two files that let BipedalWalker learn to walk: read by default, run in the slow tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rl_framework.experiment import Experiment, Run, load_config

pytest.importorskip("Box2D")

FILES = {name: Path(__file__).parents[2] / "exploration" / f"bipedal_walker_{name}.yaml" for name in ("ppo", "sac")}
SMALL = {
    "ppo": ["training.total_timesteps=1_000", "agent.parameters.n_steps=128", "environment.n_environments=2"],
    "sac": [
        "training.total_timesteps=1_000",
        "agent.parameters.learning_starts=500",
        "agent.parameters.gradient_steps=8",
    ],
}
REDUCED = (
    "training.checkpoint_every=250",
    "training.keep_last=3",
    "training.evaluate_every=500",
    "training.n_eval_episodes=2",
    "training.progress_bar=false",
    "evaluation.n_episodes=2",
    "video.every=500",
    "video.length=30",
)


@pytest.mark.parametrize("name", FILES)
def test_the_file_is_right(name: str) -> None:
    config = load_config(FILES[name])
    assert config.agent is not None
    assert config.agent.given()["algorithm"] == name
    assert config.environment is not None
    assert (config.environment.id, config.environment.fresh_environments) == ("BipedalWalker-v3", True)
    assert config.training.timesteps_between_checkpoints
    assert config.training.evaluate_every
    assert [connector.type for connector in config.connectors] == ["tensorboard"]
    assert config.video is not None
    assert config.video.overlay is not None
    shown = " ".join(config.video.overlay.show or ())
    for label in ("hip 1 angle=", "knee 1 angle=", "hip 2 angle=", "knee 2 angle=", "hull speed x="):
        assert label in shown
    for override in (*SMALL[name], *REDUCED):
        load_config(FILES[name], [override])


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_the_file_is_run_from_end_to_end(name: str) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    overrides = [*SMALL[name], *REDUCED]
    run = Experiment.from_yaml(FILES[name], overrides).run()
    assert run.status == "finished"
    assert run.folder == Path("runs") / f"bipedal-walker-{name}"
    assert len(run.checkpoints) == 3
    assert run.best_model_path.is_file()
    assert [path.stat().st_size > 1_000 for path in run.videos] == [True] * 3
    events = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    assert {"evaluation/mean_return", "train/loss" if name == "ppo" else "train/actor_loss"} <= set(
        events.Tags()["scalars"]
    )
    assert run.results is not None
    assert json.loads((run.folder / "results.json").read_text())["environment"] == "BipedalWalker-v3"
    record: Any = run.records[0]
    assert record["fresh_environments"] is True

    class Gone(Exception):  # noqa: N818
        """A machine that goes away."""

    from rl_framework.training import Callback, Training

    class StopAt(Callback):
        def on_step(self, training: Training) -> None:
            if training.timestep >= 900:
                raise Gone

    without_video = [*overrides, "video=null", "connectors=[]", "name=cut"]
    with pytest.raises(Gone):
        Experiment.from_yaml(FILES[name], without_video, callbacks=[StopAt()]).run()
    cut = Run.open("runs/cut")
    assert cut.status == "unfinished"
    assert cut.checkpoints
    assert cut.experiment().run(resume=True).results == run.results
