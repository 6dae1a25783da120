"""The live stream: one process holds the connections, everybody else reads what it writes.

    sockets, pollers -> Buffer -> quotes, bars, queued price moves (Postgres, every 200 ms)
                     -> Outbox -> Redis stream maxxit:ticks

Every part is bounded: a slow Postgres makes the buffer merge ticks of a symbol, a slow Redis makes the outbox drop
its oldest; both are counted.
"""
