"""How many deployments and agents follow each account: who is served first when not everybody can be."""

from django.db import connection

FOLLOWERS = """
SELECT s.account_id, coalesce(sum(d.deployments), 0)::bigint, count(*)
FROM agent_accounts s
JOIN agents a ON a.id = s.agent_id AND a.state = 'active'
LEFT JOIN (
    SELECT agent_id, count(*) AS deployments FROM agent_deployments WHERE state = 'active' GROUP BY agent_id
) AS d ON d.agent_id = a.id
GROUP BY s.account_id
"""


def followers() -> dict[int, tuple[int, int]]:
    """Return account -> (active deployments, active agents) that follow it; accounts that nobody follows are absent."""
    with connection.cursor() as cursor:
        cursor.execute(FOLLOWERS)
        return {account: (deployments, agents) for account, deployments, agents in cursor.fetchall()}
