"""ByteBudget: how many bytes of bodies the whole crawl may hold at a time.

Every visit opens an account and takes from it what it reads, as it comes. When there is no room,
the visit waits until others have given theirs back, first come, first served.

Waiting alone would deadlock: bodies that are all half read fill the budget and wait for one
another. So exactly one account at a time, the one that has waited longest, may overdraw: it goes
on to its end without waiting, and gives back all it had. The others never pass the limit, so

    used <= limit + what one account holds

always; what one account holds is bounded by `max_body_bytes`. What is set aside, because it is
read only as fast as the crawl goes on, is counted too, but never holds the right to overdraw: the
crawl would wait for it, and it for the crawl. So it may have to be added on top once more.

Belongs to the thread of one event loop.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import NamedTuple, final

from scrapekit.deadlines import Deadline


@final
class ByteBudget:
    """A bound of `limit` bytes (at least 1) for all accounts together."""

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"a budget needs a limit of at least 1 byte, not {limit}")
        self.limit = limit
        self.used = 0
        """Bytes held by all accounts now."""
        self.peak = 0
        """The most that was ever in use."""
        # Ordered, because a cancelled waiter leaves from anywhere in the queue.
        self._waiting: OrderedDict[asyncio.Future[None], _Wish] = OrderedDict()
        self._overdrawer: Account | None = None

    def __repr__(self) -> str:
        overdrawn = " overdrawn" if self._overdrawer is not None else ""
        return (
            f"<ByteBudget used={self.used} limit={self.limit} peak={self.peak} "
            f"waiting={len(self._waiting)}{overdrawn}>"
        )

    @property
    def waiting(self) -> int:
        """How many accounts wait for room."""
        return len(self._waiting)

    def account(self) -> Account:
        """Make an account for one visit; use it in a `with`, which gives everything back."""
        return Account(self)

    def _may_take(self, account: Account, size: int) -> bool:
        if account is self._overdrawer:
            return True
        return not self._waiting and self.used + size <= self.limit

    def _charge(self, account: Account, size: int) -> None:
        account.held += size
        self.used += size
        self.peak = max(self.peak, self.used)

    def _give_back(self, account: Account, size: int) -> None:
        account.held -= size
        self.used -= size

    async def _wait(self, account: Account, size: int) -> None:
        future = asyncio.get_running_loop().create_future()
        wish = self._waiting[future] = _Wish(account, size)
        self._admit()
        try:
            await future
        except asyncio.CancelledError:
            self._withdraw(future, wish)
            raise

    def _withdraw(self, future: asyncio.Future[None], wish: _Wish) -> None:
        """Undo a wish whose task was cancelled, be it still in the queue or granted just now."""
        self._waiting.pop(future, None)
        if not future.cancelled():
            self._give_back(wish.account, wish.size)
            # Only a wish that was granted after waiting can come here, and it alone made the
            # account the overdrawer: overdrawers don't wait.
            self._retire(wish.account)
        self._admit()

    def _admit(self) -> None:
        """Grant wishes from the head of the queue, as far as they go."""
        while self._waiting:
            future, (account, size) = next(iter(self._waiting.items()))
            if not future.cancelled():
                if self.used + size > self.limit:
                    if self._overdrawer is not None:
                        return
                    self._overdrawer = account
                self._charge(account, size)
                future.set_result(None)
            del self._waiting[future]

    def _retire(self, account: Account) -> None:
        if self._overdrawer is account:
            self._overdrawer = None

    def _set_aside(self, account: Account) -> Account:
        aside = Account(self)
        aside.held, account.held = account.held, 0
        self._retire(account)
        self._admit()
        return aside

    def _close(self, account: Account) -> None:
        self._give_back(account, account.held)
        self._retire(account)
        self._admit()


@final
class Account:
    """The share of one visit; its `held` bytes count until the `with` is left."""

    __slots__ = ("_budget", "_open", "deadline", "enough", "held", "waited")

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._open = False
        self.held = 0
        self.deadline: Deadline | None = None
        """Of whoever takes: it is moved by the time spent waiting here."""
        self.waited = False
        """Whether there was any."""
        self.enough: int | None = None
        """Decoded bytes after which a body is read no further, whatever `max_body_bytes` says."""

    def __repr__(self) -> str:
        return f"<Account held={self.held}>"

    def __enter__(self) -> Account:
        self._open = True
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def set_aside(self) -> Account:
        """Move what it holds to an account of its own, which isn't given back with this one; to be
        closed by whoever keeps the bytes.
        """
        return self._budget._set_aside(self)

    def close(self) -> None:
        """Give everything back. Idempotent."""
        self._open = False
        self._budget._close(self)

    def try_take(self, size: int) -> bool:
        """Take `size` bytes if that needs no waiting, and say whether it did.

        False also if there is room, but others wait for more. Raises RuntimeError outside of
        the `with`, where nobody would give the bytes back.
        """
        self._check(size)
        if not self._budget._may_take(self, size):
            return False
        self._budget._charge(self, size)
        return True

    async def take(self, size: int) -> None:
        """Take `size` bytes; wait until there is room or it is this account's turn to overdraw.

        Others have the room meanwhile, so the time doesn't count towards the `deadline`.
        Cancelled while waiting, it takes nothing. One task at a time may use an account.
        Raises RuntimeError outside of the `with`.
        """
        if not self.try_take(size):
            self.waited = True
            with self._clock_stopped():
                await self._budget._wait(self, size)

    @contextmanager
    def _clock_stopped(self) -> Iterator[None]:
        deadline = self.deadline
        when = deadline.when() if deadline is not None else None
        if deadline is None or when is None or deadline.expired():
            yield
            return
        loop = asyncio.get_running_loop()
        left_s = when - loop.time()
        deadline.reschedule(None)
        try:
            yield
        finally:
            deadline.reschedule(loop.time() + left_s)

    def _check(self, size: int) -> None:
        if not self._open:
            raise RuntimeError("an account takes bytes only inside its `with` block")
        if size < 0:
            raise ValueError(f"{size} bytes can't be taken")


class _Wish(NamedTuple):
    account: Account
    size: int
