"""Record what stable-baselines3's networks answer: `python -m tests.learning.rl.record` (requirements-rl.txt)."""

import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "maxxit.settings")

import django
import numpy as np

FILE = Path(__file__).parent / "recorded" / "networks.json"
DECISIONS, STATES = 1_024, 24


def answers(kind: str, model: Any, states: Any) -> Any:
    """Return the values that the library's network gives to each action, by its own code."""
    import torch

    with torch.no_grad():
        known, _ = model.policy.obs_to_tensor(states)
        if kind == "dqn":
            return model.q_net(known).numpy()
        actor = model.policy.mlp_extractor.forward_actor(model.policy.extract_features(known))
        return model.policy.action_net(actor).numpy()


def main() -> None:
    """Write the file."""
    django.setup()
    import stable_baselines3
    import torch

    from maxxit.learning import evaluate, worlds
    from maxxit.learning.policy import Rl
    from maxxit.learning.rl import parameters, tape, training

    rows = evaluate.gather(worlds.world(2, 60), 6, step=6).rows
    names = ("return_6h", "sentiment_1h")
    recorded = tape.record(rows, tape.fitted_inputs(rows, names))
    made: dict[str, Any] = {"stable_baselines3": stable_baselines3.__version__, "torch": torch.__version__}
    random = np.random.default_rng(11)
    known = random.uniform(-4, 4, (STATES, len(names))).round(3)
    states = tape.states(known, random.integers(-1, 2, STATES))
    for kind in ("dqn", "ppo"):
        model = training.learned(kind, recorded, Rl(), DECISIONS)
        actions, _ = model.predict(states, deterministic=True)
        made[kind] = {
            "hidden": list(training.HIDDEN),
            "network": parameters.coded(training.weights(kind, model)),
            "states": states.tolist(),
            "values": answers(kind, model, states).tolist(),
            "actions": actions.tolist(),
        }
    FILE.write_text(json.dumps(made) + "\n")


if __name__ == "__main__":
    main()
