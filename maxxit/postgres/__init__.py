"""Django's Postgres backend with a helpful error when the server is not running."""
