"""Made the files beside it with the real RLlib: `pip install 'ray[rllib]==2.60.0' msgpack_numpy`, then
`python make.py OUT`; what it writes into folders lies here under their names, without the names that Ray gives."""
import sys, pathlib, numpy as np, gymnasium as gym, ray
from ray.rllib.policy.sample_batch import SampleBatch, MultiAgentBatch
from ray.rllib.offline.json_writer import JsonWriter
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.offline.offline_env_runner import OfflineSingleAgentEnvRunner

out = pathlib.Path(sys.argv[1]).resolve()

class Shop(gym.Env):
    """Five steps; the action that the user's taste names earns 1, and the taste stays."""
    observation_space = gym.spaces.Box(0, 1, (3,), np.float32)
    action_space = gym.spaces.Discrete(3)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.taste = int(self.np_random.integers(3)); self.t = 0
        return self._obs(), {}
    def _obs(self):
        o = np.zeros(3, np.float32); o[self.taste] = 1; return o
    def step(self, a):
        self.t += 1
        return self._obs(), float(a == self.taste), self.t == 5, False, {}

def episodes(n, seed):
    rng = np.random.default_rng(seed); env = Shop(); out = []
    for k in range(n):
        obs, _ = env.reset(seed=seed * 1000 + k)
        e = SingleAgentEpisode(id_=f"e{seed}-{k}", observation_space=env.observation_space, action_space=env.action_space)
        e.add_env_reset(obs)
        done = False
        while not done:
            p = np.full(3, 0.2); p[(k + int(obs.argmax())) % 3] = 0.6
            a = int(rng.choice(3, p=p))
            obs, r, done, trunc, _ = env.step(a)
            e.add_env_step(obs, a, r, terminated=done, truncated=trunc, extra_model_outputs={"action_logp": np.float32(np.log(p[a]))})
        out.append(e)
    return out

def batch(e, k):
    n = len(e)
    logp = np.array(e.get_extra_model_outputs("action_logp"), np.float32)
    return SampleBatch({
        "obs": np.stack(e.get_observations(slice(0, n))), "new_obs": np.stack(e.get_observations(slice(1, n + 1))),
        "actions": np.array(e.get_actions()), "rewards": np.array(e.get_rewards(), np.float32),
        "terminateds": np.array([False] * (n - 1) + [True]), "truncateds": np.array([False] * n),
        "action_prob": np.exp(logp), "action_logp": logp, "eps_id": np.full(n, 100 + k), "unroll_id": np.full(n, k),
        "agent_index": np.zeros(n, np.int64), "t": np.arange(n),
    })

# The old API stack: JSON, plain and with packed observations (the writer's default).
for name, columns in [("json-plain", []), ("json-packed", ["obs", "new_obs"])]:
    w = JsonWriter(str(out / name), compress_columns=columns)
    for k, e in enumerate(episodes(12, 1)): w.write(batch(e, k))
w = JsonWriter(str(out / "json-agents"), compress_columns=[])
for k, e in enumerate(episodes(3, 2)):
    w.write(MultiAgentBatch({"left": batch(e, k), "right": batch(e, k + 50)}, len(e)))

# The new API stack: Parquet, by columns (plain, packed) and by episode.
class Fake: pass
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
def write(name, rows):
    ray.data.from_items(rows, override_num_blocks=1).write_parquet(str(out / name))
for name, columns in [("columns", []), ("columns-packed", ["obs", "new_obs"])]:
    f = Fake(); f.output_compress_columns = columns; f._samples = []
    OfflineSingleAgentEnvRunner._map_episodes_to_data(f, episodes(12, 3))
    write("parquet-" + name, f._samples)
import msgpack, msgpack_numpy as mnp
write("parquet-episodes", [msgpack.packb(e.get_state(), default=mnp.encode) for e in episodes(12, 4)])
