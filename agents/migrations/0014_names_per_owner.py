"""Let two owners have agents of the same name: model calls and documents are matched by the agent's id from here on."""

from django.conf import settings
from django.db import migrations, models

NAME_TRACES = """
UPDATE llm_traces SET agent_id = a.id FROM agents a WHERE llm_traces.agent_name = a.name
"""
NAME_DOCUMENTS = """
UPDATE knowledge_documents d SET agents = (
    SELECT array_agg(coalesce(a.id::varchar, named) ORDER BY place)
    FROM unnest(d.agents) WITH ORDINALITY AS n(named, place)
    LEFT JOIN agents a ON a.name = named AND a.owner_id IS NOT NULL
) WHERE d.agents && (SELECT array_agg(name) FROM agents WHERE owner_id IS NOT NULL)
"""
"""A bare name means an agent of the platform from here on."""


class Migration(migrations.Migration):
    dependencies = [
        ("agents", "0013_starting_balance"),
        ("llm", "0003_agent_id"),
        ("knowledge", "0002_help_texts"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RunSQL(NAME_TRACES, migrations.RunSQL.noop),
        migrations.RunSQL(NAME_DOCUMENTS, migrations.RunSQL.noop),
        migrations.AlterField(
            model_name="agent",
            name="name",
            field=models.CharField(help_text="no two agents of one owner share it", max_length=60),
        ),
        migrations.AddConstraint(
            model_name="agent",
            constraint=models.UniqueConstraint(
                fields=["owner", "name"],
                name="one_agent_of_a_name_per_owner",
                nulls_distinct=False,
                violation_error_message="The owner has another agent of this name: choose another name.",
            ),
        ),
    ]
