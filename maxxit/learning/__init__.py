"""Features, forecasts, promotion gates and the registry of trained models (docs/models.md).

Only commands import numpy from here. Nothing makes or reads forecasts yet.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small matrices: more threads only spin on a busy machine
