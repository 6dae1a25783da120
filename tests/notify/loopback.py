"""For `celery -I`: a worker whose channels reach the providers on the loopback port MAXXIT_TEST_PROVIDERS."""

import os

from tests.notify.crowd import reach_loopback

reach_loopback(int(os.environ["MAXXIT_TEST_PROVIDERS"]))
