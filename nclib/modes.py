"""How a network is looked at: in eval mode, in full float32 precision and in one piece, and left as it was."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn
from torch.backends import cuda, cudnn, mkldnn

_OPERATIONS = (cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn)
"""What torch may compute in fewer bits than its float32 inputs have."""
_DEVICES = ("cpu", "cuda", "mps", "xpu")
"""Types of devices, each with an autocast of its own."""


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """The model and all its submodules in eval mode; each is back in the mode it was in on leaving, after an error too.

    A network may train with some of its parts in eval mode, such as a frozen batch normalisation, and
    `model.train(mode)` would set them all alike.
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        _set_modes(modes)


def _set_modes(modes: list[tuple[nn.Module, bool]]) -> None:
    try:
        # Not the flag alone: `train` may also take apart what `eval` has merged or fused. It sets all that is inside
        # alike, so that what is inside comes later, as in `modules()`.
        for module, training in modes:
            if module.training != training:
                module.train(training)
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def in_one_piece(model: nn.Module) -> Iterator[None]:
    """Each module of the model is itself called until leaving, instead of compiled code or replicas on several devices.

    Hooks are not called from code that was compiled before they came, and of a replica they are given the replica. What
    `DistributedDataParallel` wraps is called without it, which waits in every pass for the other processes' buffers.
    """
    with ExitStack() as later:
        if "torch._dynamo" in sys.modules:  # without it nothing is compiled, and to import it takes seconds
            later.enter_context(torch.compiler.set_stance("force_eager"))
        for module in model.modules():
            if isinstance(module, nn.DataParallel):
                later.callback(setattr, module, "device_ids", module.device_ids)
                module.device_ids = []  # which calls what it wraps, where that is
            elif isinstance(module, nn.parallel.DistributedDataParallel):
                # What was set on the object itself comes back once ours is gone: the last callback comes first.
                later.callback(vars(module).update, {k: v for k, v in vars(module).items() if k == "forward"})
                module.forward = module.module.__call__  # before that of its class
                later.callback(delattr, module, "forward")
        yield


@contextmanager
def in_full_precision() -> Iterator[None]:
    """Float32 is multiplied and convolved in full, autocast off; settings are as before on leaving, after an error too.

    cuDNN by default takes float32 for TF32, with 10 of the mantissa's 23 bits, and
    `torch.set_float32_matmul_precision` lets products do so, on a CPU with bfloat16.
    """
    before = [operation.fp32_precision for operation in _OPERATIONS]
    _set(["ieee"] * len(_OPERATIONS))
    products, convolutions = torch.get_float32_matmul_precision(), _older_convolutions()
    try:
        # torch keeps an older set of names, and refuses to read one that contradicts the newer set.
        _set_older("highest", False)
        _set(["ieee"] * len(_OPERATIONS))
        with ExitStack() as plain:
            for device in filter(torch.is_autocast_enabled, _DEVICES):
                plain.enter_context(torch.autocast(device, enabled=False))
            yield
    finally:
        _set_older(products, convolutions)
        # Last, for the older names write to the newer ones. What is inherited from `torch.backends.fp32_precision` is
        # not written down, or a later change there would not arrive.
        _set(["none"] * len(_OPERATIONS))
        for operation, precision in zip(_OPERATIONS, before, strict=True):
            if operation.fp32_precision != precision:
                operation.fp32_precision = precision


def _set(precisions: list[str]) -> None:
    for operation, precision in zip(_OPERATIONS, precisions, strict=True):
        operation.fp32_precision = precision


def _set_older(products: str, convolutions: bool) -> None:
    torch.set_float32_matmul_precision(products)
    cudnn.allow_tf32 = convolutions


def _older_convolutions() -> bool:
    """Whether the older name allows TF32, asked while the newer ones do not: then a refusal means that it does."""
    try:
        return cudnn.allow_tf32
    except RuntimeError:
        return True
