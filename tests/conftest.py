"""One thread for every test and its processes, so that a sum comes out in one order; and a panel to draw on."""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before torch is imported, which reads them once

import matplotlib as mpl  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)
mpl.use("agg")


@pytest.fixture
def ax():
    """One empty panel; what cannot be drawn fails when the test is over."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots()
    yield ax
    figure.canvas.draw()
    plt.close(figure)
