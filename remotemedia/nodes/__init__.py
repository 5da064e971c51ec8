"""A class for every built-in node."""

from __future__ import annotations

from remotemedia.nodes.audio import (
    AudioChunkerNode,
    AudioDecodeNode,
    AudioLevelNode,
    AudioResampleNode,
    VoiceActivityNode,
)
from remotemedia.nodes.base import BufferNode, DelayNode, PassThroughNode
from remotemedia.nodes.calculator import AddNode, CalculatorNode, MultiplyNode
from remotemedia.nodes.text import TextProcessorNode

__all__ = [
    "AddNode",
    "AudioChunkerNode",
    "AudioDecodeNode",
    "AudioLevelNode",
    "AudioResampleNode",
    "BufferNode",
    "CalculatorNode",
    "DelayNode",
    "MultiplyNode",
    "PassThroughNode",
    "TextProcessorNode",
    "VoiceActivityNode",
]
