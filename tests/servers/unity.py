"""A small Unity player: a process that speaks ML-Agents' protocol to the real `mlagents_envs`, as a built scene does.

It is ours, and no Unity build was run. It is a gRPC client of the server that `mlagents_envs` opens, sends the messages
that the C# package sends, and plays scenes that are made for tests; it crashes, hangs and disagrees as a test tells it.

It was written from Python's side of the protocol, so it proves that the real `mlagents_envs` understands what is sent,
and how we take what it makes of it. It does not prove that Unity sends the same: its timing, its frame rate, its
side channels other than those below, its compression of images, what it does at a reset in the middle of an episode,
several teams, and every version of its package but the messages of protocol 1.5.0.

Two facts that were found with the real client: the body of its second message is ignored, and the description of a
behaviour ("brain parameters") counts only in a message with agents of that behaviour.

Scenes are played frame by frame. In each frame agents move; a message is sent when one of them has ended its episode or
asks for an action. What was sent, and what came back, is noted in a file, a line of JSON each.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import random
import struct
import sys
import time
import uuid
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PARAMETERS = uuid.UUID("534c891e-810f-11ea-a9d0-822485860400").bytes_le
ENGINE = uuid.UUID("e951342c-4f7e-11ea-b238-784f4387d1f7").bytes_le
STATISTICS = uuid.UUID("a1d8f7b7-cec8-50f9-b78b-d3e165a78520").bytes_le
ECHO = uuid.UUID("621f0a70-4f87-11ea-a6bf-784f4387d1f7").bytes_le
MOVES = [(0.0, 0.0), (1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)]
SPEED = 0.25
PIXELS = 36


def write_player(path: Path, *arguments: Any, log: Path | None = None) -> Path:
    """Writes an executable that is this player with some of its arguments; returns its path."""
    fixed = [str(argument) for argument in arguments] + ([] if log is None else ["--log", str(log)])
    path.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        f"from tests.servers.unity import main\nmain({fixed!r} + sys.argv[1:])\n"
    )
    path.chmod(0o755)
    return path


def read_log(path: Path) -> list[dict[str, Any]]:
    """Returns what a player noted."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def transitions_of(log: list[dict[str, Any]], behavior: str | None = None) -> list[dict[str, Any]]:
    """Returns the transitions that really happened: from each question with an action to the same agent's next message.

    Args:
        log: What a player noted.
        behavior: Only of this one.
    """
    open_decisions: dict[tuple[int, int], dict[str, Any]] = {}
    done: list[dict[str, Any]] = []
    player = 0
    for line in log:
        if line["what"] == "started":
            player += 1
        elif line["what"] == "reset":
            open_decisions.clear()
        elif line["what"] == "agent" and behavior in (None, line["behavior"]):
            key = (player, line["id"])
            if (decision := open_decisions.pop(key, None)) and "action" in decision:
                outcome = {name: line[name] for name in ("reward", "group_reward", "done", "interrupted")}
                done.append({**decision, **outcome, "next": line["observation"]})
            if not line["done"]:
                open_decisions[key] = {"observation": line["observation"], "mask": line["mask"], "id": line["id"]}
        elif line["what"] == "action" and (player, line["id"]) in open_decisions:
            open_decisions[player, line["id"]]["action"] = line["action"]
    return done


def sends_channels_first() -> bool:
    """Tells whether the installed `mlagents_envs` expects images as ML-Agents 3 in Unity sends them."""
    return int(version("mlagents-envs").partition(".")[0]) >= 1


