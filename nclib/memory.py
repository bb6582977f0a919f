"""How much memory a training step takes at its worst moment, measured from what torch's allocator hands out."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile


@dataclass(frozen=True)
class PeakMemory:
    """Bytes of tensors at the moment of a training step when they are most.

    held: parameters, buffers and the optimiser's state, there from step to step. passing: everything else, that is
    the batch, activations, what gradients there are at that moment, and whatever operations need for themselves.
    """

    held: int
    passing: int

    @property
    def total(self) -> int:
        """held + passing."""
        return self.held + self.passing


def peak_memory(
    model: nn.Module,
    x: Shaped[Tensor, "n ..."],
    y: Shaped[Tensor, "n ..."],
    optimizer: torch.optim.Optimizer,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
) -> PeakMemory:
    """Take two training steps on a batch, and say how many bytes of tensors lived at the worst moment.

    Two, because the optimiser makes its state in the first. As in `nclib.training` gradients are None when a step
    begins; there is no CUDA graph. The model is left trained by these steps; what it draws itself (dropout) does not
    move the global generator. Weights that are not trained are held, but have neither gradient nor state.

    On a CPU it is the sum of the memory events of torch's profiler, which sees all tensors and not the scratch memory
    of oneDNN; tensors of other threads count if they come meanwhile. On a GPU it is what
    torch.cuda.max_memory_allocated rises by: in blocks of 512 bytes, and with cuDNN's workspaces.

    Raises ValueError when x and y differ in length or are not where the model is, and for L-BFGS, whose step
    is many passes.
    """
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError("a step of L-BFGS is many forward and backward passes: measure another optimizer")
    if len(x) != len(y):
        raise ValueError(f"x and y must have one row a sample, got {len(x)} and {len(y)}")
    devices = {t.device for t in (x, y, *model.parameters())}
    if len(devices) > 1:
        raise ValueError(f"model and batch must be on one device, got {', '.join(sorted(map(str, devices)))}")

    def steps() -> None:
        for _ in range(2):
            optimizer.zero_grad(set_to_none=True)
            loss(model(x), y).backward()
            optimizer.step()

    model.train()
    # Gradients of before would be freed on the way, and what a GPU has in use would seem to rise by less.
    optimizer.zero_grad(set_to_none=True)
    before = _held(model, optimizer)
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        most = _most_on_cuda(steps, x.device) if x.is_cuda else _most_on_cpu(steps)
    held = _held(model, optimizer)
    return PeakMemory(held, before + x.nbytes + y.nbytes + most - held)


def _held(model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    state = [v for values in optimizer.state.values() for v in values.values() if torch.is_tensor(v)]
    return sum(t.nbytes for t in (*model.parameters(), *model.buffers(), *state))


def _most_on_cpu(work: Callable[[], None]) -> int:
    """The most bytes that were allocated during some work and not yet freed."""
    with _silence(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = [e for e in json.loads(trace.read_text())["traceEvents"] if e.get("name") == "[memory]"]
    live, now, most = {}, 0, 0
    for event in sorted(events, key=lambda e: e["ts"]):
        address, size = event["args"]["Addr"], event["args"]["Bytes"]
        if size > 0:
            live[address] = size
            now += size
        else:
            now -= live.pop(address, 0)  # what is not there is older than the work
        most = max(most, now)
    return most


@contextmanager
def _silence() -> Iterator[None]:
    # The profiler tells the process's stderr that it starts and stops, past sys.stderr and at every log level.
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _most_on_cuda(work: Callable[[], None], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    return torch.cuda.max_memory_allocated(device) - before
