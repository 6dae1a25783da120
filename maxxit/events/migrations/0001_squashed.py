from django.db import migrations, models

REFUSE_CHANGE = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END $$;
"""
WRITTEN_ONCE = """
CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table}
FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""
"""TRUNCATE passes row triggers, so that a statement trigger refuses it."""
DROP = "DROP TRIGGER {table}_append_only ON {table}; DROP TRIGGER {table}_no_truncate ON {table}"


class Migration(migrations.Migration):

    replaces = [
        ('events', '0001_initial'),
        ('events', '0002_append_only'),
        ('events', '0003_no_truncate'),
        ('events', '0004_help_texts'),
        ('events', '0005_event_seals'),
        ('events', '0006_seals_append_only'),
    ]

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='Event',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField(help_text='UTC; the recorded clock in a replay')),
                ('name', models.CharField(help_text='for example order.planned, execution.blocked, position.closed', max_length=60)),
                ('subject', models.CharField(help_text='the row it happened to: app.model/id', max_length=80)),
                ('correlation_id', models.UUIDField(help_text='derived from the post that caused it', null=True)),
                ('data', models.JSONField(default=dict)),
            ],
            options={
                'db_table': 'events',
                'ordering': ('-id',),
                'indexes': [models.Index(fields=['subject'], name='events_subject'), models.Index(fields=['correlation_id'], name='events_correlation'), models.Index(fields=['name', 'at'], name='events_name_at'), models.Index(fields=['at'], name='events_at')],
            },
        ),
        migrations.CreateModel(
            name='EventSeal',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('log', models.CharField(help_text='events, or admin: the changes made in the admin', max_length=10)),
                ('at', models.DateTimeField(help_text='UTC')),
                ('last_id', models.BigIntegerField(help_text='of the newest row that it covers')),
                ('rows', models.PositiveIntegerField(help_text='since the seal before it')),
                ('head', models.CharField(help_text='SHA-256, in hex, of the newest row and all before it', max_length=64)),
            ],
            options={
                'db_table': 'event_seals',
                'ordering': ('-id',),
                'constraints': [models.UniqueConstraint(fields=('log', 'last_id'), name='event_seals_once')],
            },
        ),
        migrations.RunSQL(REFUSE_CHANGE, "DROP FUNCTION refuse_change"),
        *(
            migrations.RunSQL(WRITTEN_ONCE.format(table=table), DROP.format(table=table))
            for table in ("events", "event_seals")
        ),
    ]
