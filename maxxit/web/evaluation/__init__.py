"""Operator pages of what decides and what it is measured on: prompts, labelled sets, second readers, backtests."""
