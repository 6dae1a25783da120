"""Fills and ledger entries are written once, every journal sums to zero per asset at commit, balances follow."""

from django.db import migrations

APPEND_ONLY = """
CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table}
FOR EACH ROW EXECUTE FUNCTION refuse_change();
"""
BALANCED = """
CREATE FUNCTION refuse_unbalanced_journal() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE total numeric;
BEGIN
    SELECT sum(amount) INTO total FROM ledger_entries WHERE journal = NEW.journal AND asset = NEW.asset;
    IF total <> 0 THEN
        RAISE EXCEPTION 'journal % does not balance: % % left over', NEW.journal, total, NEW.asset
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER ledger_entries_balanced AFTER INSERT ON ledger_entries
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse_unbalanced_journal();
"""
BALANCES = """
CREATE FUNCTION keep_ledger_balances() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger_balances (account, asset, amount)
    SELECT account, asset, sum(amount) FROM booked WHERE account LIKE 'deployment:%' GROUP BY account, asset
    ORDER BY account, asset
    ON CONFLICT (account, asset) DO UPDATE SET amount = ledger_balances.amount + excluded.amount;
    RETURN NULL;
END $$;
CREATE TRIGGER ledger_entries_balances AFTER INSERT ON ledger_entries REFERENCING NEW TABLE AS booked
FOR EACH STATEMENT EXECUTE FUNCTION keep_ledger_balances();
"""


class Migration(migrations.Migration):
    dependencies = [("trading", "0001_initial"), ("events", "0002_append_only")]
    operations = [
        migrations.RunSQL(APPEND_ONLY.format(table=table), f"DROP TRIGGER {table}_append_only ON {table}")
        for table in ("fills", "ledger_entries")
    ] + [
        migrations.RunSQL(BALANCED, "DROP FUNCTION refuse_unbalanced_journal CASCADE"),
        migrations.RunSQL(BALANCES, "DROP FUNCTION keep_ledger_balances CASCADE"),
    ]
