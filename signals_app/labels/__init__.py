"""Labelled sets: posts that people label, each twice and blind, with a queue of disagreements."""
