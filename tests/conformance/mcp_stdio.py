"""Our MCP server on standard input and output, without a database, for the SDK's client.

python -m tests.conformance.mcp_stdio
"""

from tests.conformance.serve import prepare

if __name__ == "__main__":
    prepare()
    from tests.chat.scenes import mcp_over_stdio

    mcp_over_stdio()
