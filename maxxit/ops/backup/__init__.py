"""Backups: make them, keep the right ones, restore them, and drill the restore. See docs/backups.md."""
