"""Three nodes, three items: the smallest pipeline worth the name."""

import asyncio

from remotemedia import Pipeline
from remotemedia.nodes.base import PassThroughNode
from remotemedia.nodes.calculator import CalculatorNode


async def main() -> None:
    pipeline = Pipeline(
        name="arithmetic",
        nodes=[
            PassThroughNode(name="pass1"),
            CalculatorNode(name="calc", operation="add", operand=5),
            PassThroughNode(name="pass2"),
        ],
    )
    result = await pipeline.run([1, 2, 3])
    print(result, result.engine)


if __name__ == "__main__":
    asyncio.run(main())
