from django.db import migrations, models


class Migration(migrations.Migration):

    replaces = [
        ('bus', '0001_initial'),
    ]

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='EventCursor',
            fields=[
                ('name', models.CharField(help_text='relay:redis, listener:log', max_length=60, primary_key=True, serialize=False)),
                ('position', models.BigIntegerField(help_text='id of the newest event that was published or handled')),
                ('sent', models.BigIntegerField(default=0, help_text='messages so far, repeated ones included')),
                ('refused', models.BigIntegerField(default=0, help_text='messages that the other system will never take')),
                ('head', models.CharField(blank=True, default='', help_text='of a file: hash of its newest line', max_length=64)),
                ('last_error', models.TextField(blank=True, default='')),
                ('updated_at', models.DateTimeField()),
            ],
            options={
                'db_table': 'event_cursors',
                'ordering': ('name',),
            },
        ),
        migrations.CreateModel(
            name='ListenerMessage',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('listener', models.CharField(max_length=60)),
                ('key', models.CharField(help_text='correlation id; messages of one key are handled in order', max_length=120)),
                ('event_id', models.CharField(max_length=120)),
                ('message', models.JSONField()),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('due_at', models.DateTimeField()),
                ('last_error', models.TextField(blank=True, default='')),
                ('dead_at', models.DateTimeField(help_text='set once it used up its attempts: a dead letter', null=True)),
            ],
            options={
                'db_table': 'listener_messages',
                'ordering': ('id',),
                'indexes': [models.Index(condition=models.Q(('dead_at', None)), fields=['listener', 'key', 'id'], name='listener_messages_waiting')],
                'constraints': [models.UniqueConstraint(fields=('listener', 'event_id'), name='listener_messages_once')],
            },
        ),
    ]
