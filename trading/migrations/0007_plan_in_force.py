"""A plan that the chain confirmed stays in force beside the next proposal."""

from django.db import migrations, models

CONFIRMED = """
UPDATE safe_plans p SET verified_at = (
    SELECT min(d.verified_at) FROM agent_deployments d WHERE d.safe_wallet = p.safe AND d.chain_id = p.chain_id
)
"""


class Migration(migrations.Migration):
    dependencies = [("trading", "0006_kill_switch_account"), ("agents", "0001_initial")]
    operations = [
        migrations.AddField(
            model_name="safeplan",
            name="verified_at",
            field=models.DateTimeField(
                help_text="when the chain first showed this policy; empty: proposed, not signed yet", null=True
            ),
        ),
        migrations.RunSQL(CONFIRMED, migrations.RunSQL.noop),
        migrations.RemoveConstraint(model_name="safeplan", name="one_plan_per_safe"),
        migrations.AddConstraint(
            model_name="safeplan",
            constraint=models.UniqueConstraint(
                fields=["chain_id", "safe"], condition=models.Q(verified_at=None), name="one_proposal_per_safe"
            ),
        ),
        migrations.AddIndex(
            model_name="safeplan",
            index=models.Index(fields=["chain_id", "safe", "-verified_at"], name="safe_plan_in_force"),
        ),
    ]
