"""Backtests of each author's calls, and the impact factor that weighs them."""
