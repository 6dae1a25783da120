"""Screening: a trained reader, which costs nothing, decides about which posts a paid model is asked."""
