"""Sources together: provenance, deadlines, and what is given by hand."""

import asyncio
import time

from wgdisco.endpoint import Endpoint
from wgdisco.errors import AccessError
from wgdisco.record import Kind
from wgdisco.sources import Behaviour, Found, Nat, Where, gather
from wgdisco.sources.static import StaticSource

HERE = Endpoint.parse("198.51.100.7:51820")
NAT = Nat(Behaviour.ENDPOINT_INDEPENDENT, Behaviour.UNKNOWN, True)


class Fixed:
    """A source that does what it is told."""

    name = "fixed"

    def __init__(self, where=None, error=None, seconds=0.0):
        self.where, self.error, self.seconds = where or Where(), error, seconds

    async def find(self, deadline):
        await asyncio.sleep(self.seconds)
        if self.error:
            raise self.error
        return self.where


async def test_what_sources_know_is_joined_in_their_order():
    one, two = Found(HERE, Kind.HOST, "a"), Found(HERE, Kind.MAPPED, "b")
    where = await gather([Fixed(Where([one], problems=["p"]), seconds=0.02), Fixed(Where([two], NAT, ["q"]))])
    assert where == Where([one, two], NAT, ["p", "q"])


async def test_a_failing_source_hides_no_other():
    good = Found(HERE, Kind.HOST, "good")
    broken = [AccessError("no such privilege"), ValueError("bug"), ZeroDivisionError(), TimeoutError()]
    where = await gather([*(Fixed(error=error) for error in broken), Fixed(Where([good]))])
    assert where.found == [good]
    assert where.problems == [
        "fixed: no such privilege",
        "fixed: bug",
        "fixed: ZeroDivisionError",
        "fixed: no result within 3 s",
    ]


async def test_a_hanging_source_ends_at_the_deadline():
    good = Found(HERE, Kind.HOST, "good")
    before = time.monotonic()
    where = await gather([Fixed(seconds=600), Fixed(Where([good]))], deadline=0.05)
    assert (where.found, where.problems) == ([good], ["fixed: no result within 0.05 s"])
    assert time.monotonic() - before < 60


async def test_giving_up_early_stops_the_sources():
    slow = Fixed(seconds=600)
    asking = asyncio.ensure_future(gather([slow]))
    await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_given_endpoints_are_mapped_ones():
    v6 = Endpoint.parse("[2001:db8::1]:7")
    where = await StaticSource([HERE, v6]).find(1)
    assert where == Where([Found(HERE, Kind.MAPPED, "static", "given"), Found(v6, Kind.MAPPED, "static", "given")])


async def test_a_given_endpoint_that_nobody_would_try_is_a_problem():
    where = await StaticSource([Endpoint.parse("127.0.0.1:51820"), HERE]).find(1)
    assert [found.endpoint for found in where.found] == [HERE]
    assert where.problems == ["static: 127.0.0.1:51820 is not published: no peer would try it (loopback)"]
