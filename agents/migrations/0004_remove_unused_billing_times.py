from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("agents", "0003_account_paging")]

    operations = [
        migrations.RemoveField(model_name="deployment", name="trial_ends_at"),
        migrations.RemoveField(model_name="deployment", name="next_billing_at"),
    ]
