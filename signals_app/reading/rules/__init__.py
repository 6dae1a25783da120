"""The reader without a model: pure functions from a post's text to a reading."""
