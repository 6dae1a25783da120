"""Monthly parts of `candles_1m` are made and dropped by functions of the owner: the application has no CREATE.

Both know only that one table. Their search path is fixed because they have more rights than their caller.
"""

from django.db import migrations

MAKE = """
CREATE FUNCTION make_candles_part(month date) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    first_day date := date_trunc('month', month);
    part text := format('candles_1m_%s', to_char(first_day, 'YYYY_MM'));
BEGIN
    IF to_regclass(part) IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('candles_1m', 0));  -- IF NOT EXISTS races
    EXECUTE format(
        'CREATE TABLE IF NOT EXISTS %I PARTITION OF candles_1m FOR VALUES FROM (%L) TO (%L)',
        part,
        to_char(first_day, 'YYYY-MM-DD"Z"'),
        to_char(first_day + interval '1 month', 'YYYY-MM-DD"Z"')
    );
END $$;
REVOKE ALL ON FUNCTION make_candles_part(date) FROM PUBLIC;
"""
DROP = """
CREATE FUNCTION drop_candles_parts(before date) RETURNS SETOF text LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    part text;
BEGIN
    FOR part IN
        SELECT inhrelid::regclass::text FROM pg_inherits
        WHERE inhparent = 'candles_1m'::regclass
        AND inhrelid::regclass::text < format('candles_1m_%s', to_char(before, 'YYYY_MM'))
        ORDER BY 1
    LOOP
        EXECUTE format('DROP TABLE %s', part);
        RETURN NEXT part;
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION drop_candles_parts(date) FROM PUBLIC;
"""


class Migration(migrations.Migration):
    dependencies = [("market", "0004_market_snapshots")]
    operations = [
        migrations.RunSQL(MAKE, "DROP FUNCTION make_candles_part"),
        migrations.RunSQL(DROP, "DROP FUNCTION drop_candles_parts"),
    ]
