"""The books cannot be emptied, and balances follow the ledger alone: the function that keeps them runs as its owner.

So the application's role needs no right to write `ledger_balances`. The search path is fixed because the function has
more rights than its caller.
"""

from django.db import migrations

NO_TRUNCATE = """
CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""
BOOKS = ("fills", "ledger_entries", "paper_fills", "chain_attempts")
AS_OWNER = "ALTER FUNCTION keep_ledger_balances() SECURITY DEFINER SET search_path = public, pg_temp"
AS_CALLER = "ALTER FUNCTION keep_ledger_balances() SECURITY INVOKER RESET search_path"


class Migration(migrations.Migration):
    dependencies = [("trading", "0007_plan_in_force"), ("events", "0003_no_truncate")]
    operations = [
        migrations.RunSQL(NO_TRUNCATE.format(table=table), f"DROP TRIGGER {table}_no_truncate ON {table}")
        for table in BOOKS
    ] + [migrations.RunSQL(AS_OWNER, AS_CALLER)]
