"""Maxxit: from a post to realised profit and loss. `maxxit.celery.app` is the Celery application."""
