"""Price rules, their matches and deliveries go to `maxxit.notify`: the state alone, their tables stay as they are."""

from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('market', '0007_quote_moves'),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.DeleteModel(name='RuleDelivery'),
                migrations.DeleteModel(name='RuleMatch'),
                migrations.DeleteModel(name='PriceRule'),
            ],
        ),
    ]
