"""The forecaster `tft`: a small temporal fusion transformer, fitted by JAX and forecast by numpy."""
