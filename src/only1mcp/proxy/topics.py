"""Who wants to hear of which resource, and through which backend: one subscription there, however many want it here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from only1mcp.backend.interest import Subscriptions
from only1mcp.errors import INVALID_PARAMS, BackendUnavailable, Overloaded, RequestRefused

if TYPE_CHECKING:
    from only1mcp.proxy.catalog import Catalog
    from only1mcp.proxy.group import Group

# All subscriptions of all clients, and those of one principal (all anonymous clients are one).
MAX_WANTED: Final = 100_000
MAX_WANTED_EACH: Final = 5_000
# A change of `a/b/c` is told to those who subscribe to `a/b` and `a`, so many steps up at most.
MAX_STEPS: Final = 64


class Wanting(Protocol):
    """One who wants to hear of resources: a listen, or a session."""

    @property
    def principal_id(self) -> str: ...

    @property
    def over(self) -> bool:
        """Whether it hears no more."""

    def updated(self, uri: str) -> None:
        """The resource, as its client knows it, has changed."""


class Topic:
    """One resource as clients name it; `home` is where `original` is watched."""

    __slots__ = ("home", "original", "uri", "wanting")

    def __init__(self, uri: str, home: Home, original: str) -> None:
        self.uri = uri
        self.home = home
        self.original = original
        # In the order in which they came.
        self.wanting: dict[Wanting, None] = {}


class Home:
    """One endpoint, as far as its resources are watched, and the topics there by the URI that it knows."""

    __slots__ = ("group", "subscriptions", "topics")

    def __init__(self, group: str, subscriptions: Subscriptions) -> None:
        self.group = group
        self.subscriptions = subscriptions
        self.topics: dict[str, dict[str, Topic]] = {}


class Topics:
    """All topics of one process. `on_updated(group, uri)` is called when a resource may have changed unheard."""

    def __init__(self, groups: Mapping[str, Group], on_updated: OnUpdated) -> None:
        self._groups = groups
        self._on_updated = on_updated
        self._topics: dict[str, Topic] = {}
        self._counts: dict[str, int] = {}
        self._total = 0
        self._homes: dict[str, Home] = {}
        for group in groups.values():
            for endpoint in group.endpoints.values():
                home = Home(group.id, Subscriptions(endpoint, _Gap(group.id, on_updated)))
                self._homes[endpoint.id] = home
                endpoint.interest = home.subscriptions

    def __len__(self) -> int:
        return self._total

    async def add(self, who: Wanting, uri: str, catalog: Catalog) -> None:
        """Let `who` hear of the resource; return when its backend has agreed.

        Raise `RequestRefused` or `BackendError` where it has not.
        """
        topic = self._topics.get(uri)
        if topic is not None and who in topic.wanting:
            return
        self._admit(who)
        try:
            home, original = self._find(uri, catalog)
            await home.subscriptions.want(original)
        except BaseException:
            self._dismiss(who)
            raise
        topic = self._topics.get(uri)
        if who.over or (topic is not None and who in topic.wanting):
            home.subscriptions.unwant(original)
            self._dismiss(who)
            return
        if topic is None:
            topic = self._topics[uri] = Topic(uri, home, original)
            home.topics.setdefault(original, {})[uri] = topic
        elif (topic.home, topic.original) != (home, original):
            home.subscriptions.unwant(original)
            self._dismiss(who)
            raise BackendUnavailable("the resource has moved while its backend was asked", data={"backend": home.group})
        topic.wanting[who] = None

    def remove(self, who: Wanting, uri: str) -> None:
        """Let `who` hear no more of the resource."""
        topic = self._topics.get(uri)
        if topic is None or who not in topic.wanting:
            return
        del topic.wanting[who]
        self._dismiss(who)
        topic.home.subscriptions.unwant(topic.original)
        if not topic.wanting:
            del self._topics[uri]
            self._leave(topic)

    def interested(self, group: str, uri: str) -> Iterator[tuple[Topic, bool]]:
        """Yield the topics that a change of this resource concerns, and whether it is the very resource they name."""
        for home in self._homes.values():
            if home.group == group and home.topics:
                for topic in home.topics.get(uri, {}).values():
                    yield topic, True
                for parent in _parents(uri):
                    for topic in home.topics.get(parent, {}).values():
                        yield topic, False

    def move(self, catalog: Catalog) -> None:
        """Watch every resource where this catalog says that it is."""
        for topic in self._topics.values():
            try:
                home, original = self._find(topic.uri, catalog)
            except (BackendUnavailable, RequestRefused):
                continue  # nobody else has it: its backend will be back, or not
            if home is topic.home and original == topic.original:
                continue
            times = len(topic.wanting)
            try:
                home.subscriptions.keep(original, times)
            except Overloaded:
                continue
            topic.home.subscriptions.unwant(topic.original, times)
            self._leave(topic)
            topic.home, topic.original = home, original
            home.topics.setdefault(original, {})[topic.uri] = topic
            self._on_updated(home.group, original)

    async def aclose(self) -> None:
        """Forget everything; the connections to the backends are about to close."""
        await asyncio.gather(*(home.subscriptions.aclose() for home in self._homes.values()))
        for home in self._homes.values():
            home.topics.clear()
        self._topics.clear()
        self._counts.clear()
        self._total = 0

    def _find(self, uri: str, catalog: Catalog) -> tuple[Home, str]:
        owner = catalog.resource_owner(uri)
        if owner is None:
            raise RequestRefused(f"unknown resource: {uri[:200]}", code=INVALID_PARAMS, data={"uri": uri})
        group, original = owner
        source = self._groups[group].source
        if source is None:
            raise BackendUnavailable(f"backend {group!r} is not available", data={"backend": group})
        return self._homes[source.id], original

    def _leave(self, topic: Topic) -> None:
        here = topic.home.topics[topic.original]
        del here[topic.uri]
        if not here:
            del topic.home.topics[topic.original]

    def _admit(self, who: Wanting) -> None:
        count = self._counts.get(who.principal_id, 0)
        if count >= MAX_WANTED_EACH or self._total >= MAX_WANTED:
            raise Overloaded("too many resources are subscribed to", data={"hint": "unsubscribe from some"})
        self._counts[who.principal_id] = count + 1
        self._total += 1

    def _dismiss(self, who: Wanting) -> None:
        left = self._counts.get(who.principal_id, 0) - 1
        if left > 0:
            self._counts[who.principal_id] = left
        else:
            self._counts.pop(who.principal_id, None)
        self._total = max(0, self._total - 1)


class OnUpdated(Protocol):
    def __call__(self, group: str, uri: str) -> None: ...


class _Gap:
    __slots__ = ("_group", "_on_updated")

    def __init__(self, group: str, on_updated: OnUpdated) -> None:
        self._group = group
        self._on_updated = on_updated

    def __call__(self, uri: str) -> None:
        self._on_updated(self._group, uri)


def _parents(uri: str) -> Iterator[str]:
    """Yield what a URI lies below, with and without the slash at the end, from the nearest on."""
    end = len(uri)
    for _ in range(MAX_STEPS):
        end = uri.rfind("/", 0, end)
        if end <= 0 or uri[end - 1] in ":/":
            return
        if end + 1 < len(uri):
            yield uri[: end + 1]
        yield uri[:end]
