"""Who wants to hear of which resource, and through which backend: one subscription there, however many want it here.

Where a backend has an instance for each owner, there is one subscription for each owner, at the instance.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from only1mcp.backend.exclusive import ExclusiveEndpoint
from only1mcp.backend.interest import Subscriptions
from only1mcp.errors import INVALID_PARAMS, BackendUnavailable, Overloaded, RequestRefused

if TYPE_CHECKING:
    from only1mcp.backend.endpoint import Endpoint
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
    def owner(self) -> str:
        """Whose instance of a backend serves it, where each owner has one: its session, or its principal."""

    @property
    def over(self) -> bool:
        """Whether it hears no more."""

    def updated(self, uri: str) -> None:
        """The resource, as its client knows it, has changed."""


class Topic:
    """One resource as clients name it; `home` is where `original` is watched, `owner` whose instance that is."""

    __slots__ = ("home", "original", "owner", "uri", "wanting")

    def __init__(self, uri: str, owner: str, home: Home, original: str) -> None:
        self.uri = uri
        self.owner = owner
        self.home = home
        self.original = original
        # In the order in which they came.
        self.wanting: dict[Wanting, None] = {}


class Home:
    """One endpoint, as far as its resources are watched, and the topics there by the URI that it knows.

    `owner` is whose instance of the endpoint it is, empty where all share it.
    """

    __slots__ = ("busy", "endpoint", "group", "owner", "subscriptions", "topics")

    def __init__(self, group: str, endpoint: Endpoint, owner: str, subscriptions: Subscriptions) -> None:
        self.group = group
        self.endpoint = endpoint
        self.owner = owner
        self.subscriptions = subscriptions
        # Subscriptions that are under way.
        self.busy = 0
        self.topics: dict[str, dict[Topic, None]] = {}


class Topics:
    """All topics of one process. `on_updated(group, uri, owner)` is called when a resource may have changed unheard."""

    def __init__(self, groups: Mapping[str, Group], on_updated: OnUpdated) -> None:
        self._groups = groups
        self._on_updated = on_updated
        # By URI, and by owner where the backend has an instance for each.
        self._topics: dict[tuple[str, str], Topic] = {}
        self._counts: dict[str, int] = {}
        self._total = 0
        self._homes: dict[tuple[str, str], Home] = {}
        # Those of owners who want nothing any more, as far as their instances are still being told so.
        self._leaving: list[Subscriptions] = []
        for group in groups.values():
            for endpoint in group.endpoints.values():
                if not endpoint.exclusive:
                    home = Home(group.id, endpoint, "", Subscriptions(endpoint, _Gap(group.id, on_updated)))
                    self._homes[endpoint.id, ""] = home
                    endpoint.interest = home.subscriptions

    def __len__(self) -> int:
        return self._total

    async def add(self, who: Wanting, uri: str, catalog: Catalog) -> None:
        """Let `who` hear of the resource; return when its backend has agreed.

        Raise `RequestRefused` or `BackendError` where it has not.
        """
        if self._of(who, uri) is not None:
            return
        self._admit(who)
        try:
            home, original = self._find(uri, who.owner, catalog)
        except BaseException:
            self._dismiss(who)
            raise
        home.busy += 1
        try:
            await home.subscriptions.want(original)
        except BaseException:
            home.busy -= 1
            self._dismiss(who)
            self._tidy(home)
            raise
        home.busy -= 1
        if who.over or self._of(who, uri) is not None:
            home.subscriptions.unwant(original)
            self._dismiss(who)
            self._tidy(home)
            return
        topic = self._topics.get((uri, home.owner))
        if topic is None:
            topic = self._topics[uri, home.owner] = Topic(uri, home.owner, home, original)
            home.topics.setdefault(original, {})[topic] = None
        elif (topic.home, topic.original) != (home, original):
            home.subscriptions.unwant(original)
            self._dismiss(who)
            self._tidy(home)
            raise BackendUnavailable("the resource has moved while its backend was asked", data={"backend": home.group})
        topic.wanting[who] = None

    def remove(self, who: Wanting, uri: str) -> None:
        """Let `who` hear no more of the resource."""
        topic = self._of(who, uri)
        if topic is None:
            return
        del topic.wanting[who]
        self._dismiss(who)
        topic.home.subscriptions.unwant(topic.original)
        if not topic.wanting:
            del self._topics[uri, topic.owner]
            self._leave(topic)

    def interested(self, group: str, uri: str, owner: str = "") -> Iterator[tuple[Topic, bool]]:
        """Yield the topics that a change of this resource concerns, and whether it is the very resource they name.

        `owner` is the one whose instance says so, empty for a connection that all share.
        """
        for home in self._homes.values():
            if home.group == group and home.owner == owner and home.topics:
                for topic in home.topics.get(uri, ()):
                    yield topic, True
                for parent in _parents(uri):
                    for topic in home.topics.get(parent, ()):
                        yield topic, False

    def move(self, catalog: Catalog) -> None:
        """Watch every resource where this catalog says that it is."""
        for topic in self._topics.values():
            try:
                home, original = self._find(topic.uri, topic.owner, catalog)
            except (BackendUnavailable, RequestRefused):
                continue  # nobody else has it: its backend will be back, or not
            if home is topic.home and original == topic.original:
                continue
            times = len(topic.wanting)
            try:
                home.subscriptions.keep(original, times)
            except Overloaded:
                self._tidy(home)
                continue
            topic.home.subscriptions.unwant(topic.original, times)
            self._leave(topic)
            topic.home, topic.original = home, original
            home.topics.setdefault(original, {})[topic] = None
            self._on_updated(home.group, original, home.owner)

    async def aclose(self) -> None:
        """Forget everything; the connections to the backends are about to close."""
        subscriptions = [*(home.subscriptions for home in self._homes.values()), *self._leaving]
        await asyncio.gather(*(each.aclose() for each in subscriptions))
        for home in list(self._homes.values()):
            home.topics.clear()
            self._tidy(home)
        self._leaving.clear()
        self._topics.clear()
        self._counts.clear()
        self._total = 0

    def _of(self, who: Wanting, uri: str) -> Topic | None:
        """Return the topic of this resource that `who` hears of."""
        for key in ((uri, ""), (uri, who.owner)):
            topic = self._topics.get(key)
            if topic is not None and who in topic.wanting:
                return topic
        return None

    def _find(self, uri: str, owner: str, catalog: Catalog) -> tuple[Home, str]:
        found = catalog.resource_owner(uri)
        if found is None:
            raise RequestRefused(f"unknown resource: {uri[:200]}", code=INVALID_PARAMS, data={"uri": uri})
        group, original = found
        source = self._groups[group].source
        if source is None:
            raise BackendUnavailable(f"backend {group!r} is not available", data={"backend": group})
        return self._home(group, source, owner), original

    def _home(self, group: str, endpoint: Endpoint, owner: str) -> Home:
        if not isinstance(endpoint, ExclusiveEndpoint):
            return self._homes[endpoint.id, ""]
        if not owner:  # what many shared has become a resource that each has for itself: nobody knows any more whose
            raise BackendUnavailable(f"backend {group!r} is not available", data={"backend": group})
        home = self._homes.get((endpoint.id, owner))
        if home is None:
            owned = endpoint.owned(owner)
            owned.interest = subscriptions = Subscriptions(owned, _Gap(group, self._on_updated, owner))
            home = self._homes[endpoint.id, owner] = Home(group, endpoint, owner, subscriptions)
        return home

    def _leave(self, topic: Topic) -> None:
        here = topic.home.topics[topic.original]
        del here[topic]
        if not here:
            del topic.home.topics[topic.original]
            self._tidy(topic.home)

    def _tidy(self, home: Home) -> None:
        """Forget the home of an owner who wants nothing there any more."""
        endpoint = home.endpoint
        if isinstance(endpoint, ExclusiveEndpoint) and not (home.busy or home.subscriptions.wants or home.topics):
            if self._homes.get((endpoint.id, home.owner)) is home:
                del self._homes[endpoint.id, home.owner]
                endpoint.disown(home.owner)
            self._leaving = [each for each in (*self._leaving, home.subscriptions) if each.busy]

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
    def __call__(self, group: str, uri: str, owner: str = "") -> None: ...


class _Gap:
    __slots__ = ("_group", "_on_updated", "_owner")

    def __init__(self, group: str, on_updated: OnUpdated, owner: str = "") -> None:
        self._group = group
        self._on_updated = on_updated
        self._owner = owner

    def __call__(self, uri: str) -> None:
        self._on_updated(self._group, uri, self._owner)


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