def load_messages() -> None:
    """Makes the generated modules work, without importing all of the package for it."""
    path = ROOT / "src" / "rl_framework" / "environment" / "unity" / "protobuf_loader.py"
    specification = importlib.util.spec_from_file_location("protobuf_loader", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    sys.meta_path.insert(0, module._Finder())


class Walker:
    """An agent that has to reach a target in the plane, or to wait out its life in a crowd."""

    def __init__(self, number: int, behavior: str, period: int, options: argparse.Namespace) -> None:
        self.number, self.behavior, self.period, self.options = number, behavior, period, options
        self.episode = -1
        self.id = -1
        self.alive = False
        self.waits_for = (number % 3) * 2 if options.scene == "crowd" and number >= options.agents - 1 else 0

    def begin(self, identity: int, rng: random.Random) -> None:
        self.id, self.alive, self.episode = identity, True, self.episode + 1
        self.frames = self.decisions = 0
        self.reward = 0.0
        self.position = [rng.uniform(-1, 1), rng.uniform(-1, 1)]
        self.target = [rng.uniform(-1, 1), rng.uniform(-1, 1)]
        self.move = (0.0, 0.0)
        self.done = self.interrupted = False

    def distance(self) -> float:
        return float(sum((one - other) ** 2 for one, other in zip(self.position, self.target, strict=True)) ** 0.5)

    def advance(self, radius: float) -> None:
        """Lives through one frame."""
        self.frames += 1
        if self.options.scene == "crowd":
            self.reward += 1.0 + self.number
            if self.frames >= 3 + (2 * self.number + 3 * self.episode) % 7:
                self.done, self.interrupted = True, (self.number + self.episode) % 2 == 1
                self.waits_for = (self.number + self.episode) % 4
            return
        before = self.distance()
        self.position = [
            max(-1.2, min(1.2, place + SPEED * step)) for place, step in zip(self.position, self.move, strict=True)
        ]
        self.reward += before - self.distance() - 0.02
        if self.distance() < radius:
            self.reward += 1.0
            self.done = True
        elif self.frames >= self.options.max_steps:
            self.done = self.interrupted = True

    def asks(self) -> bool:
        return self.frames % self.period == 0

    def take(self, continuous: list[float], discrete: list[int]) -> None:
        kind = self.options.actions
        if kind == "continuous":
            self.move = (continuous[0], continuous[1])
        elif kind == "discrete":
            self.move = MOVES[discrete[0]]
        elif kind == "branches":
            self.move = (float(discrete[0] - 1), float(discrete[1] - 1))
        else:  # hybrid: a speed, and a direction
            self.move = tuple(continuous[0] * part for part in MOVES[discrete[0]])  # type: ignore[assignment]

    def mask(self) -> list[bool]:
        """What is forbidden: to walk away from the target."""
        if not self.options.masks or self.options.actions not in ("discrete", "hybrid"):
            return []
        forbidden = [True] + [False] * (len(MOVES) - 1)
        for index, (right, up) in enumerate(MOVES[1:], start=1):
            away = right * (self.target[0] - self.position[0]) + up * (self.target[1] - self.position[1]) < 0
            forbidden[index] = away
        return forbidden

    def vector(self) -> list[float]:
        if self.options.scene == "crowd":
            return [float(self.number), float(self.episode), float(self.frames)]
        return [*self.position, *self.target]

    def picture(self) -> Any:
        import numpy as np

        pixels = np.zeros((PIXELS, PIXELS, 3), np.uint8)
        for channel, place in enumerate((self.position, self.target)):
            column, row = (int((part + 1.2) / 2.4 * (PIXELS - 5)) for part in place)
            pixels[row : row + 5, column : column + 5, channel] = 255
        return pixels


class Player:
    """The process's side of the conversation."""

    def __init__(self, options: argparse.Namespace) -> None:
        import grpc
        from mlagents_envs.communicator_objects import unity_message_pb2
        from mlagents_envs.communicator_objects.unity_to_external_pb2_grpc import UnityToExternalProtoStub

        self.options = options
        self.messages = unity_message_pb2
        self.log = Path(options.log).open("a", buffering=1) if options.log else None  # noqa: SIM115
        self.channel = grpc.insecure_channel(f"localhost:{options.mlagents_port}")
        grpc.channel_ready_future(self.channel).result(timeout=30)
        self.stub = UnityToExternalProtoStub(self.channel)
        self.radius, self.count, self.frame = 0.3, 0, 0
        self.known: set[str] = set()
        self.answers = bytearray()
        names = options.behaviors.split(",")
        periods = [int(part) for part in options.periods.split(",")]
        count = options.agents
        self.walkers = [Walker(i, names[i % len(names)], periods[i % len(periods)], options) for i in range(count)]
        self.next_id = 0

    def note(self, what: str, **more: Any) -> None:
        if self.log is not None:
            self.log.write(json.dumps({"what": what, **more}) + "\n")

    def exchange(self, output: Any) -> Any:
        message = self.messages.UnityMessageProto(unity_output=output)
        message.header.status = 200
        return self.stub.Exchange(message)

    def run(self) -> None:
        from mlagents_envs.communicator_objects import command_pb2, unity_output_pb2

        output = unity_output_pb2.UnityOutputProto()
        hello = output.rl_initialization_output
        hello.name, hello.package_version = "Loopback", "2.3.0"
        hello.communication_version = self.options.version
        for field in hello.capabilities.DESCRIPTOR.fields:
            setattr(hello.capabilities, field.name, True)
        answer = self.exchange(output).unity_input.rl_initialization_input
        self.rng = random.Random(answer.seed)
        self.note("started", seed=answer.seed, arguments=sys.argv[1:], version=answer.communication_version)
        output = unity_output_pb2.UnityOutputProto()
        output.rl_output.SetInParent()
        while True:
            message = self.exchange(output)
            if message.header.status != 200:
                self.note("quit")
                return
            told = message.unity_input.rl_input
            self.hear(told.side_channel)
            self.misbehave()
            output = unity_output_pb2.UnityOutputProto()
            if told.command == command_pb2.RESET:
                self.reset(output)
            else:
                self.act(told.agent_actions)
                self.play(output)
            output.rl_output.side_channel = bytes(self.answers)
            self.answers.clear()

    def misbehave(self) -> None:
        self.count += 1
        marker = Path(self.options.once) if self.options.once else None
        for option, misdeed in (("crash_at", self.crash), ("hang_at", self.hang)):
            if self.count == getattr(self.options, option) and not (marker and marker.exists()):
                if marker:
                    marker.touch()
                self.note(option)
                misdeed()

    def crash(self) -> None:
        os._exit(139)

    def hang(self) -> None:
        while True:
            time.sleep(60)

    def reset(self, output: Any) -> None:
        self.note("reset")
        self.frame = 0
        for walker in self.walkers:
            walker.alive = False
        self.play(output)

    def play(self, output: Any) -> None:
        """Plays until there is something to say."""
        said: list[tuple[str, Any]] = []
        while not said:
            for walker in self.walkers:
                if walker.alive and self.frame:
                    walker.advance(self.radius)
                    if walker.done:
                        walker.alive = False
                        said.append((walker.behavior, self.info(walker)))
                        self.tell_statistics(walker)
                        if self.options.scene == "crowd" and walker.waits_for:
                            continue
                elif not walker.alive and walker.waits_for and self.frame:
                    walker.waits_for -= 1
                if not walker.alive and not walker.waits_for:
                    walker.begin(self.next_id, self.rng)
                    self.next_id += 1
                if walker.alive and walker.asks():
                    said.append((walker.behavior, self.info(walker)))
                    walker.reward = 0.0
            self.frame += 1
        # ML-Agents promises no order.
        self.rng.shuffle(said)
        self.asking: dict[str, list[Walker]] = {}
        by_id = {walker.id: walker for walker in self.walkers if walker.alive}
        for behavior, info in said:
            output.rl_output.agentInfos[behavior].value.append(info)
            if not info.done:
                self.asking.setdefault(behavior, []).append(by_id[info.id])
            if behavior not in self.known:
                self.known.add(behavior)
                output.rl_initialization_output.brain_parameters.append(self.description(behavior))

    def act(self, actions: Any) -> None:
        for behavior, walkers in self.asking.items():
            given = actions[behavior].value
            assert len(given) == len(walkers), (behavior, len(given), len(walkers))
            for walker, action in zip(walkers, given, strict=True):
                continuous, discrete = list(action.continuous_actions), list(action.discrete_actions)
                self.note("action", id=walker.id, action=continuous + discrete)
                walker.take(continuous, discrete)
                walker.decisions += 1

    def info(self, walker: Walker) -> Any:
        from mlagents_envs.communicator_objects import agent_info_pb2, observation_pb2

        group = float(walker.number) if self.options.group_rewards else 0.0
        reward = float("nan") if self.options.nan_at == self.count else walker.reward
        info = agent_info_pb2.AgentInfoProto(
            id=walker.id,
            reward=reward,
            done=walker.done,
            max_step_reached=walker.interrupted,
            action_mask=[] if walker.done else walker.mask(),
            group_id=1 if group else 0,
            group_reward=group,
        )
        if self.options.observations != "visual":
            vector = observation_pb2.ObservationProto(name="Vector", compression_type=observation_pb2.NONE)
            vector.float_data.data.extend(walker.vector())
            vector.shape.append(len(walker.vector()))
            vector.dimension_properties.append(1)
            info.observations.append(vector)
        if self.options.observations != "vector":
            info.observations.append(self.camera(walker))
        self.note(
            "agent",
            behavior=walker.behavior,
            id=walker.id,
            observation=walker.vector(),
            reward=reward,
            group_reward=group,
            done=walker.done,
            interrupted=walker.interrupted,
            mask=walker.mask(),
        )
        return info

    def camera(self, walker: Walker) -> Any:
        from mlagents_envs.communicator_objects import observation_pb2
        from PIL import Image

        picture = io.BytesIO()
        Image.fromarray(walker.picture()).save(picture, "PNG")
        first = sends_channels_first() != self.options.foreign_images
        return observation_pb2.ObservationProto(
            name="Camera",
            shape=[3, PIXELS, PIXELS] if first else [PIXELS, PIXELS, 3],
            dimension_properties=[0, 2, 2] if first else [2, 2, 0],
            compression_type=observation_pb2.PNG,
            compressed_data=picture.getvalue(),
            compressed_channel_mapping=[0, 1, 2],
        )

    def description(self, behavior: str) -> Any:
        from mlagents_envs.communicator_objects import brain_parameters_pb2

        specification = brain_parameters_pb2.ActionSpecProto()
        kind = self.options.actions
        specification.num_continuous_actions = {"continuous": 2, "hybrid": 1}.get(kind, 0)
        branches = {"discrete": [len(MOVES)], "hybrid": [len(MOVES)], "branches": [3, 3]}.get(kind, [])
        specification.num_discrete_actions = len(branches)
        specification.discrete_branch_sizes.extend(branches)
        return brain_parameters_pb2.BrainParametersProto(
            brain_name=behavior, is_training=True, action_spec=specification
        )

    def hear(self, data: bytes) -> None:
        place = 0
        while place + 20 <= len(data):
            channel, length = data[place : place + 16], struct.unpack_from("<i", data, place + 16)[0]
            payload = data[place + 20 : place + 20 + length]
            place += 20 + length
            if channel == PARAMETERS:
                size = struct.unpack_from("<i", payload)[0]
                key, rest = payload[4 : 4 + size].decode(), payload[4 + size :]
                if struct.unpack_from("<i", rest)[0] == 0:
                    value = struct.unpack_from("<f", rest, 4)[0]
                    self.note("parameter", name=key, value=value)
                    if key == "radius":
                        self.radius = value
                else:
                    seed, kind = struct.unpack_from("<ii", rest, 4)
                    numbers = struct.unpack_from(f"<{(len(rest) - 12) // 4}f", rest, 12) if kind < 2 else ()
                    self.note("sampler", name=key, seed=seed, kind=kind, numbers=list(numbers))
            elif channel == ENGINE:
                kind = struct.unpack_from("<i", payload)[0]
                values = struct.unpack_from("<f" if kind == 2 else f"<{len(payload) // 4 - 1}i", payload, 4)
                self.note("engine", kind=kind, values=list(values))
            elif channel == ECHO:
                self.answers += ECHO + struct.pack("<i", len(payload)) + payload[::-1]

    def tell_statistics(self, walker: Walker) -> None:
        if not self.options.statistics:
            return
        name = b"distance"
        payload = struct.pack("<i", len(name)) + name + struct.pack("<fi", walker.distance(), 0)
        self.answers += STATISTICS + struct.pack("<i", len(payload)) + payload


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mlagents-port", type=int, default=5004)
    parser.add_argument("--scene", choices=("reach", "crowd"), default="reach")
    parser.add_argument("--actions", choices=("continuous", "discrete", "branches", "hybrid"), default="continuous")
    parser.add_argument("--observations", choices=("vector", "visual", "both"), default="vector")
    parser.add_argument("--foreign-images", action="store_true", help="as another version of mlagents_envs has them")
    parser.add_argument("--behaviors", default="Reach?team=0")
    parser.add_argument("--agents", type=int, default=1)
    parser.add_argument("--periods", default="1", help="frames between two questions of an agent, in turn")
    parser.add_argument("--max-steps", type=int, default=25)
    parser.add_argument("--masks", action="store_true")
    parser.add_argument("--group-rewards", action="store_true")
    parser.add_argument("--statistics", action="store_true")
    parser.add_argument("--version", default="1.5.0")
    parser.add_argument("--crash-at", type=int, default=-1, help="at which message")
    parser.add_argument("--hang-at", type=int, default=-1)
    parser.add_argument("--nan-at", type=int, default=-1)
    parser.add_argument("--once", help="a file that is made when it misbehaves, and keeps it from doing so again")
    parser.add_argument("--silent", action="store_true", help="never connect")
    parser.add_argument("--exit", type=int, help="end at once, with this code")
    parser.add_argument("--log")
    return parser.parse_known_args(arguments)[0]


def main(arguments: list[str]) -> None:
    """Runs the player until it is told to quit."""
    options = parse(arguments)
    if options.exit is not None:
        sys.exit(options.exit)
    if options.silent:
        while True:
            time.sleep(60)
    load_messages()
    import grpc

    try:
        Player(options).run()
    except grpc.RpcError as error:  # the server may stop while it is asked
        if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN):
            raise


if __name__ == "__main__":
    main(sys.argv[1:])
