"""Unity scenes over ML-Agents' own protocol: starting, speaking, failing.

The player is `tests.servers.unity`: it is ours, and no Unity build was run.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from tests.environment.unity_scenes import Scene, own_port
from tests.servers.unity import ECHO, PIXELS, sends_channels_first

from rl_framework import StableBaselinesAgent, record_video
from rl_framework.environment import open_environments
from rl_framework.environment.unity import UnityEnvironmentAdapter, load_mlagents_envs
from rl_framework.errors import (
    ArgumentError,
    EnvironmentSourceError,
    NonFiniteError,
    RecordingError,
    RLFrameworkError,
    UnknownNameError,
    UnsupportedSpaceError,
)

pytestmark = pytest.mark.filterwarnings("ignore:distutils Version classes")

TINY: dict[str, Any] = {
    "n_steps": 16,
    "batch_size": 16,
    "n_epochs": 1,
    "policy_kwargs": {"net_arch": [4]},
    "device": "cpu",
}


def _steps(batch: Any, count: int) -> list[Any]:
    batch.action_space.seed(0)
    return [batch.step_slots(batch.action_space.sample()) for _ in range(count)]


class TestSources:
    def test_path_starts_a_player_and_ends_it(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path, "--agents", 3)
        batch = open_environments(scene.path, environment_kwargs={"seed": 7, "additional_arguments": ["--level", "2"]})
        assert (batch.num_envs, batch.vectorization, batch.may_be_absent, batch.replayable) == (
            3,
            "adapter",
            True,
            False,
        )
        assert batch.single_observation_space == spaces.Box(-np.inf, np.inf, (4,), np.float32)
        assert batch.single_action_space == spaces.Box(-1, 1, (2,), np.float32)
        assert batch.metadata["replayable"] is False
        assert batch.environment_id == "Reach"
        process = batch.call_slots("unity")[0]._process
        batch.close()
        assert process.poll() is not None
        assert [line["what"] for line in scene.log if line["what"] in ("started", "quit")] == ["started", "quit"]
        started = scene.noted("started")[0]
        assert started["seed"] == 7
        assert started["arguments"][-2:] == ["--level", "2"]

    def test_several_players_are_stepped_at_the_same_time(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path, "--agents", 2)
        batch = open_environments(
            "unity", n_environments=3, environment_kwargs={"file_name": scene.path, "no_graphics": True}
        )
        try:
            batch.reset_slots()
            assert batch.num_envs == 6
            assert batch._threads is not None  # type: ignore[attr-defined]
            steps = _steps(batch, 3)
            assert all(step.acted.all() for step in steps)
            # Other seeds, or all of them would play the same episodes.
            assert len({tuple(row) for row in steps[0].observations}) == 6
        finally:
            batch.close()
        started = scene.noted("started")
        ports = {line["arguments"][line["arguments"].index("--mlagents-port") + 1] for line in started}
        assert len(ports) == len({line["seed"] for line in started}) == 3
        assert all("-nographics" in line["arguments"] for line in started)

    def test_an_adapter_of_ones_own_keeps_its_player(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path)
        with UnityEnvironmentAdapter(scene.path) as unity:
            agent = StableBaselinesAgent("ppo", TINY).train(unity, 16, progress_bar=False)
            agent.evaluate(unity, n_eval_episodes=2)
            assert not scene.noted("quit")
            with pytest.raises(ArgumentError, match="made already"):
                open_environments(unity, environment_kwargs={"timeout": 3})
        assert len(scene.noted("started")) == len(scene.noted("quit")) == 1

    def test_a_factory_makes_players_that_are_ended(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path)
        batch = open_environments(lambda: UnityEnvironmentAdapter(scene.path), n_environments=2)
        batch.close()
        assert len(scene.noted("started")) == len(scene.noted("quit")) == 2

    def test_environment_of_the_library_stays_the_users(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path, "--actions", "discrete")
        unity = load_mlagents_envs().UnityEnvironment(str(scene.path), base_port=own_port(), timeout_wait=20)
        try:
            batch = open_environments(unity)
            batch.reset_slots()
            assert batch.single_action_space == spaces.Discrete(5)
            assert all(step.acted.all() for step in _steps(batch, 5))
            batch.close()
            with pytest.raises(ArgumentError, match=r"time_scale'\]=3: .*running already"):
                open_environments(unity, environment_kwargs={"time_scale": 3})
            unity.step()
        finally:
            unity.close()

    def test_editor(self, tmp_path: Path) -> None:
        """Who presses Play is another process that connects to the Editor's port."""
        scene, port = Scene(tmp_path), own_port()
        with subprocess.Popen([str(scene.path), "--mlagents-port", str(port)]) as play:
            batch = open_environments("unity", environment_kwargs={"file_name": None, "base_port": port, "timeout": 60})
            batch.reset_slots()
            assert _steps(batch, 2)[1].acted.all()
            batch.close()
            assert play.wait(60) == 0


