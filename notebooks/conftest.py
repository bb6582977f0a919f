"""Parallel tests start kernels one after the other.

A kernel's ports are chosen before it binds them: of two that start at once, one can find its port taken, and dies.
"""

import fcntl

import nbval.kernel

_start = nbval.kernel.start_new_kernel


def _start_alone(*args, **kwargs):
    with open(__file__) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _start(*args, **kwargs)


nbval.kernel.start_new_kernel = _start_alone
