"""Addresses are encrypted. Those that stand are verified: a webhook needs no code."""

from django.db import migrations, models


def seal(apps, schema_editor):
    from maxxit.notify.endpoints import KEYS, context_of  # only where there are rows: a key must be set then

    for row in apps.get_model("notify", "Endpoint").objects.all():
        sealed = KEYS.seal({"address": row.address}, context_of(row))
        host = row.address.split("/")[2] if row.address.count("/") >= 2 else row.channel
        row.content, row.key_id, row.hint = sealed.content, sealed.key_id, f"{host}/…{row.address[-4:]}"[:320]
        row.verified_at = row.created_at
        row.save()


class Migration(migrations.Migration):

    dependencies = [("notify", "0008_accounts_kind")]

    operations = [
        migrations.AddField("endpoint", "content", models.BinaryField(default=b""), preserve_default=False),
        migrations.AddField(
            "endpoint",
            "key_id",
            models.CharField(
                default="", editable=False, help_text="of the key that encrypted it", max_length=16
            ),
            preserve_default=False,
        ),
        migrations.AddField(
            "endpoint",
            "hint",
            models.CharField(default="", help_text="what people see of the address", max_length=320),
            preserve_default=False,
        ),
        migrations.AddField(
            "endpoint",
            "verified_at",
            models.DateTimeField(
                null=True,
                editable=False,
                help_text="empty: nothing but the code that confirms it is sent there",
            ),
        ),
        migrations.AddField(
            "endpoint",
            "code_tries",
            models.PositiveSmallIntegerField(default=0, db_default=0, editable=False, help_text="wrong codes"),
        ),
        migrations.RunPython(seal, migrations.RunPython.noop),
        migrations.RemoveField("endpoint", "address"),
    ]
