"""What owners decide on: entries that wait for their yes."""
