"""One thread for every test, in this process and in those it starts, so that a sum comes out in one order."""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before torch is imported, which reads them once

import torch  # noqa: E402

torch.set_num_threads(1)
