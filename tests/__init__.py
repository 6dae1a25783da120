"""Tests of Maxxit. A folder mirrors the package whose name it has, a file the module whose name it has; the others:

bench         measurements, printed and never asserted (`make bench`, `python -m tests.bench.…`)
chain         contracts and the Safe venue on a local chain (anvil); `hostile` and `crashes` are campaigns
chaos         faults: simulation (T0), stateful tests (T1), threads (T2), kills of real processes, planted bugs
conformance   our fakes against the providers' own clients, in an environment of its own (`make conformance`)
contracts     one suite per kind of adapter: feeds, venues, post sources, embedders
fuzz          damaged input for every reader
platform      settings, Celery, deployment files, logs
surface       API, pages, admin and commands, for every role
test_*.py     promises of the whole: architecture, documents, language, plans of queries, the pipeline end to end
"""
