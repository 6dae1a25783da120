"""The eight columns weight_* become one map, `weights`: its keys are the pieces of evidence. Values are kept."""

from django.db import migrations, models

import agents.evidence
import agents.models

PIECES = ("tweet", "rsi", "macd", "bollinger", "volume", "moving_average", "momentum", "volatility")
INTO_THE_MAP = "UPDATE agents SET weights = jsonb_build_object({})".format(
    ", ".join(f"'{name}', weight_{name}" for name in PIECES)
)
INTO_THE_COLUMNS = "UPDATE agents SET {}".format(
    ", ".join(f"weight_{name} = coalesce((weights ->> '{name}')::smallint, 0)" for name in PIECES)
)


class Migration(migrations.Migration):

    dependencies = [
        ('agents', '0004_remove_unused_billing_times'),
    ]

    operations = [
        migrations.AddField(
            model_name='agent',
            name='weights',
            field=models.JSONField(default=agents.evidence.default_weights, help_text='0 to 100 by piece of evidence: how much it counts; one that is missing counts 0', validators=[agents.models.validate_weights]),
        ),
        migrations.RunSQL(INTO_THE_MAP, INTO_THE_COLUMNS),
        *(migrations.RemoveField(model_name='agent', name=f'weight_{name}') for name in PIECES),
        migrations.AddConstraint(
            model_name='agent',
            constraint=models.CheckConstraint(
                name='weights_are_0_to_100',
                condition=~models.Func(
                    models.F('weights'),
                    models.Value('$.* ? (@.type() != "number" || @ < 0 || @ > 100)'),
                    function='jsonb_path_exists',
                    output_field=models.BooleanField(),
                ),
            ),
        ),
    ]
