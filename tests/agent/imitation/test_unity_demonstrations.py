"""From a recording made in Unity to a clone that acts in the scene, and back into Unity as a model.

The recording is written by `tests.episode.formats.demo_writer` and the scene is played by `tests.servers.unity`, which
are ours: no Unity build was run.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from tests.environment.unity_demonstrations import record_walks
from tests.environment.unity_scenes import Scene
from tests.servers.unity import Walker, parse

from rl_framework import EpisodeSequence, ImitationAgent, StableBaselinesAgent
from rl_framework.environment.unity import UnityEnvironmentAdapter

pytestmark = pytest.mark.filterwarnings("ignore:distutils Version classes")

RADIUS = 0.4


def test_a_clone_of_a_recording_reaches_the_target_and_goes_back_into_unity(tmp_path: Path) -> None:
    record_walks(tmp_path / "Reach.demo", 150, RADIUS)
    recorded = EpisodeSequence.from_unity_demo(tmp_path / "Reach.demo")
    assert recorded.returns.mean() > 1.5
    agent = ImitationAgent("bc", {"device": "cpu"})
    agent.train(recorded, total_timesteps=10 * recorded.n_transitions, seed=1, progress_bar=False)
    scene = Scene(tmp_path / "scene", "--agents", 16)
    with UnityEnvironmentAdapter(scene.path, environment_parameters={"radius": RADIUS}) as unity:
        result = agent.evaluate(unity, n_eval_episodes=48, deterministic=True, seed=3)
    assert result.mean > 1.4
    assert (result.lengths < 25).mean() > 0.95

    onnxruntime = pytest.importorskip("onnxruntime")
    path = StableBaselinesAgent.from_agent(agent).save_for_unity(tmp_path / "Reach.onnx")
    session = onnxruntime.InferenceSession(str(path))
    generator, reached = random.Random(1), 0
    for number in range(20):
        walker = Walker(number, "Reach", 1, parse([]))
        walker.begin(number, generator)
        while not walker.done:
            seen = np.array([walker.vector()], np.float32)
            walker.take(session.run(["continuous_actions"], {"obs_0": seen})[0][0].tolist(), [])
            walker.advance(RADIUS)
        reached += not walker.interrupted
    assert reached >= 19
