"""RecSim's own environment under a random policy: prints its steps a second."""

import sys
import time
import types

import gin
import numpy as np


class Space:
    def __init__(self, *arguments, **named):
        pass


def stub(name, **content):
    module = types.ModuleType(name)
    module.__dict__.update(content)
    sys.modules[name] = module
    return module


# RecSim imports TensorFlow (for gin), Gym's spaces and Dopamine (for its runner); none of them runs while it steps.
kinds = ["Box", "Dict", "Discrete", "MultiDiscrete", "Tuple"]
spaces = stub("gym.spaces", **{kind: Space for kind in kinds})
stub("gym", Env=object, spaces=spaces)
stub("recsim.simulator.runner_lib")
sys.modules["gin.tf"] = gin.tf = gin

name, candidates, slate_size, steps = sys.argv[1], *map(int, sys.argv[2:5])
module = __import__(f"recsim.environments.{name}", fromlist=["create_environment"])
environment = module.create_environment(
    dict(num_candidates=candidates, slate_size=slate_size, resample_documents=True, seed=1)
)
generator = np.random.default_rng(1)
environment.reset()
shown = 0
started = time.perf_counter()
for _ in range(steps):
    _, _, done, _ = environment.step(generator.choice(candidates, slate_size, replace=False))
    shown += 1
    # RecSim never ends interest exploration; a session of ours has 100 steps.
    if done or (name == "interest_exploration" and shown == 100):
        environment.reset()
        shown = 0
print(steps / (time.perf_counter() - started))
