"""The activity feed: which rows a person sees (`feed`), what became of each (`rows`), and `search`."""
