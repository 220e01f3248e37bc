"""The agents that a robots.txt speaks to, cut down to those that can be us. Text in, text out.

Parsers file every rule under each agent of its group. With ten thousand agents on top of ten
thousand rules, which fit into the 500 KiB that have to be read, that is a hundred million entries.
"""

from __future__ import annotations

from typing import Final

_FIELDS: Final = frozenset({"user-agent", "useragent", "user agent"})
"""As the parser spells it, generously."""

_SOMEBODY_ELSE: Final = "User-agent: -"


def only_for(agent: str, text: str) -> str:
    """The same rules for `agent`, a product token in any case; one name for all other agents.

    Takes time that grows with the text, and no faster.
    """
    agent = agent.lower()
    return "\n".join(_line(line, agent) for line in text.splitlines())


def _line(line: str, agent: str) -> str:
    name = _agent_of(line)
    if name in ("", "*"):
        return line
    bare = name.lower().replace("*", "")
    return f"User-agent: {bare}" if bare and bare in agent else _SOMEBODY_ELSE


def _agent_of(line: str) -> str:
    """The agent that a line names, with or without a colon; "" if that isn't what it does."""
    line = line.partition("#")[0].strip()
    field, colon, value = line.partition(":")
    if colon and field.strip().lower() in _FIELDS:
        return value.strip()
    if colon and not value[:1].strip():
        return ""
    words = line.split(maxsplit=2)
    for count in (1, 2):
        if " ".join(words[:count]).lower() in _FIELDS:
            return " ".join(words[count:])
    return ""