class TestSpaces:
    @pytest.mark.parametrize(
        ("actions", "kwargs", "space"),
        [
            ("discrete", {}, spaces.Discrete(5)),
            ("branches", {}, spaces.MultiDiscrete([3, 3])),
            ("hybrid", {}, {"continuous": (1,), "discrete": (1,)}),
            ("hybrid", {"hybrid_actions": "scores"}, spaces.Box(-1, 1, (6,), np.float32)),
            ("hybrid", {"hybrid_actions": "bins", "n_bins": 3}, spaces.MultiDiscrete([3, 5])),
        ],
        ids=["discrete", "branches", "hybrid-dict", "hybrid-scores", "hybrid-bins"],
    )
    def test_actions_arrive(self, tmp_path: Path, actions: str, kwargs: dict[str, Any], space: Any) -> None:
        scene = Scene(tmp_path, "--actions", actions, "--agents", 2, "--masks")
        batch = open_environments(scene.path, environment_kwargs=kwargs)
        try:
            if isinstance(space, dict):
                assert {key: part.shape for key, part in batch.single_action_space.spaces.items()} == space  # type: ignore[attr-defined]
            else:
                assert batch.single_action_space == space
            _, infos = batch.reset_slots()
            batch.action_space.seed(0)
            given = []
            for _ in range(6):
                action = batch.action_space.sample()
                masks = [info.get("action_mask", info.get("discrete_action_mask")) for info in infos]
                given += [self._expected(actions, kwargs, action, row, masks[row]) for row in range(2)]
                step = batch.step_slots(action)
                infos = [step.reset_infos.get(row, step.infos[row]) for row in range(2)]
        finally:
            batch.close()
        taken = [line["action"] for line in scene.noted("action")]
        assert sorted(map(tuple, np.round(taken, 4))) == sorted(map(tuple, np.round(given, 4)))

    @staticmethod
    def _expected(kind: str, kwargs: dict[str, Any], action: Any, row: int, mask: Any) -> list[float]:
        if kind != "hybrid":
            return np.ravel(action[row]).tolist()
        if not kwargs:
            return [*action["continuous"][row].tolist(), *action["discrete"][row].tolist()]
        if kwargs["hybrid_actions"] == "bins":
            return [float(action[row, 0]) - 1.0, float(action[row, 1])]
        scores = np.where(mask, action[row, 1:], -np.inf)
        return [float(action[row, 0]), float(np.argmax(scores))]

    def test_hybrid_actions_as_they_are_name_the_option(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path, "--actions", "hybrid")
        with pytest.raises(UnsupportedSpaceError):
            StableBaselinesAgent("ppo", TINY).train(scene.path, 16, progress_bar=False)

    @pytest.mark.parametrize(
        ("algorithm", "actions", "kwargs"),
        [
            ("maskable_ppo", "discrete", {}),
            ("maskable_ppo", "hybrid", {"hybrid_actions": "bins"}),
            ("ppo", "hybrid", {"hybrid_actions": "scores"}),
        ],
        ids=["discrete", "hybrid-bins", "hybrid-scores"],
    )
    def test_masks_hold_in_training(self, tmp_path: Path, algorithm: str, actions: str, kwargs: dict[str, Any]) -> None:
        """A random policy would choose what is forbidden more often than not."""
        scene = Scene(tmp_path, "--actions", actions, "--agents", 4, "--masks", "--periods", "1,2")
        agent = StableBaselinesAgent(algorithm, TINY)
        agent.train(scene.path, 100, environment_kwargs=kwargs, seed=0, progress_bar=False)
        transitions = scene.transitions()
        assert len(transitions) >= 100
        assert sum(sum(transition["mask"]) for transition in transitions) > 100
        assert not any(transition["mask"][int(transition["action"][-1])] for transition in transitions)

    def test_visual_observations(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path, "--observations", "both", "--agents", 2)
        shape = (3, PIXELS, PIXELS) if sends_channels_first() else (PIXELS, PIXELS, 3)
        for kind, space in (
            ("uint8", spaces.Box(0, 255, shape, np.uint8)),
            ("float", spaces.Box(-np.inf, np.inf, shape, np.float32)),
        ):
            with UnityEnvironmentAdapter(scene.path, visual_observations=kind) as unity:
                batch = open_environments(unity)
                assert isinstance(batch.single_observation_space, spaces.Dict)
                assert list(batch.single_observation_space) == ["obs_0", "obs_1"]
                assert batch.single_observation_space["obs_1"] == space
                assert unity.sensor_names == {"Reach?team=0": ["Vector", "Camera"]}
                observations, _ = batch.reset_slots()
                picture = observations["obs_1"][0] / (255 if kind == "uint8" else 1)
                picture = np.moveaxis(picture, 0, 2) if sends_channels_first() else picture
                # The player draws squares of five pixels, whose colours add up where they meet.
                assert picture[:, :, 0].sum() == pytest.approx(25)
                column = int((observations["obs_0"][0][0] + 1.2) / 2.4 * (PIXELS - 5))
                assert picture[:, column, 0].sum() == pytest.approx(5)

    @pytest.mark.parametrize(("observations", "policy"), [("visual", "CnnPolicy"), ("both", "MultiInputPolicy")])
    def test_images_are_learned_from_and_filmed(self, tmp_path: Path, observations: str, policy: str) -> None:
        scene = Scene(tmp_path, "--observations", observations, "--agents", 2)
        with UnityEnvironmentAdapter(scene.path) as unity:
            agent = StableBaselinesAgent("ppo", {**TINY, "policy": policy})
            agent.train(unity, 16, progress_bar=False)
            film = record_video(agent, unity, tmp_path / "film.gif", length=4, show_progress=False)
        assert film.stat().st_size > 100

    def test_video_without_a_camera_says_what_to_do(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path)
        with UnityEnvironmentAdapter(scene.path) as unity:
            agent = StableBaselinesAgent("ppo", TINY).train(unity, 16, progress_bar=False)
            with pytest.raises(RecordingError, match="Add a CameraSensorComponent"):
                record_video(agent, unity, tmp_path / "film.gif", length=4, show_progress=False)


