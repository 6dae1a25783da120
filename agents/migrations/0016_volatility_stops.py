from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('agents', '0015_perps_safe'),
    ]

    operations = [
        migrations.AlterField(
            model_name='agent',
            name='exit_preset',
            field=models.CharField(choices=[('signal', 'As the signal says'), ('conservative', 'Conservative'), ('moderate', 'Moderate'), ('aggressive', 'Aggressive'), ('volatility', 'Stop loss by forecast volatility')], default='signal', max_length=12),
        ),
    ]
