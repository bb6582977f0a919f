"""One thread for every test, in this process and in those it starts, so that a sum comes out in one order."""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before torch is imported, which reads them once

import torch  # noqa: E402

torch.set_num_threads(1)


def pytest_configure(config):
    # pyproject.toml lets functions refuse wrong input themselves, but its `.*` stops at the end of a line, and the
    # warning about a tensor quotes several.
    config.addinivalue_line("filterwarnings", r"ignore:[\s\S]*violates type hint:ImportWarning")
