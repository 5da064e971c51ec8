"""Three stages, three numbers: a prepared pipeline against the chain that asyncio offers.

Both take [1, 2, 3] through pass, add 5, pass and give [6, 7, 8]; the results are compared in the
same run. Rounds alternate, and the medians are compared: absolute times depend on the machine and
on its other tenants, the ratio hardly does.

    python benchmarks/chain.py
"""

from __future__ import annotations

import asyncio
import platform
import statistics
import time
from typing import Any, Callable

from remotemedia import Pipeline, native
from remotemedia.nodes import CalculatorNode, PassThroughNode

ROUNDS = 21
CALLS = 1_000
ITEMS = [1, 2, 3]
END = object()


class QueueChain:
    """Three tasks with a queue before each and one behind: what one would write in asyncio."""

    async def start(self) -> None:
        self.queues: list[asyncio.Queue[Any]] = [asyncio.Queue() for _ in range(4)]
        stages = (lambda x: x, lambda x: x + 5, lambda x: x)
        self.tasks = [
            asyncio.ensure_future(self.stage(function, *self.queues[i : i + 2]))
            for i, function in enumerate(stages)
        ]

    @staticmethod
    async def stage(
        function: Callable[[Any], Any], source: asyncio.Queue[Any], sink: asyncio.Queue[Any]
    ) -> None:
        while True:
            item = await source.get()
            await sink.put(item if item is END else function(item))

    async def run(self, items: list[Any]) -> list[Any]:
        for item in items:
            await self.queues[0].put(item)
        await self.queues[0].put(END)
        out = []
        while (item := await self.queues[-1].get()) is not END:
            out.append(item)
        return out

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def main() -> None:
    pipeline = Pipeline(
        "arithmetic",
        [PassThroughNode(), CalculatorNode(operation="add", operand=5), PassThroughNode()],
    )
    manifest = pipeline.serialize()
    loop = asyncio.new_event_loop()
    chain = QueueChain()
    loop.run_until_complete(chain.start())
    results: dict[str, list[Any]] = {}

    def timed(name: str, call: Callable[[], Any]) -> float:
        begun = time.perf_counter()
        for _ in range(CALLS):
            result = call()
        results[name] = list(result)
        return (time.perf_counter() - begun) / CALLS * 1e6

    async def awaited(run: Callable[[], Any]) -> list[Any]:
        for _ in range(CALLS):
            result = await run()
        return list(result)

    def timed_async(name: str, run: Callable[[], Any]) -> float:
        begun = time.perf_counter()
        results[name] = loop.run_until_complete(awaited(run))
        return (time.perf_counter() - begun) / CALLS * 1e6

    ways = {
        "asyncio.Queue chain": lambda name: timed_async(name, lambda: chain.run(ITEMS)),
        "run_sync": lambda name: timed(name, lambda: pipeline.run_sync(ITEMS)),
        "await run": lambda name: timed_async(name, lambda: pipeline.run(ITEMS)),
        "run_manifest, text": lambda name: timed(
            name, lambda: native.run_manifest(manifest, ITEMS)
        ),
    }
    parsed = native.stats()["manifests_parsed"]
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            times[name].append(way(name))
    loop.run_until_complete(chain.stop())
    loop.close()

    assert all(result == [6, 7, 8] for result in results.values()), results
    medians = {name: statistics.median(values) for name, values in times.items()}
    base = medians["asyncio.Queue chain"]
    python = f"{platform.python_implementation()} {platform.python_version()}"
    print(f"{python}, {ROUNDS} rounds of {CALLS}; all results are {results['run_sync']}")
    print(f"manifests parsed: {native.stats()['manifests_parsed'] - parsed}")
    print(f"{'':<22}{'median us':>10}{'ratio':>8}")
    for name, median in medians.items():
        print(f"{name:<22}{median:>10.1f}{median / base:>8.2f}")


if __name__ == "__main__":
    main()
