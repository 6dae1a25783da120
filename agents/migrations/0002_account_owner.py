"""An account at a real venue belongs to one owner, and a Safe is the account of its deployment."""

from django.db import migrations, models

ONE_OWNER = """
CREATE FUNCTION refuse_second_owner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('account owner'), hashtext(NEW.account));
    IF EXISTS (
        SELECT FROM agent_deployments d JOIN agents theirs ON theirs.id = d.agent_id, agents ours
        WHERE ours.id = NEW.agent_id AND ours.venue <> 'paper' AND theirs.venue = ours.venue
          AND d.account = NEW.account AND d.id <> NEW.id AND d.owner_id IS DISTINCT FROM NEW.owner_id
    ) THEN
        RAISE EXCEPTION 'account % belongs to another owner', NEW.account
            USING ERRCODE = 'check_violation', CONSTRAINT = 'one_owner_per_account';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER one_owner_per_account BEFORE INSERT OR UPDATE OF account, owner_id, agent_id ON agent_deployments
FOR EACH ROW EXECUTE FUNCTION refuse_second_owner();
"""


class Migration(migrations.Migration):
    dependencies = [("agents", "0001_initial")]
    operations = [
        migrations.AddConstraint(
            model_name="deployment",
            constraint=models.CheckConstraint(
                condition=models.Q(safe_wallet="") | models.Q(account=models.F("safe_wallet")),
                name="a_safe_is_its_deployments_account",
            ),
        ),
        migrations.RunSQL(ONE_OWNER, "DROP FUNCTION refuse_second_owner CASCADE"),
    ]
