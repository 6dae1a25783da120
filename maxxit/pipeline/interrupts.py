"""Errors that end a pass: none of them is the fault of the row or account that it is working on."""

from celery.exceptions import SoftTimeLimitExceeded
from django.db import InterfaceError, OperationalError

ENDS_THE_PASS = (OperationalError, InterfaceError, SoftTimeLimitExceeded)
"""A lost database connection, or a task's time limit: the pass ends, no failure is counted, and the next pass
continues. (A worker's shutdown raises SystemExit, which is not caught anyway.)"""
