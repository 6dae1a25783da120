"""Django's Postgres backend with a helpful error when the server is not running."""

SESSION = "session"
"""Alias of connections that are sessions of their own, where the default ones are a pooler's."""
