"""The fakes of the ordinary tests as one process, for clients that live in another environment.

    python -m tests.conformance.serve

The first line that it prints is JSON: where each fake listens. Then every line on its input, `{"do": name, "with":
arguments}`, is one call of a method of `tests.conformance.scenes.Fakes`, answered by `{"is": result}` or
`{"failed": words}`. It ends with its input. Nothing here needs a database: the cache is in memory, and no row is saved.
"""

import json
import os
import sys
import tempfile
import traceback
from contextlib import ExitStack

import django
from django.conf import settings


def prepare() -> None:
    """Read the settings as in a test run, without a server behind them."""
    os.environ |= {
        "MAXXIT_DATA_DIR": tempfile.gettempdir(),
        "MAXXIT_ENV_FILE": os.devnull,
        "MAXXIT_PROFILE": "",
    }
    os.environ |= {"DATABASE_URL": "postgresql://nobody@localhost/none", "REDIS_URL": "redis://localhost/0"}
    os.environ["DJANGO_SETTINGS_MODULE"] = "maxxit.settings"
    settings.LOGGING_CONFIG = None  # standard output carries the answers
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    django.setup()


def main() -> None:
    """Serve until the input ends."""
    prepare()
    from tests.conformance.scenes import Fakes

    with ExitStack() as stack:
        fakes = Fakes(stack)
        print(json.dumps(fakes.urls()), flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            try:
                answer = {"is": getattr(fakes, asked["do"])(**asked["with"])}
            except Exception:
                answer = {"failed": traceback.format_exc()}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
