"""Train the networks by stable-baselines3 (`requirements-rl.txt`): one thread, one seed, a bounded number of steps."""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from maxxit.core.errors import Misconfigured
from maxxit.learning.policy import Rl
from maxxit.learning.rl.network import Activation
from maxxit.learning.rl.tape import Float32s, Tape

SEED = 7
HIDDEN = (16, 16)
PASSES = 10
LEAST_STEPS, MOST_STEPS = 2_048, 8_192
"""Decisions of a training, multiples of a rollout of PPO: it is bounded whatever the history."""
BATCH = 64
REPLAY = 10_000
"""Decisions that the replay buffer of DQN holds; the oldest are overwritten."""
TARGET_EVERY = 500
"""Decisions after which the target network of DQN becomes a copy of the network."""
ROLLOUT = 512
"""Decisions of PPO between two updates."""
ACTIVATIONS: dict[str, Activation] = {"dqn": "relu", "ppo": "tanh"}


def steps(tape: Tape) -> int:
    """Return how many decisions a training takes."""
    return int(np.clip(PASSES * len(tape), LEAST_STEPS, MOST_STEPS))


def epsilon(settings: Rl, total: int) -> Callable[[float], float]:
    """Return the share of random actions by the part of the training that remains: less by a factor each decision."""

    def share(remaining: float) -> float:
        decayed: float = settings.epsilon_first * settings.epsilon_decay ** ((1 - remaining) * total)
        return max(settings.epsilon_last, decayed)

    return share


def train(kind: str, tape: Tape, settings: Rl) -> Float32s:
    """Return the weights of the network that chooses the action, layer after layer.

    Two trainings of the same tape are equal. The random numbers of the process go on as if there had been none.

    Raises Misconfigured where the library is not installed, ValueError where a weight is not a finite number.
    """
    flat = weights(kind, learned(kind, tape, settings, steps(tape)))
    if not np.isfinite(flat).all():
        raise ValueError(f"the training of {kind} diverged: a weight is not a finite number")
    return flat


def learned(kind: str, tape: Tape, settings: Rl, total: int) -> Any:
    """Return the library's model after `total` decisions."""
    library, torch = _library(kind)
    from maxxit.learning.rl.environment import TapeEnvironment  # gymnasium

    shared: dict[str, Any] = {
        "gamma": settings.discount,
        "batch_size": BATCH,
        "policy_kwargs": {"net_arch": list(HIDDEN)},
        "seed": SEED,
        "device": "cpu",
    }
    with _alone(torch):
        environment = TapeEnvironment(tape, float(tape.returns.std()) or 1.0)
        if kind == "dqn":
            model = library.DQN(
                "MlpPolicy", environment, learning_rate=settings.learning_rate, buffer_size=REPLAY,
                learning_starts=ROLLOUT, target_update_interval=TARGET_EVERY, **shared,
            )  # fmt: skip
            model.exploration_schedule = epsilon(settings, total)
        else:
            model = library.PPO("MlpPolicy", environment, n_steps=ROLLOUT, **shared)
        return model.learn(total_timesteps=total)


def weights(kind: str, model: Any) -> Float32s:
    """Return the weights and biases of the network that chooses the action, layer after layer."""
    layers = (
        model.q_net.q_net
        if kind == "dqn"
        else [*model.policy.mlp_extractor.policy_net, model.policy.action_net]
    )
    parts = [part for layer in layers for part in layer.parameters()]
    flat: Float32s = np.concatenate([part.detach().numpy().ravel() for part in parts]).astype(np.float32)
    return flat


@contextmanager
def _alone(torch: ModuleType) -> Iterator[None]:
    """Use one thread, and give the generators that the library seeds back as they were."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    python, numpy, own = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(own)
        torch.set_num_threads(threads)


def _library(kind: str) -> tuple[ModuleType, ModuleType]:
    """Return stable-baselines3 and torch."""
    os.environ.setdefault(
        "OMP_NUM_THREADS", "1"
    )  # before torch loads: more threads only spin on a busy machine
    try:
        return import_module("stable_baselines3"), import_module("torch")
    except ImportError:
        raise Misconfigured(
            f"the forecaster {kind} is fitted by stable-baselines3, which is not installed: "
            "pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu, "
            "then pip install -r requirements-rl.txt"
        ) from None
