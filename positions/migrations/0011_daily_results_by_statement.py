"""Add closed positions to the daily results once per statement instead of once per position.

A batch that closes hundreds of positions changes each day and symbol once.
"""

from importlib import import_module

from django.db import migrations

before = import_module("positions.migrations.0007_history_indexes")

CHANGED = """
CREATE OR REPLACE FUNCTION change_daily_results() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO daily_results (day, symbol, closed, winners, won, lost, fees, profit_share)
    SELECT day, symbol, sum(sign), sum(sign * (realised_pnl > 0)::int), sum(sign * greatest(realised_pnl, 0)),
           sum(sign * least(realised_pnl, 0)), sum(sign * fees), sum(sign * profit_share)
    FROM (
        SELECT 1 AS sign, (closed_at AT TIME ZONE 'UTC')::date AS day, symbol, realised_pnl, fees, profit_share
        FROM after WHERE state = 'closed' AND closed_at IS NOT NULL
        UNION ALL
        SELECT -1, (closed_at AT TIME ZONE 'UTC')::date, symbol, realised_pnl, fees, profit_share
        FROM before WHERE state = 'closed' AND closed_at IS NOT NULL
    ) AS change
    GROUP BY day, symbol ORDER BY day, symbol
    ON CONFLICT (day, symbol) DO UPDATE SET
        closed = daily_results.closed + excluded.closed, winners = daily_results.winners + excluded.winners,
        won = daily_results.won + excluded.won, lost = daily_results.lost + excluded.lost,
        fees = daily_results.fees + excluded.fees,
        profit_share = daily_results.profit_share + excluded.profit_share;
    RETURN NULL;
END $$;
CREATE TRIGGER positions_closed AFTER UPDATE ON positions REFERENCING OLD TABLE AS before NEW TABLE AS after
FOR EACH STATEMENT EXECUTE FUNCTION change_daily_results();
CREATE FUNCTION remove_daily_results() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE daily_results d SET
        closed = d.closed - gone.closed, winners = d.winners - gone.winners, won = d.won - gone.won,
        lost = d.lost - gone.lost, fees = d.fees - gone.fees, profit_share = d.profit_share - gone.profit_share
    FROM (
        SELECT (closed_at AT TIME ZONE 'UTC')::date AS day, symbol, count(*) AS closed,
               sum((realised_pnl > 0)::int) AS winners, sum(greatest(realised_pnl, 0)) AS won,
               sum(least(realised_pnl, 0)) AS lost, sum(fees) AS fees, sum(profit_share) AS profit_share
        FROM before WHERE state = 'closed' AND closed_at IS NOT NULL GROUP BY 1, 2
    ) AS gone
    WHERE d.day = gone.day AND d.symbol = gone.symbol;
    RETURN NULL;
END $$;
CREATE TRIGGER positions_deleted AFTER DELETE ON positions REFERENCING OLD TABLE AS before
FOR EACH STATEMENT EXECUTE FUNCTION remove_daily_results();
"""
DROP = "DROP TRIGGER positions_closed ON positions; DROP TRIGGER positions_deleted ON positions;"
BACK = f"""{DROP} DROP FUNCTION remove_daily_results; DROP FUNCTION change_daily_results;
DROP TRIGGER positions_inserted ON positions; DROP FUNCTION add_daily_results; {before.TRIGGERS}"""


class Migration(migrations.Migration):

    dependencies = [("positions", "0010_database_defaults")]

    operations = [migrations.RunSQL(DROP + CHANGED, BACK)]
