"""Features, forecasts, promotion gates and the registry of trained models (docs/models.md).

Only commands and the tasks of the queue `default` import numpy from here; decisions read stored forecasts.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small matrices: more threads only spin on a busy machine
