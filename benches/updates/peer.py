"""The same updates in PyTorch: peer.py NETWORK BATCH THREADS prints updates a second and the peak of memory in MiB."""

import resource
import sys
import time

import torch
from torch import nn

SECONDS = 2.0
TRANSITIONS = 4096
STATE, ITEM, CANDIDATES = 32, 16, 20
ACTIONS = 20

network, batch, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
torch.manual_seed(1)


def stack(*widths):
    layers = []
    for before, after in zip(widths, widths[1:]):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def numbers(*shape):
    return torch.rand(*shape) * 2 - 1


reward = numbers(TRANSITIONS)
if network == "candidates":
    online, target = stack(STATE + ITEM, 128, 128, 1), stack(STATE + ITEM, 128, 128, 1)
    state, items = numbers(TRANSITIONS, STATE), numbers(TRANSITIONS, CANDIDATES, ITEM)
    next_state, next_items = numbers(TRANSITIONS, STATE), numbers(TRANSITIONS, CANDIDATES, ITEM)
    taken = torch.arange(TRANSITIONS) % CANDIDATES

    def next_value(drawn):
        state, items = next_state[drawn], next_items[drawn]
        rows = torch.cat([state[:, None].expand(-1, CANDIDATES, -1), items], 2)
        best = online(rows)[:, :, 0].argmax(1)
        # Only what was chosen is asked of the target network, as on our side.
        return target(rows[torch.arange(batch), best])[:, 0]

    def value(drawn):
        return online(torch.cat([state[drawn], items[drawn, taken[drawn]]], 1))[:, 0]

else:
    online, target = stack(30, 1024, 1024, 1024, ACTIONS), stack(30, 1024, 1024, 1024, ACTIONS)
    state, next_state = numbers(TRANSITIONS, 30), numbers(TRANSITIONS, 30)
    taken = torch.arange(TRANSITIONS) % ACTIONS

    def next_value(drawn):
        rows = next_state[drawn]
        return target(rows).gather(1, online(rows).argmax(1, keepdim=True))[:, 0]

    def value(drawn):
        return online(state[drawn]).gather(1, taken[drawn, None])[:, 0]


target.load_state_dict(online.state_dict())
parameters, targets = list(online.parameters()), list(target.parameters())
optimiser = torch.optim.Adam(parameters, lr=1e-3, fused=True)


def update():
    drawn = torch.randint(TRANSITIONS, (batch,))
    with torch.no_grad():
        goal = reward[drawn] + 0.99 * next_value(drawn)
    loss = nn.functional.huber_loss(value(drawn), goal)
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 10.0)
    optimiser.step()
    with torch.no_grad():
        torch._foreach_lerp_(targets, parameters, 0.005)
    return loss.item()


for _ in range(5):
    update()
started, updates = time.perf_counter(), 0
while (elapsed := time.perf_counter() - started) < SECONDS:
    update()
    updates += 1
# Kibibytes on Linux, bytes on macOS.
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024 * 1024)
print(updates / elapsed, peak)
