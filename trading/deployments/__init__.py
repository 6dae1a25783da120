"""What an owner decides about a deployment: plan check, activation, limits, confirmation of entries, stop."""
