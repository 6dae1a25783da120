from django.db import migrations, models

MINUTES = """
CREATE TABLE candles_1m (
    symbol varchar(20) NOT NULL,
    open_time timestamptz NOT NULL,
    open numeric(38, 18) NOT NULL,
    high numeric(38, 18) NOT NULL,
    low numeric(38, 18) NOT NULL,
    close numeric(38, 18) NOT NULL,
    PRIMARY KEY (symbol, open_time)
) PARTITION BY RANGE (open_time)
"""
"""Partitioned by month, which Django cannot say. Its parts are made and dropped by functions of the owner, because the
application's role has no CREATE. Both know only this table; their search path is fixed because they have more rights than
their caller."""
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

    replaces = [
        ('market', '0001_initial'),
        ('market', '0002_prices_by_source_and_rules'),
        ('market', '0003_delivery_states'),
        ('market', '0004_market_snapshots'),
        ('market', '0005_parts_by_function'),
        ('market', '0006_history_indexes'),
        ('market', '0007_quote_moves'),
        ('market', '0008_rules_to_notify'),
        ('market', '0009_help_texts'),
        ('market', '0010_market_sessions'),
        ('market', '0011_funding_rates'),
    ]

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='CalendarCoverage',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('first_day', models.DateField()),
                ('last_day', models.DateField()),
                ('read_at', models.DateTimeField(help_text="UTC; when the broker's calendar was last read")),
            ],
            options={
                'db_table': 'market_calendar_coverage',
            },
        ),
        migrations.CreateModel(
            name='MarketSession',
            fields=[
                ('day', models.DateField(help_text='in New York', primary_key=True, serialize=False)),
                ('opens_at', models.DateTimeField(help_text='UTC')),
                ('closes_at', models.DateTimeField(help_text='UTC; earlier than 16:00 in New York on a short day')),
            ],
            options={
                'db_table': 'market_sessions',
                'ordering': ('day',),
            },
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(MINUTES, "DROP TABLE candles_1m")],
            state_operations=[
                migrations.CreateModel(
                    name='MinuteCandle',
                    fields=[
                        ('pk', models.CompositePrimaryKey('symbol', 'open_time', blank=True, editable=False, primary_key=True, serialize=False)),
                        ('symbol', models.CharField(max_length=20)),
                        ('open_time', models.DateTimeField(help_text='start of the bar, UTC')),
                        ('open', models.DecimalField(decimal_places=18, max_digits=38)),
                        ('high', models.DecimalField(decimal_places=18, max_digits=38)),
                        ('low', models.DecimalField(decimal_places=18, max_digits=38)),
                        ('close', models.DecimalField(decimal_places=18, max_digits=38)),
                    ],
                    options={
                        'db_table': 'candles_1m',
                    },
                ),
            ],
        ),
        migrations.CreateModel(
            name='Quote',
            fields=[
                ('symbol', models.CharField(max_length=20, primary_key=True, serialize=False)),
                ('price', models.DecimalField(decimal_places=18, help_text='USD', max_digits=38)),
                ('at', models.DateTimeField(help_text='UTC; time of the price, as stated by the source')),
                ('source', models.CharField(max_length=20)),
                ('trusted_for_entries', models.BooleanField(db_default=True, default=True, help_text='off: the price is used for exits and valuation only')),
                ('doubt', models.CharField(blank=True, db_default='', default='', help_text='reason why it is not trusted for entries', max_length=30)),
            ],
            options={
                'db_table': 'quotes',
                'ordering': ('symbol',),
            },
        ),
        migrations.CreateModel(
            name='QuoteMove',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('symbol', models.CharField(max_length=20)),
                ('price', models.DecimalField(decimal_places=18, help_text='USD', max_digits=38)),
                ('at', models.DateTimeField(help_text='UTC; time of the price, as stated by the source')),
                ('accepted_at', models.DateTimeField(help_text='UTC; rules created later are not matched against it')),
            ],
            options={
                'db_table': 'quote_moves',
                'ordering': ('pk',),
            },
        ),
        migrations.CreateModel(
            name='BackfillMark',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('feed', models.CharField(max_length=20)),
                ('symbol', models.CharField(max_length=20)),
                ('begins', models.DateTimeField(help_text='UTC, inclusive')),
                ('ends', models.DateTimeField(help_text='UTC, exclusive')),
                ('done_until', models.DateTimeField(help_text='UTC; every bar opened before this is stored or does not exist')),
                ('bars', models.PositiveIntegerField(default=0)),
                ('updated_at', models.DateTimeField(auto_now=True)),
            ],
            options={
                'db_table': 'backfill_marks',
                'constraints': [models.UniqueConstraint(fields=('feed', 'symbol', 'begins', 'ends'), name='one_backfill_mark')],
            },
        ),
        migrations.CreateModel(
            name='Candle',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('symbol', models.CharField(max_length=20)),
                ('open_time', models.DateTimeField(help_text='start of the bar, UTC; known only after open_time + 5 minutes')),
                ('open', models.DecimalField(decimal_places=18, max_digits=38)),
                ('high', models.DecimalField(decimal_places=18, max_digits=38)),
                ('low', models.DecimalField(decimal_places=18, max_digits=38)),
                ('close', models.DecimalField(decimal_places=18, max_digits=38)),
                ('volume', models.DecimalField(decimal_places=18, default=0, max_digits=38)),
            ],
            options={
                'db_table': 'candles',
                'ordering': ('symbol', '-open_time'),
                'constraints': [models.UniqueConstraint(fields=('symbol', 'open_time'), name='one_bar')],
            },
        ),
        migrations.CreateModel(
            name='FundingRate',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('symbol', models.CharField(max_length=20)),
                ('source', models.CharField(max_length=20)),
                ('rate_pct', models.DecimalField(decimal_places=18, help_text="percent of the position's value for eight hours; positive: longs pay shorts", max_digits=38)),
                ('at', models.DateTimeField(help_text='UTC; when it was read')),
            ],
            options={
                'db_table': 'funding_rates',
                'ordering': ('symbol', 'source'),
                'constraints': [models.UniqueConstraint(fields=('symbol', 'source'), name='one_funding_rate')],
            },
        ),
        migrations.CreateModel(
            name='MarketSnapshot',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('symbol', models.CharField(max_length=20)),
                ('window_start', models.DateTimeField(help_text='UTC; start of the six-hour window in which it was computed')),
                ('until', models.DateTimeField(help_text='UTC; end of the newest bar used')),
                ('terms', models.CharField(help_text='width and number of the bars', max_length=60)),
                ('figures', models.JSONField(help_text='every field of maxxit.market.indicators.Snapshot, unrounded')),
                ('made_at', models.DateTimeField()),
                ('superseded', models.BooleanField(default=False, help_text='bars were added later: later decisions use a new snapshot')),
            ],
            options={
                'db_table': 'market_snapshots',
                'ordering': ('-until', 'symbol'),
                'indexes': [models.Index(fields=['symbol', 'window_start'], name='market_snapshots_window')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('superseded', False)), fields=('symbol', 'until', 'terms'), name='one_standing_snapshot')],
            },
        ),
        migrations.CreateModel(
            name='RefusedQuote',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('symbol', models.CharField(max_length=20)),
                ('source', models.CharField(max_length=20)),
                ('reason', models.CharField(help_text='not_positive, out_of_range, stale, from_the_future, not_confident, jump or deviates', max_length=20)),
                ('hour', models.DateTimeField(help_text='start of the hour, UTC')),
                ('price', models.CharField(help_text='USD; the latest rejected price as received, may be NaN', max_length=60)),
                ('value', models.CharField(help_text='latest measured value', max_length=80)),
                ('limit', models.CharField(help_text='allowed value', max_length=40)),
                ('times', models.PositiveIntegerField(default=1)),
                ('first_at', models.DateTimeField()),
                ('last_at', models.DateTimeField()),
            ],
            options={
                'db_table': 'refused_quotes',
                'ordering': ('-last_at',),
                'indexes': [models.Index(fields=['last_at'], name='refused_quotes_newest')],
                'constraints': [models.UniqueConstraint(fields=('symbol', 'source', 'reason', 'hour'), name='one_refusal_an_hour')],
            },
        ),
        migrations.CreateModel(
            name='SourceQuote',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('symbol', models.CharField(max_length=20)),
                ('source', models.CharField(max_length=20)),
                ('price', models.DecimalField(decimal_places=18, help_text='USD', max_digits=38)),
                ('at', models.DateTimeField(help_text='UTC; time of the price, as stated by the source')),
                ('confidence', models.DecimalField(decimal_places=18, help_text='USD; half-width of the confidence interval, if the source states one', max_digits=38, null=True)),
                ('received_at', models.DateTimeField()),
            ],
            options={
                'db_table': 'source_quotes',
                'ordering': ('symbol', 'source'),
                'constraints': [models.UniqueConstraint(fields=('symbol', 'source'), name='one_source_quote')],
            },
        ),
        migrations.RunSQL(MAKE, "DROP FUNCTION make_candles_part"),
        migrations.RunSQL(DROP, "DROP FUNCTION drop_candles_parts"),
    ]
