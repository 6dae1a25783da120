"""Django's Postgres backend, with one thing more: it says what to do when there is no server."""
