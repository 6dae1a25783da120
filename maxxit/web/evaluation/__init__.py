"""Operator pages of what posts are read with and what that is measured on."""
