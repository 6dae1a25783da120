"""Name the Safe of deployments that trade perpetual futures; their account is `gmx:` and the Safe's address."""

from django.db import migrations, models
from django.db.models.functions import Concat

NAME_SAFES = """
UPDATE agent_deployments SET safe_wallet = substr(account, 5) WHERE account ~ '^gmx:0x[0-9a-fA-F]{40}$'
"""
FORGET_SAFES = "UPDATE agent_deployments SET safe_wallet = '' WHERE account LIKE 'gmx:0x%'"


class Migration(migrations.Migration):
    dependencies = [("agents", "0014_names_per_owner")]

    operations = [
        migrations.RemoveConstraint(model_name="deployment", name="a_safe_is_its_deployments_account"),
        migrations.RunSQL(NAME_SAFES, FORGET_SAFES),
        migrations.AddConstraint(
            model_name="deployment",
            constraint=models.CheckConstraint(
                condition=models.Q(safe_wallet="")
                | models.Q(account=models.F("safe_wallet"))
                | models.Q(account=Concat(models.Value("gmx:"), models.F("safe_wallet"))),
                name="a_safe_is_its_deployments_account",
            ),
        ),
    ]