class TestBehaviors:
    def test_one_of_several_is_chosen(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path, "--agents", 4, "--behaviors", "Cat?team=0,Mouse?team=0")
        with pytest.raises(
            EnvironmentSourceError, match=r"2 behaviours \('Cat\?team=0', 'Mouse\?team=0'\).*MultiAgent"
        ):
            open_environments(scene.path)
        with pytest.raises(EnvironmentSourceError, match=r"behavior_name='Dog': .*no such.*'Mouse\?team=0'"):
            open_environments(scene.path, environment_kwargs={"behavior_name": "Dog"})
        batch = open_environments(scene.path, environment_kwargs={"behavior_name": "Mouse"})
        batch.reset_slots()
        _steps(batch, 4)
        batch.close()
        assert batch.num_envs == 2
        cats = scene.transitions("Cat?team=0")
        assert len(cats) >= 8
        assert all(transition["action"] == [0.0, 0.0] for transition in cats)
        assert all(any(transition["action"]) for transition in scene.transitions("Mouse?team=0"))

    def test_groups(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path, "--agents", 3, "--behaviors", "Cat?team=0,Mouse?team=0", "--periods", "1,2")
        unity = UnityEnvironmentAdapter()
        try:
            unity.setup_groups(scene.path, {"hunters": ["Cat"], "Mouse": None})
            assert {name: group.n_slots for name, group in unity.groups.items()} == {"hunters": 2, "Mouse": 1}
            begun = unity.reset_groups()
            present = {name: there for name, (_, _, there) in begun.items()}
            pending = 0
            for _ in range(5):
                actions = {
                    name: [group.action_space.sample() if there else None for there in present[name]]
                    for name, group in unity.groups.items()
                }
                steps = unity.step_groups(actions)
                present = {name: step.present for name, step in steps.items()}
                pending += steps["Mouse"].pending is not None
            assert pending >= 2
            with pytest.raises(ArgumentError, match="cannot share"):
                unity.setup_groups(unity, {"Cat": None, "also": ["Cat?team=0"]})
        finally:
            unity.close()


