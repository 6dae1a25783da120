"""Entries of many customers: planned per signal, scaled together, held to the platform's pace."""
