"""Do the presets earn what was published? Trains cheap ones for as long as their source did, beside its figures.

Every run trains one preset of `rl_framework.experiment.presets` with one seed, one thread of torch, on the CPU,
evaluates the agent, and adds a line to `presets.json`. Runs that are there already are not done again, so the command
can be interrupted. Run it with

    python benchmarks/presets.py                                    # the cheap ones, a seed each
    python benchmarks/presets.py --presets ppo/CartPole-v1 --seeds 0 1 2
    python benchmarks/presets.py --report

The last form only writes the table of `PRESETS.md` anew.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

from rl_framework.experiment import load_config
from rl_framework.experiment.agents import make_agent
from rl_framework.experiment.presets import Preset, get_preset
from rl_framework.whole_file import written_whole

HERE = Path(__file__).parent
RESULTS = HERE / "presets.json"
DOCUMENT = HERE / "PRESETS.md"
BEGIN, END = "<!-- table: written by presets.py --report -->", "<!-- end of table -->"
EPISODES = 100

# The shortest first.
CHEAP = (
    "ars/CartPole-v1",
    "ppo+rnd/rl_framework/DeepSea-v0",
    "trpo/CartPole-v1",
    "ppo/CartPole-v1",
    "trpo/MountainCarContinuous-v0",
    "dqn/CartPole-v1",
    "a2c/MountainCarContinuous-v0",
    "ddpg/Pendulum-v1",
    "td3/Pendulum-v1",
    "ppo/MountainCarContinuous-v0",
    "trpo/Pendulum-v1",
    "trpo/MountainCar-v0",
    "qrdqn/CartPole-v1",
    "ppo/Pendulum-v1",
    "sac/Pendulum-v1",
)


def train_and_evaluate(preset: Preset, seed: int, timesteps: int | None) -> dict[str, Any]:
    """Trains and evaluates one agent.

    Args:
        preset: What to train.
        seed: Of the training; the evaluation has its own.
        timesteps: How long; None: as long as the preset says.

    Returns:
        The line for `presets.json`.
    """
    config = load_config({"base": preset.name, "seed": seed})
    agent = make_agent(config.agent, device="cpu")
    environment = config.environment
    wrappers = preset.configuration["environment"].get("wrappers")
    of_preset = config.training.total_timesteps
    wall, cpu = time.perf_counter(), time.process_time()
    agent.train(
        environment.id,
        timesteps or of_preset,
        n_environments=environment.n_environments,
        environment_kwargs=environment.arguments or None,
        wrappers=wrappers,
        seed=seed,
        progress_bar=False,
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    # As the source does: the likeliest action, except in Atari games.
    deterministic = not preset.environment.startswith("ALE/")
    result = agent.evaluate(
        environment.id,
        EPISODES,
        deterministic=deterministic,
        seed=1000 + seed,
        environment_kwargs=environment.arguments,
    )
    return {
        "preset": preset.name,
        "seed": seed,
        "timesteps": timesteps or of_preset,
        "timesteps_of_preset": of_preset,
        "return": round(result.mean, 2),
        "std": round(result.std, 2),
        "n_episodes": result.n_episodes,
        "wall_seconds": round(wall),
        "cpu_seconds": round(cpu),
        "commit": commit(),
    }


def commit() -> str:
    """Returns the commit of the code that ran, marked if files were changed."""
    described = ["git", "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"]
    return subprocess.run(described, cwd=HERE, capture_output=True, text=True, check=True).stdout.strip()


def read_results() -> list[dict[str, Any]]:
    """Returns the stored runs."""
    stored: list[dict[str, Any]] = json.loads(RESULTS.read_text())["runs"] if RESULTS.exists() else []
    return stored


def add_result(line: dict[str, Any]) -> None:
    """Stores one more run."""
    runs = sorted([*read_results(), line], key=lambda run: (run["preset"].lower(), run["timesteps"], run["seed"]))
    with written_whole(RESULTS) as path:
        path.write_text('{"runs": [\n ' + ",\n ".join(json.dumps(run) for run in runs) + "\n]}\n")


# The table


def describe(mean: float, std: float | None) -> str:
    """Returns a mean and its deviation as text."""
    digits = 1 if abs(mean) >= 10 else 2
    return f"{mean:,.{digits}f}" + ("" if std is None else f" ± {std:,.{digits}f}")


def table(runs: list[dict[str, Any]]) -> str:
    """Returns the runs as a table, one row for each preset and length of training."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["preset"], run["timesteps"]), []).append(run)
    lines = [
        "| preset | published | ours, by seed | steps (of preset) | seeds | wall s | CPU s | commit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (name, steps), group in groups.items():
        published = get_preset(name).published
        told = "none" if published is None else describe(published.mean, published.std)
        lines.append(
            f"| {name} | {told} | "
            + ", ".join(describe(run["return"], run["std"]) for run in group)
            + f" | {steps:,} ({steps / group[0]['timesteps_of_preset']:.0%}) | "
            + ", ".join(str(run["seed"]) for run in group)
            + " | "
            + ", ".join(str(run["wall_seconds"]) for run in group)
            + " | "
            + ", ".join(str(run["cpu_seconds"]) for run in group)
            + f" | {', '.join(sorted({run['commit'] for run in group}))} |"
        )
    return "\n".join(lines)


def write_report() -> None:
    """Writes the table of `PRESETS.md` anew."""
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    with written_whole(DOCUMENT) as path:
        path.write_text(f"{before}{BEGIN}\n\n{table(read_results())}\n\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--presets", nargs="+", default=CHEAP)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--timesteps", type=int, help="shorter than the presets say; the table tells")
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.report:
        for seed in arguments.seeds:
            for name in arguments.presets:
                preset = get_preset(name)
                steps = arguments.timesteps or preset.configuration["training"]["total_timesteps"]
                done = [(run["preset"], run["seed"], run["timesteps"]) for run in read_results()]
                if (preset.name, seed, steps) not in done:
                    line = train_and_evaluate(preset, seed, arguments.timesteps)
                    add_result(line)
                    print(line, flush=True)
    write_report()


if __name__ == "__main__":
    main()