class TestSideChannels:
    def test_parameters_and_engine(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path)
        sampler = {"type": "uniform", "minimum": 1, "maximum": 2, "seed": 5}
        parameters = {"radius": 0.5, "gravity": sampler, "size": {"type": "multirange", "intervals": [[0, 1], [2, 3]]}}
        with UnityEnvironmentAdapter(
            scene.path,
            time_scale=4,
            environment_parameters=parameters,
            engine={"width": 64, "height": 48, "target_frame_rate": -1},
        ) as unity:
            batch = open_environments(unity)
            batch.reset_slots(options={"environment_parameters": {"radius": 0.25}})
            batch.call_slots("set_environment_parameters", radius=0.125)
            _steps(batch, 1)
            with pytest.raises(ArgumentError, match=r"environment_parameters\['mood'\]='good': must be a number"):
                unity.set_environment_parameters(mood="good")
            with pytest.raises(ArgumentError, match=r'"uniform" with minimum, maximum'):
                unity.set_environment_parameters(mood={"type": "uniform", "low": 1})
        assert [line["value"] for line in scene.noted("parameter")] == [0.5, 0.25, 0.125]
        gravity, size = scene.noted("sampler")
        assert (gravity["seed"], gravity["numbers"]) == (5, [1.0, 2.0])
        assert size["kind"] == 2
        assert [(line["kind"], line["values"]) for line in scene.noted("engine")] == [
            (0, [64, 48]),
            (2, [4.0]),
            (3, [-1]),
        ]

    def test_own_channels_and_statistics(self, tmp_path: Path) -> None:
        load_mlagents_envs()
        from mlagents_envs.side_channel.raw_bytes_channel import RawBytesChannel

        channel = RawBytesChannel(uuid.UUID(bytes_le=ECHO))
        channel.send_raw_data(b"unity")
        scene = Scene(tmp_path, "--statistics", "--max-steps", 3)
        with UnityEnvironmentAdapter(scene.path, side_channels=[channel]) as unity:
            batch = open_environments(unity)
            batch.reset_slots()
            steps = _steps(batch, 6)
        assert channel.get_and_clear_received_messages() == [b"ytinu"]
        ended = [step.infos[0] for step in steps if step.truncated[0] or step.terminated[0]]
        assert len(ended) >= 2
        assert all(info["episode_metrics"]["distance"] > 0 for info in ended)


