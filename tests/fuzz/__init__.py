"""Mutated input: recorded answers and files, damaged byte by byte and value by value, through the product's readers.

    python -m tests.fuzz --inputs 1000000 --seed 1               a table per target; exit status 1 on a violation
    python -m tests.fuzz --inputs 1000000 --seed 1 --part 1/2    every second input, for two processes
    python -m tests.fuzz --only "pyth prices" --seed 1 --number 4711    one input again

A target reads bytes. It may raise nothing but `MaxxitError`, and the rows that it read and those that it refused must
be all rows of the input. Input N of a target is the same for the same seed, whatever was run before.
"""
