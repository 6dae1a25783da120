"""The price stream: one process holds the connections; all other processes read the quotes it stores.

    sockets, pollers -> Buffer -> quotes, bars, queued price moves (Postgres, every 200 ms)
                     -> Outbox -> Redis stream maxxit:ticks

Both queues are bounded: with a slow Postgres the buffer merges ticks of a symbol, with a slow Redis the outbox drops
its oldest ticks; both are counted.
"""