class TestFailures:
    def test_executable_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(EnvironmentSourceError, match=r"Nothing\.x86_64': there is no Unity executable.*Build"):
            open_environments(tmp_path / "Nothing.x86_64")
        scene = Scene(tmp_path / "build")
        with pytest.raises(EnvironmentSourceError, match=r"It is a folder: .*Reach\.x86_64"):
            open_environments(tmp_path / "build")
        scene.path.chmod(0o644)
        with pytest.raises(EnvironmentSourceError, match=r"may not be executed. Allow it: chmod \+x '.*Reach\.x86_64'"):
            open_environments(scene.path)
        scene.path.chmod(0o755)
        scene.path.write_bytes(b"\x7fnothing that runs")
        with pytest.raises(EnvironmentSourceError, match=r"it cannot be run.*for this system"):
            open_environments(scene.path)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--exit", 3), r"ended before it connected: .*return code 3.*Give log_folder"),
            (("--silent",), r"did not connect within 1 seconds. .*longer timeout.*log_folder"),
            (("--version", "0.16.0"), r"speaks another version.*Python API: 1\.5\.0, Unity API: 0\.16\.0.*Install"),
            (("--version", "newest"), r"speaks another version.*newest"),
        ],
        ids=["exits", "silent", "version", "no-version"],
    )
    def test_player_that_cannot_be_spoken_to(self, tmp_path: Path, arguments: Any, message: str) -> None:
        scene = Scene(tmp_path, *arguments)
        timeout = 1.0 if "--silent" in arguments else 60.0
        with pytest.raises(EnvironmentSourceError, match=message):
            open_environments(scene.path, environment_kwargs={"timeout": timeout})

    def test_images_of_another_version(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path, "--observations", "both", "--foreign-images")
        with pytest.raises(EnvironmentSourceError, match=r"cannot read what .*Reach.*install the one that belongs"):
            open_environments(scene.path)

    def test_editor_that_nobody_starts(self) -> None:
        options = {"base_port": own_port(), "timeout": 0.3}
        with pytest.raises(EnvironmentSourceError, match="Press Play in the Editor while it waits"):
            open_environments("unity", environment_kwargs=options)

    def test_port_in_use(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path)
        with socket.socket() as other:
            other.bind(("localhost", 0))
            other.listen()
            port = other.getsockname()[1]
            with pytest.raises(EnvironmentSourceError, match=rf"base_port={port}: port {port} is in use: .*leave"):
                open_environments(scene.path, environment_kwargs={"base_port": port, "worker_id": 0})
            with pytest.raises(EnvironmentSourceError, match=rf"port {port} is in use: .*--mlagents-port"):
                open_environments("unity", environment_kwargs={"base_port": port})
            # Without a number of its own, a player takes the next port.
            open_environments(scene.path, environment_kwargs={"base_port": port}).close()
        assert scene.noted("started")[0]["arguments"][1] != str(port)

    @pytest.mark.parametrize(
        ("option", "error", "message"),
        [
            ({"time_scal": 1}, UnknownNameError, "Did you mean 'time_scale'"),
            ({"time_scale": 0}, ArgumentError, "time_scale=0: must be a number larger"),
            ({"time_scale": "fast"}, ArgumentError, "time_scale='fast': must be a number"),
            ({"timeout": None}, ArgumentError, "timeout=None: must be a number"),
            ({"environment_parameters": ["radius"]}, ArgumentError, "environment_parameters=.*must be a mapping"),
            ({"file_name": 3}, ArgumentError, "file_name=3: must be a path"),
            ({"hybrid_actions": "both"}, ArgumentError, "'dict', 'scores', 'bins'"),
            ({"max_agents": 0}, ArgumentError, "max_agents=0"),
            ({"additional_arguments": "-a -b"}, ArgumentError, "list of strings"),
            ({"worker_id": 2}, ArgumentError, "the Editor is always worker 0"),
        ],
        ids=[
            "unknown",
            "time-scale",
            "speed",
            "timeout",
            "parameters",
            "file",
            "hybrid",
            "max-agents",
            "arguments",
            "worker",
        ],
    )
    def test_options_are_checked_before_anything_starts(self, option: Any, error: Any, message: str) -> None:
        with pytest.raises(error, match=message):
            UnityEnvironmentAdapter(**option)

    @pytest.mark.parametrize("misdeed", ["crash", "hang"])
    def test_player_dies_in_mid_episode(
        self, tmp_path: Path, misdeed: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is started again; nobody's episode goes on into another one, and training goes on."""
        load_mlagents_envs()
        from rl_framework.environment.unity import player

        scene = Scene(tmp_path, f"--{misdeed}-at", 9, "--once", tmp_path / "once", "--agents", 3, "--periods", "1,2")
        skipped = 0

        def monotonic() -> float:
            """Hurries while the player hangs: nobody waits for a time-out that a player on a busy machine keeps."""
            nonlocal skipped
            if unity.restarts == 0 and scene.noted("hang_at"):
                skipped += 20
            return time.monotonic() + skipped

        with UnityEnvironmentAdapter(scene.path, timeout=60, environment_parameters={"radius": 0.01}) as unity:
            batch = open_environments(unity)
            batch.reset_slots()
            monkeypatch.setattr(player, "time", SimpleNamespace(monotonic=monotonic))
            steps = _steps(batch, 12)
            assert unity.restarts == batch.get_slots("restarts")[0] == 1
            # That it has crashed is seen at once, and not when its time is up.
            cause = "Environment shut down with return code 139." if misdeed == "crash" else "no message for 60 seconds"
            assert f"Reach.x86_64 died ({cause})" in caplog.text
            (index,) = (number for number, step in enumerate(steps) if "player_died" in step.infos[0])
            died = steps[index]
            assert died.truncated.all()
            assert died.acted.all()
            assert (died.rewards == 0).all()
            before = steps[index - 1].observations
            for slot in range(3):
                assert (died.final_observations[slot] == before[slot]).all()
                assert (died.observations[slot] != before[slot]).any()
                assert died.infos[slot]["episode"]["l"] >= 1
            assert all(step.acted.any() for step in steps[index + 1 :])
        seeds = [line["seed"] for line in scene.noted("started")]
        assert len(set(seeds)) == 2
        assert len(scene.noted("parameter")) == 2  # the new one was told, too

    def test_training_survives_a_crash(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path, "--crash-at", 20, "--once", tmp_path / "once", "--agents", 2)
        agent = StableBaselinesAgent("ppo", TINY).train(scene.path, 100, progress_bar=False)
        assert agent.num_timesteps >= 100
        assert len(scene.noted("started")) == 2

    def test_a_run_is_recorded_under_the_name_that_it_was_given(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path)
        kwargs = {"file_name": str(scene.path)}
        agent = StableBaselinesAgent("ppo", TINY).train("unity", 8, environment_kwargs=kwargs, progress_bar=False)
        agent.train(scene.path, 8, progress_bar=False)
        recorded = [(run["environment_source"], run["environment"]) for run in agent.history()["runs"]]
        assert recorded == [("id", "unity"), ("objects", "Reach")]

    def test_training_is_resumed_with_new_episodes(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        scene = Scene(tmp_path, "--agents", 4, "--periods", "1,2")
        arguments = {"seed": 1, "progress_bar": False, "n_environments": 2}
        first = StableBaselinesAgent("ppo", TINY)
        first.train(scene.path, 150, checkpoint_every=64, checkpoint_directory=tmp_path / "checkpoints", **arguments)
        second = StableBaselinesAgent("ppo", TINY)
        second.train(scene.path, 300, resume_from=tmp_path / "checkpoints", **arguments)
        assert second.num_timesteps >= 300 > first.num_timesteps
        assert "cannot be replayed" in caplog.text
        assert len(scene.noted("started")) == 4

    def test_every_player_has_a_log_of_its_own(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path, "--crash-at", 4, "--once", tmp_path / "once")
        with UnityEnvironmentAdapter(scene.path, log_folder="logs") as unity:
            batch = open_environments(unity)
            batch.reset_slots()
            _steps(batch, 5)
        logs = {line["arguments"][line["arguments"].index("-logFile") + 1] for line in scene.noted("started")}
        assert len(logs) == 2
        assert {Path(log).parent for log in logs} == {tmp_path / "logs"}

    def test_a_program_that_leaves_a_player_open_ends(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path)
        code = (
            "import sys\nfrom pathlib import Path\nfrom rl_framework.environment.unity import UnityEnvironmentAdapter\n"
            "UnityEnvironmentAdapter(Path(sys.argv[1])).open()\nraise SystemExit(7)"
        )
        command = [sys.executable, "-W", "ignore", "-c", code, str(scene.path)]
        assert subprocess.run(command, check=False, timeout=120).returncode == 7
        assert len(scene.noted("quit")) == 1  # it was told to, and not left behind

    def test_a_path_as_a_text_is_told_how_to_be_one(self) -> None:
        for name in ("builds/Reach.x86_64", "/builds/Reach.exe"):
            with pytest.raises(EnvironmentSourceError, match=rf"given as a path: pathlib\.Path\('{name}'\)"):
                open_environments(name)

    def test_player_that_dies_again_and_again(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path, "--crash-at", 4)
        with UnityEnvironmentAdapter(scene.path, max_restarts=2) as unity:
            batch = open_environments(unity)
            batch.reset_slots()
            with pytest.raises(RLFrameworkError, match=r"died 3 times.*max_restarts=2.*return code 139.*log_folder"):
                _steps(batch, 30)
            assert unity.restarts == 2
        assert len(scene.noted("started")) == 3

    def test_given_environment_cannot_be_restarted(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path, "--crash-at", 4)
        unity = load_mlagents_envs().UnityEnvironment(str(scene.path), base_port=own_port(), timeout_wait=20)
        batch = open_environments(unity)
        batch.reset_slots()
        with pytest.raises(RLFrameworkError, match="give the path of the executable instead"):
            _steps(batch, 5)
        unity.close()

    def test_numbers_that_are_not_finite(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path, "--nan-at", 5)
        batch = open_environments(scene.path)
        batch.reset_slots()
        with pytest.raises(NonFiniteError, match="non-finite reward"):
            _steps(batch, 6)
        batch.close()


def test_the_generated_messages_are_the_librarys(tmp_path: Path) -> None:
    """Rebuilt from their descriptions: all of them, with what they inherit from each other."""
    load_mlagents_envs()
    from mlagents_envs import communicator_objects
    from mlagents_envs.communicator_objects import agent_info_pb2, command_pb2, unity_message_pb2

    names = sorted(path.stem for path in Path(communicator_objects.__path__[0]).glob("*_pb2.py"))
    assert len(names) > 15
    for name in names:
        assert __import__(f"{communicator_objects.__name__}.{name}", fromlist=["DESCRIPTOR"]).DESCRIPTOR.name.endswith(
            f"{name.removesuffix('_pb2')}.proto"
        )
    assert (command_pb2.STEP, command_pb2.RESET) == (0, 1)
    message = unity_message_pb2.UnityMessageProto()
    message.unity_output.rl_output.agentInfos["Cat"].value.append(agent_info_pb2.AgentInfoProto(id=3, reward=0.5))
    again = unity_message_pb2.UnityMessageProto.FromString(message.SerializeToString())
    assert again.unity_output.rl_output.agentInfos["Cat"].value[0].reward == 0.5


def test_asking_for_other_environments_loads_no_grpc() -> None:
    code = (
        "import sys; from rl_framework.environment import open_environments; import gymnasium\n"
        "open_environments(lambda: gymnasium.make('CartPole-v1'))\n"
        "print([name for name in ('grpc', 'mlagents_envs', 'google.protobuf') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
