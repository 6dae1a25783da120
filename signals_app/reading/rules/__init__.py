"""The lexical reader: pure functions from a post's text to a reading, by grammar and lexicon, without a model."""
