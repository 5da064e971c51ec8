"""Sessions: the same as a batch in any pieces, and nothing lost or left behind on any way out."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from typing import Any, Optional

import pytest
from conftest import cancel_at_random, engine

from remotemedia import (
    ManifestError,
    MarshalError,
    Node,
    NodeError,
    Output,
    Pipeline,
    RemoteMediaError,
    RunCancelledError,
    RunEndedError,
    RunTimeoutError,
    Session,
    native,
    node,
)
from remotemedia.nodes import AddNode, AudioLevelNode, BufferNode, MultiplyNode, PassThroughNode

pytestmark = pytest.mark.usefixtures("either_engine")


@node
def double(value: Any) -> Any:
    return value * 2


@node
def repeat(value: Any, times: int = 2) -> Any:
    for _ in range(times):
        yield value


@node
def fail_at(value: Any, at: int = 3) -> Any:
    yield value
    if value == at:
        raise ValueError("told to")


@node
async def breathe(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


@node
async def drip(value: Any) -> Any:
    yield value
    await asyncio.sleep(0)
    yield value + 1


@node(thread=True)
def aside(value: Any) -> Any:
    return value + 1


class Noted(Node):
    """Writes down what happens to it."""

    def __init__(self, name: Optional[str] = None) -> None:
        super().__init__(name)
        self.log: list[Any] = []

    def initialize(self) -> Any:
        self.log.append("initialize")

    def process(self, value: Any) -> Any:
        self.log.append(value)
        return value

    def flush(self) -> Any:
        self.log.append("flush")

    def cleanup(self) -> Any:
        self.log.append("cleanup")


class Gate(Noted):
    """Waits for its gate with every value."""

    def initialize(self) -> Any:
        super().initialize()
        self.cancelled = 0
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()

    async def process(self, value: Any) -> Any:
        self.log.append(value)
        self.entered.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return value


class Lock(Noted):
    """The same for threads."""

    def __init__(self, name: Optional[str] = None) -> None:
        super().__init__(name)
        self.entered = threading.Event()
        self.gate = threading.Event()

    def process(self, value: Any) -> Any:
        self.log.append(value)
        self.entered.set()
        assert self.gate.wait(30)
        return value


def values(outputs: Any) -> list[Any]:
    return [output.value for output in outputs]


async def until(what: Any, log: list[Any]) -> None:
    while what not in log:  # noqa: ASYNC110  the log is a list
        await asyncio.sleep(0)


def open_(*nodes: Node, **options: Any) -> Any:
    return Pipeline("p", nodes).open(use_rust=engine.rust, **options)


# --- the same as a batch --------------------------------------------------------------------------

SYNC = [PassThroughNode, BufferNode, AddNode, double, repeat, fail_at]
KINDS = {"plain": SYNC, "async": [*SYNC, breathe, drip], "threads": [*SYNC, breathe, aside]}


def random_pipeline(random: random.Random, kinds: list[Any]) -> Pipeline:
    pipeline = Pipeline("random")
    for place in range(random.randint(1, 6)):
        kind = random.choice(kinds)
        params: dict[str, Any] = {}
        if kind is BufferNode:
            params = {"buffer_size": random.randint(1, 4)}
        elif kind is AddNode:
            params = {"addend": random.randint(0, 3)}
        elif kind is fail_at:
            params = {"at": random.randint(0, 40)}
        made = kind(name=f"n{place}", **params)
        if random.random() < 0.3:
            made.options(
                on_error=random.choice(["skip", "passthrough", {"retry": 1, "backoff": 0}])
            )
        pipeline.add_node(made)
    nodes = pipeline.nodes
    pipeline._connections = []
    for end in range(1, len(nodes)):
        starts = random.sample(range(end), random.choice([0, 1, 1, 1, min(2, end), min(3, end)]))
        for start in starts:
            pipeline.connect(nodes[start], nodes[end])
        if len(starts) > 1:
            nodes[end].options(join=random.choice(["any", "zip", "latest"]))
    return pipeline


def told(error: RemoteMediaError) -> Any:
    return type(error), error.message, error.node, error.item, str(error)


def without_times(metrics: Any) -> Any:
    if isinstance(metrics, dict):
        times = ("time_us", "p50_us", "p99_us", "queues")
        return {key: without_times(value) for key, value in metrics.items() if key not in times}
    return metrics


def in_pieces(random: random.Random, pipeline: Pipeline, items: list[Any]) -> Any:
    """Outputs, error and metrics, of a session whose user pushes and pulls as it comes."""
    left, outputs, error = list(items), [], None
    with pipeline.open(use_rust=engine.rust, window=random.randint(1, 8)) as run:
        try:
            while True:
                act = random.randint(0, 4)
                if act < 2 and left:
                    if run.try_push(left[0]):
                        left.pop(0)
                elif act == 2:
                    output = run.try_pull()
                    outputs += [output] if output else []
                elif act == 3:
                    outputs += run.pull_many(random.randint(1, 5), timeout=0)
                elif not left:
                    run.end()
                    outputs += run
                    break
        except RemoteMediaError as caught:
            error = caught
            # What came before it is there whoever has been told first.
            with pytest.raises(type(error)):
                outputs += iter(run.pull, None)
        return outputs, error, run.metrics


async def in_tasks(random: random.Random, pipeline: Pipeline, items: list[Any]) -> Any:
    outputs: list[Output] = []
    errors: list[Any] = []

    async def send() -> None:
        try:
            for item in items:
                await run.send(item)
                if random.random() < 0.3:
                    await asyncio.sleep(0)
            run.end()
        except RemoteMediaError as error:
            errors.append(error)

    async with pipeline.open(use_rust=engine.rust, window=random.randint(1, 8)) as run:
        task = asyncio.ensure_future(send())
        try:
            async for output in run:
                outputs.append(output)
                if random.random() < 0.3:
                    outputs += await run.recv_many(3)
        except RemoteMediaError as error:
            errors.append(error)
        await task
        return outputs, errors[0] if errors else None, run.metrics


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("kind", KINDS)
def test_any_pieces_give_what_the_batch_gives(kind: str, how: str) -> None:
    failed = 0
    for seed in range(40):
        generator = random.Random(f"{kind} {seed}")
        pipeline = random_pipeline(generator, KINDS[kind])
        items = list(range(generator.randint(0, 12)))
        batch, expected = None, None
        try:
            batch = pipeline.run_sync(items, use_rust=engine.rust)
        except NodeError as error:
            expected = error
        if how == "sync":
            outputs, error, metrics = in_pieces(generator, pipeline, items)
        else:
            outputs, error, metrics = asyncio.run(in_tasks(generator, pipeline, items))
        numbers = [len(items) if output.item is None else output.item for output in outputs]
        assert numbers == sorted(numbers)
        if batch is None:
            assert error is not None and expected is not None, seed
            assert told(error) == told(expected), seed
            # All of the sweeps before, nothing of that one.
            assert outputs == sweeps(pipeline, items[: expected.item]), seed
            failed += 1
            continue
        assert error is None, seed
        by_node: dict[str, list[Any]] = {name: [] for name in batch.by_node}
        for output in outputs:
            by_node[output.node].append(output.value)
        assert by_node == batch.by_node, seed
        assert without_times(metrics) == without_times(batch.metrics), seed
    assert 3 < failed < 37


def sweeps(pipeline: Pipeline, items: list[Any]) -> list[Output]:
    """The outputs of these items, without what is flushed."""
    outputs: list[Output] = []
    with pipeline.open(use_rust=engine.rust, window=100) as run:
        run.push_many(items)
        while run.metrics["items_done"] < len(items):
            outputs += run.pull_many(1000, timeout=0.001)
        return [*outputs, *iter(run.try_pull, None)]


def test_an_output_says_where_it_comes_from() -> None:
    pipeline = Pipeline("p", [PassThroughNode(name="s"), repeat(name="r"), BufferNode(name="b")])
    pipeline.connect("s_0", "r_1").connect("s_0", "b_2")
    with pipeline.open(use_rust=engine.rust) as run:
        assert [run.push("a"), run.push("b")] == [0, 1]
        run.end()
        outputs = list(run)
    assert outputs == [
        ("a", "r_1", 0, None),
        ("a", "r_1", 0, None),
        ("b", "r_1", 1, None),
        ("b", "r_1", 1, None),
        (["a", "b"], "b_2", None, None),
    ]


def test_the_time_of_a_value_is_that_of_the_output() -> None:
    numpy = pytest.importorskip("numpy")
    from remotemedia import Audio

    with open_(PassThroughNode()) as run:
        run.push(Audio(numpy.zeros(4, "float32"), 8000, pts=1.5))
        assert run.pull().pts == 1.5


def test_an_item_for_one_source() -> None:
    pipeline = Pipeline("p", [AddNode(name="a", addend=1), AddNode(name="b", addend=2)])
    pipeline._connections = []
    with pipeline.open(use_rust=engine.rust) as run:
        run.push(10, node="b_1")
        run.push(20)
        run.end()
        assert list(run) == [(12, "b_1", 0, None), (21, "a_0", 1, None), (22, "b_1", 1, None)]
        with pytest.raises(MarshalError, match="names a node") as caught:
            run.push(1, node="c")
    assert caught.value.hint == "known are: a_0, b_1"


# --- waiting, in threads --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [PassThroughNode, breathe])
def test_push_waits_while_the_window_is_full(kind: Any) -> None:
    with open_(kind(), window=2) as run:
        assert run.try_push(1)
        assert run.try_push(2)
        assert not run.try_push(3)
        with pytest.raises(RunTimeoutError, match="room for the item") as caught:
            run.push(3, timeout=0.01)
        assert isinstance(caught.value, TimeoutError)
        assert run.pull().value == 1
        assert run.push(3, timeout=30) == 2
        with pytest.raises(RunTimeoutError):
            run.push(4, timeout=0)
        run.end()
        assert values(run) == [2, 3]


@pytest.mark.parametrize("kind", [double, breathe, aside])
def test_a_producer_and_consumers_in_threads(kind: Any) -> None:
    found: list[Output] = []

    def consume() -> None:
        for output in run:
            found.append(output)

    with open_(kind(), window=3) as run:
        threads = [threading.Thread(target=consume) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert run.push_many(range(300)) == 300
        run.end()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
    assert sorted(output.item for output in found) == list(range(300))


@pytest.mark.parametrize("kind", [double, breathe])
def test_producers_in_threads(kind: Any) -> None:
    with open_(kind(), window=3) as run:
        threads = [threading.Thread(target=run.push_many, args=(range(50),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        items = [run.pull(timeout=60).item for _ in range(200)]
        for thread in threads:
            thread.join(60)
    assert items == list(range(200))


def test_a_push_does_not_work_for_others_who_wait() -> None:
    done: list[Any] = []

    class Feeds(Node):
        """While it has an item somebody waits for room, and there is always another item."""

        def process(self, value: Any) -> Any:
            if value == 0:
                thread.start()
            while value < 20 and not run.diagnose()["waiting"]["push"]:
                pass
            done.append(threading.get_ident())
            if value < 20:
                run._backend._window += 1
                run._backend.try_push(value + 1)
            return value

    with open_(Feeds(), window=1) as run:
        thread = threading.Thread(target=run.push, args=(100,))
        run.push(0)
        mine = done.count(threading.get_ident())
        while thread.is_alive():
            run.pull_many(100, timeout=0.01)
        thread.join(30)
    assert mine == 1


@pytest.mark.python_engine
@pytest.mark.parametrize("kind", [Lock, breathe])
def test_a_timeout_of_pull_loses_nothing(kind: Any) -> None:
    with open_(kind()) as run:
        with pytest.raises(RunTimeoutError, match="an output"):
            run.pull(timeout=0.01)
        assert run.pull_many(timeout=0.01) == []
        if kind is Lock:
            run._backend._run.nodes[0].gate.set()
        run.push(1)
        assert run.pull(timeout=30).value == 1


def test_pull_gives_up_between_two_steps() -> None:
    clock: list[Any] = []

    class Ticks(Node):
        def process(self, value: Any) -> Any:
            clock.append(value)
            until.wait(0.02)
            return value

    until = threading.Event()
    with open_(*(Ticks() for _ in range(5))) as run:
        run._backend.try_push(7)
        with pytest.raises(RunTimeoutError):
            run.pull(timeout=0.01)
        assert 0 < len(clock) < 5
        assert run.pull(timeout=30).value == 7
        assert len(clock) == 5


def test_many_from_an_iterator_go_in_as_they_come() -> None:
    def some() -> Any:
        yield 1
        assert values(run.pull_many(1)) == [2]
        yield 2
        raise OSError("gone")

    with open_(double()) as run:
        with pytest.raises(OSError, match="gone"):
            run.push_many(some())
        assert values(run.pull_many(1)) == [4]


def test_a_session_begins_with_its_block() -> None:
    opening: Any = Pipeline("p", [PassThroughNode()]).open()
    with pytest.raises(AttributeError, match=r"with pipeline.open\(\) as run: run.push"):
        opening.push(1)


def test_many_at_once() -> None:
    with open_(double()) as run:
        assert run.push_many(range(5)) == 5
        assert values(run.pull_many(3)) == [0, 2, 4]
        assert values(run.pull_many()) == [6, 8]
        run.end()
        assert run.pull_many() == []
        with pytest.raises(RunEndedError):
            run.try_pull()


def test_after_the_end() -> None:
    with open_(BufferNode(buffer_size=9)) as run:
        run.push(1)
        run.end()
        run.end()
        with pytest.raises(RunEndedError, match="takes no more items") as caught:
            run.push(2)
        assert caught.value.code == "RM_E_CLOSED"
        assert isinstance(caught.value, EOFError)
        assert run.pull() == ([1], "buffer_0", None, None)
        for _ in range(2):
            with pytest.raises(RunEndedError, match="come to an end"):
                run.pull()
        assert list(run) == []
    run.close()
    with pytest.raises(RunEndedError, match="closed"):
        run.pull()
    with pytest.raises(RunEndedError, match="closed"):
        run.push(1)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [PassThroughNode, breathe])
def test_an_error_comes_in_its_place(kind: Any) -> None:
    noted = Noted()
    with open_(noted, fail_at(name="f", at=2), kind()) as run:
        run.push_many(range(2))
        run.push(2)
        assert values(run.pull() for _ in range(2)) == [0, 1]
        for _ in range(2):
            with pytest.raises(NodeError, match="ValueError: told to") as caught:
                run.pull()
        assert (caught.value.node, caught.value.item) == ("f_1", 2)
        assert isinstance(caught.value.__cause__, ValueError)
        assert caught.value.__cause__.__traceback__ is not None
        with pytest.raises(NodeError):
            run.push(4)
        with pytest.raises(NodeError):
            list(run)
    assert noted.log.count("cleanup") == 1


@pytest.mark.parametrize("kind", [Noted, breathe])
def test_an_error_at_the_beginning(kind: Any) -> None:
    class Broken(Node):
        def initialize(self) -> None:
            raise ValueError("no model")

        def process(self, value: Any) -> Any:
            return value

    noted = Noted()
    with pytest.raises(NodeError, match="no model"), open_(noted, kind(), Broken()):
        raise AssertionError("not reached")

    async def main() -> None:
        async with open_(noted, kind(), Broken()):
            raise AssertionError("not reached")

    with pytest.raises(NodeError, match="no model"):
        asyncio.run(main())
    assert noted.log == ["initialize", "cleanup"] * 2


def test_an_error_that_nobody_asked_for_is_in_the_log(caplog: Any) -> None:
    with caplog.at_level(logging.WARNING, "remotemedia"), open_(fail_at(at=1)) as run:
        run.push(1)
    assert "closed before it told of an error" in caplog.text
    assert "told to" in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("kind", [PassThroughNode, breathe, aside])
def test_interrupts_pass_after_cleanup(error: Any, kind: Any) -> None:
    class Stops(Node):
        def process(self, value: Any) -> Any:
            raise error

    noted = Noted()
    with open_(noted, kind(), Stops()) as run:
        with pytest.raises(error):
            [run.push(1), run.pull()]
        assert noted.log == ["initialize", 1, "cleanup"]
        with pytest.raises(RunCancelledError, match=error.__name__) as caught:
            run.pull()
        assert isinstance(caught.value.__cause__, error)
    assert noted.log == ["initialize", 1, "cleanup"]


@pytest.mark.parametrize("kind", [PassThroughNode, breathe])
def test_values_that_cannot_cross(kind: Any) -> None:
    with open_(kind()) as run:
        with pytest.raises(MarshalError, match="object"):
            run.push(object())
        assert run.push(1) == 0
        assert run.pull().value == 1


# --- ways out -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [PassThroughNode, breathe, aside])
@pytest.mark.parametrize("way", ["leave", "error", "cancel", "end", "collect", "close"])
def test_cleanup_once(way: str, kind: Any) -> None:
    noted = Noted()
    with open_(noted, kind()) as run:
        run.push(1)
        assert run.pull().value == 1 + (kind is aside)
        if way == "end":
            run.end()
            assert list(run) == []
        elif way == "close":
            run.close()
            run.close()
        elif way == "cancel":
            run.cancel()
            with pytest.raises(RunCancelledError):
                run.pull()
        elif way == "error":
            with pytest.raises(ZeroDivisionError), run:
                raise ZeroDivisionError
    if way == "collect":
        noted.log.clear()
        run = open_(noted, kind()).__enter__()
        run.push(1)
        run.pull()
        del run
        gc.collect()
    expected = ["initialize", 1, "cleanup"]
    assert noted.log == ([*expected[:2], "flush", "cleanup"] if way == "end" else expected)
    # The pipeline is free for others.
    assert Pipeline("p", [noted]).run_sync([1], use_rust=engine.rust, timeout=5) == [1]


def test_cancel_from_another_thread() -> None:
    lock = Lock()
    errors: list[Any] = []

    def pull() -> None:
        try:
            run.push(1)
            run.pull()
        except RunCancelledError as error:
            errors.append(error)

    with open_(lock) as run:
        thread = threading.Thread(target=pull)
        thread.start()
        assert lock.entered.wait(30)
        run.cancel()
        lock.gate.set()
        thread.join(30)
    assert (errors[0].node, errors[0].item) == ("lock_0", 0) if errors[0].node else True
    assert lock.log == ["initialize", 1, "cleanup"]


def test_the_time_of_the_run() -> None:
    noted = Noted()
    with open_(noted, timeout=0.05) as run:
        run.push(1)
        assert run.pull().value == 1
        with pytest.raises(RunTimeoutError, match=r"not complete after 0\.05 s"):
            run.pull(timeout=30)
        with pytest.raises(RunTimeoutError):
            run.push(1)
    assert noted.log[-1] == "cleanup"

    async def main() -> None:
        async with open_(noted, timeout=0.05) as run:
            with pytest.raises(RunTimeoutError, match=r"not complete after 0\.05 s"):
                await run.recv(timeout=30)

    asyncio.run(main())
    assert noted.log[-1] == "cleanup"


def test_an_opening_is_used_once() -> None:
    opening = open_(PassThroughNode())
    with opening as run:
        assert isinstance(run, Session)
    with pytest.raises(RunEndedError, match="open already"), opening:
        pass
    for window in (0, -1, 1.5, True, "2"):
        with pytest.raises(ValueError, match="window"):
            Pipeline("p", [PassThroughNode()]).open(window=window)  # type: ignore[arg-type]


def test_a_session_has_the_nodes_to_itself() -> None:
    noted = Noted()
    pipeline = Pipeline("p", [noted])
    with pipeline.open(use_rust=engine.rust):
        with pytest.raises(RemoteMediaError, match="running already"):
            pipeline.run_sync([1], use_rust=engine.rust)
        with pytest.raises(RemoteMediaError, match="running already"):
            pipeline.open(use_rust=engine.rust).__enter__()

    async def main() -> None:
        async with pipeline.open(use_rust=engine.rust):
            with pytest.raises(RemoteMediaError, match="running already"):
                await pipeline.run([1], use_rust=engine.rust)
            with pytest.raises(RemoteMediaError, match="running already"):
                await pipeline.open(use_rust=engine.rust).__aenter__()
        assert await pipeline.run([1], use_rust=engine.rust) == [1]

    asyncio.run(main())
    assert noted.log == ["initialize", "cleanup"] * 2 + ["initialize", 1, "flush", "cleanup"]


@pytest.mark.parametrize("how", ["plain", "loop", "coroutine", "thread", "async"])
def test_a_node_cannot_wait_for_its_own_session(how: str) -> None:
    class Asks(Node):
        def process(self, value: Any) -> Any:
            return run.pull().value

    class AsksAside(Asks, thread=True):
        pass

    class Awaits(Node):
        async def process(self, value: Any) -> Any:
            return (await run.recv()).value

    run: Any = None

    def main() -> None:
        nonlocal run
        before = [] if how == "plain" else [breathe()]
        with open_(*before, AsksAside() if how == "thread" else Asks()) as run:
            run.push(1)
            with pytest.raises(NodeError, match="part of"):
                run.pull()

    async def in_loop() -> None:
        nonlocal run
        if how == "coroutine":
            main()
            return
        async with open_(Awaits()) as run:
            await run.send(1)
            with pytest.raises(NodeError, match="part of"):
                await run.recv()

    asyncio.run(in_loop()) if how in ("coroutine", "async") else main()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no such signals here")
@pytest.mark.parametrize("waits", ["pull", "push", "inside"])
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_ctrl_c(kind: str, waits: str) -> None:
    code = f"""
        import asyncio, signal, time
        from remotemedia import Node, Pipeline

        class Own(Node):
            def initialize(self): print("initialize")
            def cleanup(self): print("cleanup")
            {"async " if kind == "async" else ""}def process(self, value):
                if {waits == "inside"}:
                    {"await asyncio.sleep(60)" if kind == "async" else "time.sleep(60)"}
                return value

        signal.signal(signal.SIGALRM, signal.getsignal(signal.SIGINT))
        pipeline = Pipeline("p", [Own()])
        try:
            with pipeline.open(use_rust={engine.rust}, window=1) as run:
                {"" if waits == "pull" else "run._backend.try_push(1)"}
                signal.setitimer(signal.ITIMER_REAL, 0.2)
                try:
                    run.{"push(2)" if waits == "push" else "pull()"}
                except KeyboardInterrupt:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    print("interrupted")
                    if {waits == "push"}:
                        # Nothing is lost.
                        print(run.pull().value)
                    raise
        except KeyboardInterrupt:
            print("over")
    """
    code = code.replace("signal.SIGALRM, signal.getsignal(signal.SIGINT)", "signal.SIGALRM, ring")
    code = code.replace(
        "        signal.signal(signal.SIGALRM",
        "        ring = lambda *_: signal.raise_signal(signal.SIGINT)\n"
        "        signal.signal(signal.SIGALRM",
    )
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60
    )
    plain = kind == "plain" and waits == "inside"
    told = ["cleanup", "interrupted"] if plain else ["interrupted", "cleanup"]
    if waits == "push":
        told.insert(1, "1")
    assert (done.stdout.split(), done.stderr) == (["initialize", *told, "over"], "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_session_belongs_to_the_process_that_opened_it() -> None:
    code = """
        import os, threading
        from remotemedia import Node, Pipeline, RemoteMediaError

        class Own(Node):
            def process(self, value):
                if value == "wait":
                    entered.set()
                    gate.wait()
                return value
            def cleanup(self):
                print("cleanup", os.getpid() == parent, flush=True)

        parent, entered, gate = os.getpid(), threading.Event(), threading.Event()
        with Pipeline("p", [Own()]).open(use_rust=ENGINE) as run:
            # It is forked while another thread drives.
            thread = threading.Thread(target=run.push, args=("wait",))
            thread.start()
            entered.wait()
            child = os.fork()
            if child == 0:
                for act in (run.pull, run.end, run.cancel, lambda: run.push(1)):
                    try:
                        act()
                    except RemoteMediaError as error:
                        print(error.code, flush=True)
            else:
                assert os.waitpid(child, 0) == (child, 0)
                gate.set()
                thread.join()
                print(run.pull().value, flush=True)
        if child == 0:
            del run
            os._exit(0)
    """.replace("ENGINE", str(engine.rust))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    told = [*["RM_E_FORKED"] * 4, "wait", "cleanup", "True"]
    assert (done.stdout.split(), done.stderr) == (told, "")


def test_an_error_is_the_same_however_often_it_is_told() -> None:
    def depth() -> int:
        with pytest.raises(NodeError) as caught:
            run.pull()
        traceback, frames = caught.value.__traceback__, 0
        while traceback is not None:
            traceback, frames = traceback.tb_next, frames + 1
        return frames

    with open_(fail_at(at=1)) as run:
        run.push(1)
        assert len({depth() for _ in range(5)}) == 1


# --- asyncio --------------------------------------------------------------------------------------


@pytest.mark.python_engine
def test_send_waits_while_the_window_is_full() -> None:
    async def main() -> None:
        async with open_(PassThroughNode(), window=2) as run:
            assert run.try_send(1)
            assert run.try_send(2)
            assert not run.try_send(3)
            with pytest.raises(RunTimeoutError, match="room for the item"):
                await run.send(3, timeout=0.01)
            sending = asyncio.ensure_future(run.send(3))
            assert (await run.recv()).value == 1
            assert await sending == 2
            run.end()
            assert values(await run.recv_many()) == [2]
            assert values([output async for output in run]) == [3]
            with pytest.raises(RunEndedError):
                await run.recv()
            assert await run.recv_many() == []
            with pytest.raises(RunEndedError):
                run.try_recv()
            with pytest.raises(RunEndedError):
                await run.send(1)

    asyncio.run(main())


def test_cancelling_send_and_recv_loses_nothing() -> None:
    asyncio.run(cancel_at_random(open_(breathe(), window=2), 200))


@pytest.mark.python_engine
def test_one_task_and_no_threads() -> None:
    before = threading.active_count()

    async def main() -> None:
        async with open_(double(), breathe()) as run:
            await run.send(1)
            assert (await run.recv()).value == 2
            assert len(asyncio.all_tasks()) == 2
            assert threading.active_count() == before
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_nothing_crosses_threads_for_an_item(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with open_(double(), breathe(), window=4) as run:
            calls: list[Any] = []
            loop = asyncio.get_running_loop()
            monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *call: calls.append(call))
            task = asyncio.ensure_future(run.send_many(range(50)))
            for _ in range(50):
                await run.recv()
            assert await task == 50
            assert calls == []

    asyncio.run(main())


@pytest.mark.parametrize("way", ["leave", "error", "task", "cancel", "thread", "collect"])
def test_async_cleanup_once(way: str) -> None:
    gate = Gate()

    async def main() -> None:
        async with open_(gate, window=2) as run:
            await run.send(1)
            await gate.entered.wait()
            if way == "error":
                raise ZeroDivisionError
            if way == "task":
                current = asyncio.current_task()
                assert current is not None
                current.cancel()
                await asyncio.sleep(0)
            if way == "cancel":
                run.cancel()
            if way == "thread":
                thread = threading.Thread(target=run.cancel)
                thread.start()
            if way in ("cancel", "thread"):
                with pytest.raises(RunCancelledError):
                    await run.recv()
                with pytest.raises(RunCancelledError):
                    await run.send(2)

    async def collect() -> None:
        run = await open_(gate).__aenter__()
        await run.send(1)
        await gate.entered.wait()
        del run
        gc.collect()
        await until("cleanup", gate.log)

    try:
        asyncio.run(collect() if way == "collect" else main())
    except (ZeroDivisionError, asyncio.CancelledError):
        assert way in ("error", "task")
    assert gate.log == ["initialize", 1, "cleanup"]
    assert gate.cancelled == 1


def test_async_cleanup_is_awaited_and_not_cancelled() -> None:
    class Slow(Noted):
        async def cleanup(self) -> None:
            self.log.append("begins")
            await asyncio.sleep(0.02)
            self.log.append("cleanup")

    slow = Slow()

    async def main() -> None:
        async with open_(slow, fail_at(at=1)) as run:
            await run.send(1)
            await until("begins", slow.log)

    asyncio.run(main())
    assert slow.log == ["initialize", 1, "begins", "cleanup"]
    with open_(slow) as run:
        run.push(1)
    assert slow.log[4:] == ["initialize", 1, "begins", "cleanup"]


@pytest.mark.parametrize("how", ["sync", "async"])
def test_what_does_not_end_is_left_behind(how: str, caplog: Any) -> None:
    class Deaf(Noted):
        async def process(self, value: Any) -> Any:
            self.log.append(value)
            while not released:
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    self.log.append("cancelled")

    released: list[int] = []
    deaf = Deaf()

    async def main() -> None:
        async with open_(deaf) as run:
            await run.send(1)
            await until(1, deaf.log)
        released.append(1)

    with caplog.at_level(logging.WARNING, "remotemedia"):
        if how == "async":
            asyncio.run(main())
        else:
            with open_(deaf) as run:
                run.push(1)
                assert run.pull_many(timeout=0.05) == []
    assert "did not end when it was cancelled" in caplog.text
    assert [entry for entry in deaf.log if entry != "cancelled"] == ["initialize", 1, "cleanup"]


def test_a_sync_session_in_a_coroutine() -> None:
    async def main() -> Any:
        with open_(breathe(), window=2) as run:
            run.push(1)
            run.push(2)
            with pytest.raises(RunTimeoutError):
                run.push(3, timeout=0.01)
            run.end()
            return values(run)

    assert asyncio.run(main()) == [1, 2]


# --- interrupt, set -------------------------------------------------------------------------------


class Hears(Noted):
    def interrupt(self) -> None:
        self.log.append("interrupt")


def test_interrupt_discards_what_is_in_flight() -> None:
    hears, buffer = Hears(), BufferNode(buffer_size=2)
    with open_(hears, buffer, window=4) as run:
        run.push_many(range(5))
        run.interrupt()
        assert run.try_pull() is None
        # The buffer still holds the last one, and numbers go on.
        assert run.push(9) == 5
        assert run.pull() == ([4, 9], "buffer_1", 5, None)
        run.end()
        assert list(run) == []
    assert hears.log == ["initialize", *range(5), "interrupt", 9, "flush", "cleanup"]


def test_interrupt_cancels_a_node_that_waits() -> None:
    gate, hears = Gate(), Hears()

    async def main() -> None:
        async with open_(gate, hears, window=2) as run:
            await run.send(1)
            await run.send(2)
            await gate.entered.wait()
            run.interrupt()
            await run.send(3)
            gate.gate.set()
            assert await run.recv() == (3, "hears_1", 2, None)
            run.end()
            assert [output async for output in run] == []

    asyncio.run(main())
    assert gate.log == ["initialize", 1, 3, "flush", "cleanup"]
    assert gate.cancelled == 1
    assert hears.log == ["initialize", "interrupt", 3, "flush", "cleanup"]


def test_interrupt_of_a_plain_node_from_another_thread() -> None:
    lock, noted = Lock(), Noted()
    with open_(lock, noted, window=4) as run:
        thread = threading.Thread(target=run.push, args=(1,))
        thread.start()
        assert lock.entered.wait(30)
        run.interrupt()
        run.push(2)
        lock.gate.set()
        thread.join(30)
        assert run.pull(timeout=30) == (2, "noted_1", 1, None)
    assert noted.log == ["initialize", 2, "cleanup"]


def test_set_takes_effect_between_items() -> None:
    @node
    def shift(value: Any, by: int = 0) -> Any:
        return value + by

    with open_(MultiplyNode(name="m", factor=2), shift(name="s")) as run:
        run.push(1)
        run.set("m_0", factor=10)
        run.push(1)
        run.set("s_1", by=5)
        run.push(1)
        run.end()
        assert values(run) == [2, 10, 15]


class Level(Node):
    def __init__(self, level: int = 0, name: Optional[str] = None) -> None:
        super().__init__(name)
        self.level = level

    def process(self, value: Any) -> Any:
        return self.level


class LevelAside(Level, thread=True):
    pass


@node
async def level(value: Any, level: int = 0) -> Any:
    await asyncio.sleep(0)
    return level


@pytest.mark.parametrize("kind", [Level, LevelAside, level])
def test_parameters_show_what_was_set(kind: Any) -> None:
    it = kind(name="n")
    with open_(it) as run:
        run.push(1)
        run.set("n_0", level=4)
        run.push(1)
        assert values([run.pull(), run.pull()]) == [0, 4]
        assert it.params == {"level": 4}
        with pytest.raises(TypeError):
            it.params["level"] = 5


def test_set_replaces_a_built_in_node() -> None:
    with open_(BufferNode(name="b", buffer_size=2)) as run:
        run.push(1)
        run.set("b_0", buffer_size=1)
        run.push(2)
        assert run.pull().value == [2]
        with pytest.raises(ManifestError) as caught:
            run.set("b_0", buffer_size=0)
        assert (caught.value.pointer, caught.value.node) == ("/nodes/0/params/buffer_size", "b_0")
        with pytest.raises(ManifestError, match="no node") as caught:
            run.set("a_0", buffer_size=1)
        assert caught.value.hint == 'did you mean "b_0"?'
    with open_(double(name="d")) as run, pytest.raises(ManifestError, match="no parameter"):
        run.set("d_0", factor=3)


@pytest.mark.python_engine
@pytest.mark.parametrize("during", ["initialize", "set", "interrupt"])
def test_an_interruption_ends_an_item_and_nothing_else(during: str) -> None:
    entered, released = threading.Event(), threading.Event()

    class Slow(Noted, thread=True):
        """Takes its time with one of its methods, in its thread."""

        def __init__(self, level: int = 0) -> None:
            super().__init__()
            self.level = level

        def __setattr__(self, key: str, value: Any) -> None:
            if value == 1:
                self.wait("set")
            super().__setattr__(key, value)

        def initialize(self) -> Any:
            super().initialize()
            self.wait("initialize")

        def interrupt(self) -> None:
            self.log.append("interrupt")
            if self.log.count("interrupt") == 1:
                self.wait("interrupt")

        def wait(self, method: str) -> None:
            if method == during:
                entered.set()
                assert released.wait(30)

    slow = Slow()

    async def main() -> None:
        async def interrupt() -> None:
            while not entered.is_set():  # noqa: ASYNC110  it is a thread's
                await asyncio.sleep(0.001)
            opening._async_session.interrupt()
            # So that what it might have cancelled is.
            for _ in range(5):
                await asyncio.sleep(0)
            released.set()

        opening = open_(slow)
        task = asyncio.ensure_future(interrupt())
        async with opening as run:
            if during == "set":
                run.set("slow_0", level=1)
            elif during == "interrupt":
                run.interrupt()
            await task
            await run.send(2)
            assert (await run.recv()).value == 2
            run.end()
            assert [output async for output in run] == []

    asyncio.run(main())
    assert slow.level == (during == "set")
    times = 2 if during == "interrupt" else 1
    assert slow.log == ["initialize", *["interrupt"] * times, 2, "flush", "cleanup"]


# --- what it says of itself -----------------------------------------------------------------------


def test_which_engine() -> None:
    with Pipeline("mine", [double(name="d")]).open(use_rust=engine.rust) as run:
        assert run.engine == ("native" if engine.rust else "python")
    with pytest.raises(ManifestError, match="only in the native library"):
        Pipeline("media", [AudioLevelNode()]).open(use_rust=False)
    if native.is_available():
        for made in (PassThroughNode(), AudioLevelNode()):
            with Pipeline("p", [made]).open() as run:
                assert run.engine == "native"


def test_diagnose() -> None:
    lock = Lock(name="slow")
    with open_(lock, window=1) as run:
        assert run.diagnose()["words"] == (
            "pull waits for an item: nothing is inside, and end() was not called"
        )
        thread = threading.Thread(target=run.push, args=(1,))
        thread.start()
        assert lock.entered.wait(30)
        found = run.diagnose()
        assert (found["node"], found["method"], found["item"]) == ("slow_0", "process", 0)
        assert found["seconds"] >= 0
        assert (found["inside"], found["window"], found["outputs"]) == (1, 1, 0)
        assert found["words"].startswith("node 'slow_0' has been in process with item 0 for 0.")
        assert "push waits for room: 1 items are inside, of 1" in found["words"]
        lock.gate.set()
        thread.join(30)


def test_diagnose_joins() -> None:
    pipeline = Pipeline("p", [PassThroughNode(name="a"), PassThroughNode(name="b")])
    pipeline.add_node(PassThroughNode(name="j"), join="zip")
    pipeline.connect("a_0", "j_2").connect("b_1", "j_2")
    with pipeline.open(use_rust=engine.rust) as run:
        run.push(1, node="a_0")
        found = run.diagnose()
        assert found["joins"] == {"j_2": {"a_0": 1, "b_1": 0}}
        assert (
            "node 'j_2' holds values that wait for partners: 1 of 'a_0', 0 of 'b_1'"
            in (found["words"])
        )


@pytest.mark.parametrize("how", ["push", "pull", "recv"])
def test_a_stall_is_told_once(how: str, caplog: Any) -> None:
    async def main() -> None:
        async with open_(PassThroughNode(), window=1, stall=0.01) as run:
            with pytest.raises(RunTimeoutError):
                await run.recv(timeout=0.1)

    with caplog.at_level(logging.WARNING, "remotemedia"):
        if how == "recv":
            asyncio.run(main())
        else:
            with open_(PassThroughNode(), window=1, stall=0.01) as run:
                if how == "push":
                    run.push(1)
                for _ in range(2):
                    with pytest.raises(RunTimeoutError):
                        run.push(2, timeout=0.1) if how == "push" else run.pull(timeout=0.1)
    [record] = caplog.records
    waits = "push waits for room" if how == "push" else "pull waits for an item"
    assert f"a session has not moved for 0.01 s: {waits}" in record.getMessage()


def test_no_stall_is_told_where_it_is_off(caplog: Any) -> None:
    caplog.set_level(logging.WARNING, "remotemedia")
    with open_(PassThroughNode(), stall=None) as run, pytest.raises(RunTimeoutError):
        run.pull(timeout=0.05)
    assert caplog.records == []


def test_a_session_in_python_needs_no_asyncio() -> None:
    code = """
        import sys
        from remotemedia import Pipeline
        from remotemedia.nodes import AddNode
        with Pipeline("p", [AddNode(addend=1)]).open(use_rust=ENGINE) as run:
            run.push(1)
            assert run.pull(timeout=1).value == 2
        heavy = {"asyncio", "inspect", "logging", "multiprocessing", "numpy", "concurrent.futures"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
    """.replace("ENGINE", str(engine.rust))
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
