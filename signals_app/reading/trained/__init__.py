"""The trained reader: a linear model over words, the grammar's findings and, where installed, sentence embeddings."""
