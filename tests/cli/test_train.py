"""`train` and `resume` make one configuration of options, files and overrides, and say what they chose."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.commands import SMALL, rl

import rl_framework
from rl_framework.experiment import Run, load_config

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("--total-timesteps", "32", "--n-eval-episodes", "2", *SMALL)


def test_options_become_the_configuration_of_the_run(tmp_path: Path) -> None:
    options = ["--algo", "PPO", "--no-preset", "--net", "mlp", "--env", "CartPole-v1", "--lr", "0.01", "--seed", "7"]
    options += ["--device", "cpu", "--n-environments", "2", "--checkpoint-every", "16", "--run-dir", "mine"]
    said = rl(
        "train", *options, "--name", "first", "--record-video", "--connector", "tensorboard", *QUICK, "video.length=3"
    )
    run = Run.open("mine/first")
    config = run.config
    assert config.agent is not None
    assert config.environment is not None
    assert config.agent.to_data() == {
        "type": "stable_baselines",
        "algorithm": "ppo",
        "parameters": {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "policy": "MlpPolicy", "learning_rate": 0.01},
    }
    assert (config.seed, config.device, config.environment.n_environments) == (7, "cpu", 2)
    assert (config.training.total_timesteps, config.training.checkpoint_every) == (32, 16)
    assert [connector.type for connector in config.connectors] == ["tensorboard"]
    assert run.status == "finished"
    assert run.timestep == 32
    assert [path.name for path in run.videos] == ["final.mp4"]
    assert said.last_line == "rl-framework resume mine/first"
    assert "Parameters: as the library has them (--no-preset)" in said.err
    assert "32 of 32 timesteps (100 %)" in said.err
    assert (run.folder / "tensorboard").is_dir()


def test_a_second_run_does_not_touch_the_first() -> None:
    arguments = ["train", "--algo", "ppo", "--no-preset", "--env", "CartPole-v1", *QUICK, "evaluation=null", "--json"]
    first, second = rl(*arguments).data["run"], rl(*arguments).data["run"]
    assert (first, second) == ("runs/ppo-CartPole-v1", "runs/ppo-CartPole-v1-2")


def test_the_preset_is_taken_and_told() -> None:
    arguments = ["train", "--algo", "ppo", "--env", "CartPole-v1", "--total-timesteps", "256", "evaluation=null"]
    said = rl(*arguments, "--name", "tuned", "--lr", "0.5")
    assert "Parameters: preset ppo/CartPole-v1 (RL Baselines3 Zoo" in said.err
    config = Run.open("runs/tuned").config
    assert config.agent is not None
    parameters = config.agent.given()["parameters"]
    assert (parameters["n_steps"], parameters["n_epochs"], parameters["learning_rate"]) == (32, 20, 0.5)
    assert config.environment is not None
    assert config.environment.n_environments == 8


def test_the_usual_wrappers_of_atari_are_put_on_and_told() -> None:
    pytest.importorskip("ale_py")
    arguments = ["--algo", "ppo", "--net", "cnn", "--env", "ALE/Pong-v5", "--no-preset", "--total-timesteps", "16"]
    said = rl("train", *arguments, *SMALL, "evaluation=null", "--name", "pong")
    assert "Wrappers: atari, frame_stack (stack_size 4)" in said.err
    agent = rl_framework.load_agent("runs/pong/agent.zip")
    assert [wrapper["type"] for wrapper in agent.wrappers] == ["atari", "frame_stack"]
    assert agent.algorithm.policy.__class__.__name__ == "ActorCriticCnnPolicy"  # type: ignore[attr-defined]


def test_parts_are_put_together() -> None:
    arguments = ["--algo", "ppo+rnd", "--env", "CartPole-v1", "--net", "mlp", "--lr", "0.002"]
    rl(
        "train",
        *arguments,
        "--total-timesteps",
        "32",
        "evaluation=null",
        "agent.parts[0].n_steps=16",
        "agent.parts[0].batch_size=16",
    )
    agent = rl_framework.load_agent("runs/ppo+rnd-CartPole-v1/agent.zip")
    assert isinstance(agent, rl_framework.ComposedAgent)
    assert [type(part).__name__ for part in agent.parts] == ["PPO", "RND"]
    assert agent.settings.learning_rate == 0.002


def test_an_expert_is_imitated(tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(ROOT / "data")
    arguments = ["--algo", "bc", "--episodes", "data/cartpole_expert", "--env", "CartPole-v1", "--lr", "0.01"]
    said = rl("train", *arguments, "--total-timesteps", "20000", "--n-eval-episodes", "5", "--seed", "0", "--json")
    assert said.data["results"]["mean"] > 100  # by chance it is 22
    config = load_config("runs/bc-CartPole-v1/config.yaml")
    assert config.agent is not None
    assert config.agent.given()["parameters"] == {"optimizer_kwargs": {"lr": 0.01}}


def test_a_file_is_changed_by_options_and_these_by_overrides() -> None:
    Path("a.yaml").write_text(
        "agent: {algorithm: ppo, parameters: {n_steps: 16, batch_size: 16, learning_rate: 0.1}}\n"
        "environment: {id: CartPole-v1, n_environments: 2}\n"
        "training: {total_timesteps: 999}\nvideo: {length: 4}\nevaluation: null\nname: from-file\n"
    )
    rl("train", "--config", "a.yaml", "--total-timesteps", "64", "--lr", "0.2", "training.total_timesteps=32")
    config = Run.open("runs/from-file").config
    assert config.agent is not None
    assert config.agent.given()["parameters"] == {"n_steps": 16, "batch_size": 16, "learning_rate": 0.2}
    assert config.training.total_timesteps == 32
    rl("train", "--config", "a.yaml", "--algo", "a2c", "--record-video", "--total-timesteps", "16", "--name", "other")
    config = Run.open("runs/other").config
    assert config.agent is not None
    assert config.agent.to_data() == {"type": "stable_baselines", "algorithm": "a2c"}  # no parameters of another one
    assert config.video is not None
    assert config.video.length == 4  # as the file has it


def test_several_seeds_are_a_run_each() -> None:
    arguments = ["--algo", "ppo", "--no-preset", "--env", "CartPole-v1", "--seeds", "0,2", "--name", "both", *QUICK]
    data = rl("train", *arguments, "--json").data
    assert data["seeds"] == {"0": "runs/both/seed-0", "2": "runs/both/seed-2"}
    assert data["results"]["n_seeds"] == 2
    evaluated = rl("evaluate", "runs/both", "--episodes", "2", "--seed", "1", "--json").data
    assert set(evaluated["seeds"]) == {"0", "2"}
    assert evaluated["n_seeds"] == 2
    assert "seed-0" in rl("infer", "runs/both", code=2).err


def test_a_run_goes_on(copied: Path) -> None:
    before = rl_framework.load_agent(copied / "agent.zip").num_timesteps  # type: ignore[attr-defined]
    assert "is finished" in rl("resume", str(copied)).err
    said = rl("resume", str(copied / "agent.zip"), "--total-timesteps", "96")
    assert before == 64
    assert "goes on at timestep 64" in said.err
    assert Run.open(copied).timestep == 96
    assert said.last_line == "rl-framework resume runs/tiny"


def test_an_address_is_no_run_to_go_on_with() -> None:
    said = rl("resume", "s3://bucket/run", code=2).err.replace("\n", " ")
    assert "RUN='s3://bucket/run': is no path of this machine" in said
    assert "resume_from=ADDRESS" in said


def test_resuming_ends_with_the_weights_of_a_training_that_went_through(copied: Path) -> None:
    rl("resume", str(copied), "--total-timesteps", "96")
    options = ["--algo", "ppo", "--no-preset", "--env", "CartPole-v1", "--total-timesteps", "96", "--seed", "3"]
    rl("train", *options, "--name", "whole", "evaluation=null", *SMALL)
    agents = [rl_framework.load_agent(f"runs/{name}/agent.zip") for name in ("tiny", "whole")]
    states = [agent.algorithm.policy.state_dict() for agent in agents]  # type: ignore[attr-defined]
    assert all(tensor.equal(states[1][name]) for name, tensor in states[0].items())


EXPERT = ROOT / "data" / "cartpole_expert"
CARTPOLE = ("--algo", "ppo", "--env", "CartPole-v1")
MISTAKES = {
    "algorithm": (("--algo", "ppp", "--env", "CartPole-v1"), "--algo='ppp': not known. Did you mean 'ppo'"),
    "part": (("--algo", "ppo+rndd", "--env", "CartPole-v1"), "Did you mean 'rnd'"),
    "environment": (("--algo", "ppo", "--env", "CartPol-v1"), "Did you mean 'CartPole-v1'"),
    "version": (("--algo", "ppo", "--env", "CartPole"), "--env: 'CartPole': gymnasium could not make it"),
    "no-id": (("--algo", "ppo", "--backend", "pettingzoo"), "error: --env: the backend 'pettingzoo' needs an id"),
    "part-alone": (("--algo", "rnd", "--env", "CartPole-v1"), "It is a part, which joins others: ppo+rnd"),
    "rate": ((*CARTPOLE, "--lr", "-1"), "--lr: must be at least 0, and is -1"),
    "backend": ((*CARTPOLE, "--backend", "gymnasum"), "--backend: 'gymnasum': not known. Did you mean 'gymnasium'"),
    "isaac": (("--algo", "ppo", "--env", "X", "--backend", "isaac"), 'pip install "isaaclab['),
    "omniverse": (("--algo", "ppo", "--env", "X", "--backend", "omniverse"), "Omniverse is a platform"),
    "network": ((*CARTPOLE, "--net", "cn"), "--net='cn': not known. Did you mean 'cnn'"),
    "network-of-others": ((*CARTPOLE, "--net", "impala_cnn"), "networks: impala_cnn"),
    "network-for-images": ((*CARTPOLE, "--net", "cnn", "--total-timesteps", "8"), "CnnPolicy"),
    "timesteps": ((*CARTPOLE, "--total-timesteps", "0"), "--total-timesteps: must be at least 1, and is 0"),
    "device": ((*CARTPOLE, "--device", "gpu"), "--device: must be auto, cpu, cuda"),
    "key": ((*CARTPOLE, "trainings.total_timesteps=3"), "did you mean 'training'"),
    "no-key": ((*CARTPOLE, "training"), "write a.b=value"),
    "seeds": ((*CARTPOLE, "--seeds", "0,a"), "--seeds='0,a': must be integers"),
    "two-seeds": ((*CARTPOLE, "--seeds", "0,1", "--seed", "3"), "--seeds: is given beside seed"),
    "no-algorithm": (("--env", "CartPole-v1"), "--algo: is needed, such as ppo"),
    "no-environment": (("--algo", "ppo"), "--env: is needed, such as CartPole-v1"),
    "no-episodes": (("--algo", "bc", "--env", "CartPole-v1"), "error: --episodes: is needed, such as data/"),
    "no-such-episodes": (("--algo", "bc", "--episodes", "nowhere"), "--episodes='nowhere': there is no such data set"),
    "nowhere-to-act": (("--algo", "gail", "--episodes", str(EXPERT)), "--env=None: 'gail' acts while it learns"),
    "no-use-of-episodes": ((*CARTPOLE, "--episodes", "x"), "does not learn from episodes"),
    "no-preset": (("--algo", "ppo", "--env", "Taxi-v3", "--preset"), "--preset='ppo/Taxi-v3': not known"),
    "no-file": (("--config", "nowhere.yaml"), "nowhere.yaml: cannot be read"),
    "no-unity": (("--algo", "ppo", "--backend", "unity", "--env", "x.x86_64"), "there is no Unity executable"),
    "learning-rates": (("--algo", "gail", "--env", "CartPole-v1", "--lr", "1"), "or several"),
    "connector": ((*CARTPOLE, "--connector", "tensorbord"), "Did you mean 'tensorboard'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_without_a_traceback_and_leaves_nothing(mistake: str) -> None:
    arguments, message = MISTAKES[mistake]
    said = rl("train", *arguments, code=2)
    assert message in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    assert not Path("runs").exists() or list(Path("runs").iterdir()) == []


def test_a_gpu_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "--device='cuda': torch sees no such device" in rl("train", *CARTPOLE, "--device", "cuda", code=2).err


def test_a_failure_is_kept_in_the_run_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    import gymnasium

    def burn(self: object, action: object) -> None:
        raise ZeroDivisionError("the simulator burned, its token hf_abcdefghijklmnop with it")

    monkeypatch.setattr(gymnasium.envs.classic_control.CartPoleEnv, "step", burn)
    arguments = ["train", *CARTPOLE, "--no-preset", "--name", "burnt", *SMALL]
    said = rl(*arguments, code=1)
    log = Path("runs/burnt/error.log")
    assert said.err.splitlines()[-1] == f"The traceback is in {log}"
    assert "ZeroDivisionError: the simulator burned" in said.err
    assert "Traceback" not in said.err
    assert "in burn" in log.read_text()
    assert "hf_abcdefgh" not in log.read_text() + said.err
    shown = rl(*arguments, "--debug", "--json", code=1)
    assert "Traceback" in shown.err
    assert shown.data["error"]["type"] == "ZeroDivisionError"
