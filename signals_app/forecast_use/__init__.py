"""How a signal uses the forecasts of trained models: its stop loss, its size and its risk score."""
