"""The load generator behind `only1mcp benchmark`: mix and plan, schedule, clients and connections, record, reports.

It sends to one address and no other: the target's name is resolved once, redirects and proxies are not followed, and
what an answer says opens no connection. Its parts are imported when the command runs.
"""
