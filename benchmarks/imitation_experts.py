"""Trains the experts of the imitation study with this project's own `StableBaselinesAgent`, and records their episodes.

PPO on the `seals` environments, with the parameters that the authors of `imitation` published with their experts
(model cards of the Hugging Face organisation HumanCompatibleAI, `ppo-seals-...`). Two things differ, and are the same
in effect: observations are normalised by the agent's own running statistics instead of `NormalizeFeaturesExtractor`,
and the same number of steps a rollout comes from several environments in one process instead of one. Run it with

    python benchmarks/imitation_experts.py --environments seals/CartPole-v0 seals/Hopper-v1

It can be interrupted and run again: training goes on from the newest checkpoint, and what is finished is not done
again. A folder for each environment then holds `expert.zip` (a bundle), `expert.json` (its returns) and `episodes`.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import seals  # noqa: F401  (registers the environments)
import torch

from rl_framework import StableBaselinesAgent, load_agent
from rl_framework.evaluation import EvaluationResult
from rl_framework.whole_file import written_whole

DEFAULT_DIRECTORY = Path("runs/imitation_experts")
EVALUATION_EPISODES = 100


@dataclass(frozen=True)
class Recipe:
    """How an expert is trained, and what the published one reaches.

    Attributes:
        parameters: Of PPO; `n_steps` is that of the rollout over all environments.
        timesteps: Environment steps, as published unless `our_timesteps` says otherwise.
        normalize: Whether the published expert normalised observations and scaled rewards.
        published: Mean return and standard deviation on the model card of the published expert.
        n_environments: How many environments are stepped together here.
        episodes: How many to record.
        seed: Of the training.
    """

    parameters: dict[str, Any]
    timesteps: int
    normalize: bool
    published: tuple[float, float]
    n_environments: int = 8
    episodes: int = 104
    seed: int = 0
    policy: dict[str, Any] = field(default_factory=dict)


RECIPES: dict[str, Recipe] = {
    "seals/CartPole-v0": Recipe(
        parameters={
            "batch_size": 256,
            "clip_range": 0.4,
            "ent_coef": 0.008508727919228772,
            "gae_lambda": 0.9,
            "gamma": 0.9999,
            "learning_rate": 0.0012403278189645594,
            "max_grad_norm": 0.8,
            "n_epochs": 10,
            "n_steps": 4096,
            "vf_coef": 0.489343896591493,
        },
        timesteps=100_000,
        normalize=False,
        published=(500.0, 0.0),
        policy={"activation_fn": "relu"},
    ),
    "seals/Hopper-v1": Recipe(
        parameters={
            "batch_size": 512,
            "clip_range": 0.1,
            "ent_coef": 0.0010159833764878474,
            "gae_lambda": 0.98,
            "gamma": 0.995,
            "learning_rate": 0.0003904770450788824,
            "max_grad_norm": 0.9,
            "n_epochs": 20,
            "n_steps": 2048,
            "vf_coef": 0.20315938606555833,
        },
        timesteps=1_000_000,
        normalize=True,
        published=(203.45, 1.19),
        policy={"activation_fn": "relu"},
    ),
    "seals/HalfCheetah-v1": Recipe(
        parameters={
            "batch_size": 64,
            "clip_range": 0.1,
            "ent_coef": 3.794797423594763e-06,
            "gae_lambda": 0.95,
            "gamma": 0.95,
            "learning_rate": 0.0003286871805949382,
            "max_grad_norm": 0.8,
            "n_epochs": 5,
            "n_steps": 512,
            "vf_coef": 0.11483689492120866,
        },
        timesteps=1_000_000,
        normalize=True,
        published=(1675.76, 45.89),
        policy={"activation_fn": "tanh"},
    ),
}


def folder_of(directory: Path, environment: str) -> Path:
    """Returns where the expert of an environment lies."""
    return directory / environment.replace("/", "-")


def train_expert(environment: str, directory: Path, timesteps: int | None = None) -> StableBaselinesAgent:
    """Trains an expert, or goes on training it where it was interrupted.

    Args:
        environment: Key of `RECIPES`.
        directory: Where the folders of the experts are.
        timesteps: Environment steps; None: those of the recipe.
    """
    recipe = RECIPES[environment]
    checkpoints = folder_of(directory, environment) / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    agent = StableBaselinesAgent(
        "ppo",
        {
            **recipe.parameters,
            "n_steps": recipe.parameters["n_steps"] // recipe.n_environments,
            "policy_kwargs": {"net_arch": {"pi": [64, 64], "vf": [64, 64]}, **recipe.policy},
            "device": "cpu",
        },
        normalize_observations=recipe.normalize,
        normalize_rewards=recipe.normalize,
    )
    agent.train(
        environment,
        timesteps or recipe.timesteps,
        recipe.n_environments,
        seed=recipe.seed,
        progress_bar=False,
        checkpoint_every=100_000,
        checkpoint_directory=checkpoints,
        resume_from=checkpoints,
        keep_last=2,
    )
    return agent


def summary_of(result: EvaluationResult) -> dict[str, Any]:
    """Returns what is stored of an evaluation: mean, interquartile mean and their 95 % intervals over the episodes."""
    return {
        "n_episodes": result.n_episodes,
        "mean": round(result.mean, 2),
        "std": round(result.std, 2),
        "interval": [round(end, 2) for end in result.confidence_interval(0.95)],
        "iqm": round(result.iqm, 2),
        "iqm_interval": [round(end, 2) for end in result.confidence_interval(0.95, "iqm")],
    }


def random_returns(environment: str, n_episodes: int = 20) -> list[float]:
    """Returns what random actions earn, to tell what a learner began with."""
    place = gymnasium.make(environment)
    place.action_space.seed(0)
    returns = []
    for episode in range(n_episodes):
        place.reset(seed=episode)
        total, over = 0.0, False
        while not over:
            _, reward, terminated, truncated, _ = place.step(place.action_space.sample())
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    place.close()
    return returns


def measure_expert(environment: str, agent: Any) -> dict[str, Any]:
    """Evaluates an expert, sampling its actions (as its episodes are recorded) and taking the likeliest ones."""
    recipe = RECIPES[environment]
    measured: dict[str, Any] = {
        "environment": environment,
        "timesteps": agent.num_timesteps,
        "published": {"mean": recipe.published[0], "std": recipe.published[1]},
        "random": round(float(np.mean(random_returns(environment))), 2),
    }
    for name, deterministic in (("sampled", False), ("deterministic", True)):
        result = agent.evaluate(environment, EVALUATION_EPISODES, deterministic=deterministic, seed=1)
        measured[name] = summary_of(result)
    return measured


def collect_episodes(environment: str, agent: Any, directory: Path) -> None:
    """Records the expert's episodes, with sampled actions, in the project's own format."""
    from rl_framework.episode import EpisodeSequence

    recipe = RECIPES[environment]
    target = folder_of(directory, environment) / "episodes"
    sequence = EpisodeSequence.collect(agent, environment, recipe.episodes, seed=2)
    sequence.save(target)
    print(f"{environment}: {len(sequence)} episodes, mean return {sequence.returns.mean():.1f}, in {target}")


def main() -> None:
    """Trains, measures and records what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", nargs="*", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--directory", type=Path, default=DEFAULT_DIRECTORY)
    parser.add_argument("--timesteps", type=int, help="None: as published")
    parser.add_argument("--without-episodes", action="store_true", help="train and measure only")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for environment in arguments.environments:
        folder = folder_of(arguments.directory, environment)
        if not (folder / "expert.json").exists():
            started = time.perf_counter()
            agent = train_expert(environment, arguments.directory, arguments.timesteps)
            agent.save_to_file(folder / "expert.zip")
            measured = measure_expert(environment, agent)
            measured["seconds"] = round(time.perf_counter() - started)
            with written_whole(folder / "expert.json") as path:
                path.write_text(json.dumps(measured, indent=1) + "\n")
            print(json.dumps(measured))
        if not arguments.without_episodes and not (folder / "episodes").exists():
            collect_episodes(environment, load_agent(folder / "expert.zip"), arguments.directory)


if __name__ == "__main__":
    main()
