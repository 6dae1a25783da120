"""Refuse a journal that does not balance once per statement instead of once per line.

Every journal is booked by one statement (`trading.ledger.post_all`), so the lines of a statement sum to zero per journal
and asset. A crowd's thousands of lines are checked by one query.
"""

from django.db import migrations

BY_LINE = """
CREATE OR REPLACE FUNCTION refuse_unbalanced_journal() RETURNS trigger LANGUAGE plpgsql AS $$
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
BY_STATEMENT = """
CREATE OR REPLACE FUNCTION refuse_unbalanced_journal() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE wrong record;
BEGIN
    SELECT journal, asset, sum(amount) AS total INTO wrong FROM booked
    GROUP BY journal, asset HAVING sum(amount) <> 0 ORDER BY journal, asset LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'journal % does not balance: % % left over', wrong.journal, wrong.total, wrong.asset
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER ledger_entries_balanced AFTER INSERT ON ledger_entries REFERENCING NEW TABLE AS booked
FOR EACH STATEMENT EXECUTE FUNCTION refuse_unbalanced_journal();
"""
DROP = "DROP TRIGGER ledger_entries_balanced ON ledger_entries;"


class Migration(migrations.Migration):

    dependencies = [("trading", "0018_database_defaults")]

    operations = [migrations.RunSQL(DROP + BY_STATEMENT, DROP + BY_LINE)]
