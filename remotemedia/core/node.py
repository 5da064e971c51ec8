"""What a node is in Python."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Optional

__all__ = ["BuiltinNode", "Node"]


class changes:
    """Tells whether any pipeline or built-in node was changed since: then ``mark`` is another
    object. It is set after the change, and read before what may change is looked at."""

    mark = object()


class Node:
    """A step of a pipeline. Derive from it and write :meth:`process`::

        class Shout(Node):
            def __init__(self, mark: str = "!", name: Optional[str] = None) -> None:
                super().__init__(name)
                self.mark = mark

            def process(self, value):
                return value.upper() + self.mark

    In a run a node is initialized once, processes its values one after the other, is flushed at
    the end of input and is cleaned up: after success, and just as well after an error, a timeout
    or a cancellation. All four methods may be plain or ``async``. A node object of yours is used as
    it is, run after run, so what it collects can be read from it afterwards; runs of one pipeline
    that hold such nodes take turns. Treat the values as read-only: another node may get the same.

    The arguments of the constructor are the node's parameters; a manifest holds them.

    Args:
        name: what the pipeline makes the node's id from; by default the class's name in snake
            case without ``Node``: ``AudioLevelNode`` is ``audio_level``.
    """

    name: str

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = super().__new__(cls)
        params = _bound(cls, args, kwargs)
        name = params.pop("name", None)
        self.__dict__["_params"] = params
        self.__dict__["name"] = name if name is not None else _default_name(cls)
        return self

    def __init__(self, name: Optional[str] = None) -> None:
        if name is not None:
            self.name = name

    @property
    def params(self) -> Mapping[str, Any]:
        """The arguments of the constructor by name, without ``name``; defaults included."""
        return MappingProxyType(self.__dict__["_params"])

    @property
    def node_type(self) -> str:
        """The type as a manifest names it: the name of the class."""
        return type(self).__name__

    # The results may be anything and, in subclasses, coroutines or generators; hence Any.

    def initialize(self) -> Any:
        """Acquires what the node needs, for example a model. Called once, before any value."""

    def process(self, value: Any) -> Any:
        """Takes one value.

        What it returns goes on to the next nodes; None is nothing. As a generator it emits every
        value that it yields, None included. Both kinds may be ``async``.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method process")

    def flush(self) -> Any:
        """At the end of input: returns or yields what the node still holds, as :meth:`process`."""

    def cleanup(self) -> Any:
        """Releases what the node holds. Called once if :meth:`initialize` succeeded."""

    def __repr__(self) -> str:
        params = "".join(f", {key}={value!r}" for key, value in self.params.items())
        return f"{type(self).__name__}(name={self.name!r}{params})"


class BuiltinNode(Node):
    """The base of the classes for built-in nodes: every parameter is an attribute.

    Setting the attribute changes the parameter, for runs that begin after that. A class that
    derives from a built-in node is a node of your own, with its own type.
    """

    #: The classes of the built-in nodes, by the type's name without ``Node``.
    registry: ClassVar[dict[str, type[BuiltinNode]]] = {}

    def __init_subclass__(cls, builtin: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if builtin:
            cls.registry[short_name(cls.__name__)] = cls

    def __setattr__(self, key: str, value: Any) -> None:
        if key in self.params:
            self.__dict__["_params"][key] = value
        elif is_builtin(self) and key != "name" and not key.startswith("_"):
            known = ", ".join(self.params) or "none"
            raise AttributeError(
                f"{type(self).__name__} has no parameter {key!r}; its parameters: {known}"
            )
        else:
            super().__setattr__(key, value)
        changes.mark = object()

    if not TYPE_CHECKING:

        def __getattr__(self, key):
            try:
                return self.__dict__["_params"][key]
            except KeyError:
                raise AttributeError(
                    f"{type(self).__name__!r} object has no attribute {key!r}"
                ) from None


def is_builtin(node: Node) -> bool:
    """Whether this is a node that the native library has as well."""
    cls = type(node)
    return issubclass(cls, BuiltinNode) and cls.registry.get(short_name(cls.__name__)) is cls


def has_python(node: Node) -> bool:
    """Whether the Python engine can run it."""
    return getattr(node.process, "__func__", None) is not Node.process


def short_name(name: str) -> str:
    """The type's name without the ending ``Node``, which manifests may add."""
    return name.removesuffix("Node")


def _default_name(cls: type) -> str:
    name = short_name(cls.__name__) or cls.__name__
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _bound(cls: type[Node], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a constructor by name. A call that does not fit is left to fail there."""
    init: Any = cls.__init__
    if not isinstance(init, FunctionType) or hasattr(init, "__wrapped__"):
        return _bound_by_signature(cls, args, kwargs)
    code = init.__code__
    names = code.co_varnames[1 : code.co_argcount]
    keywords = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    defaults = init.__defaults__ or ()
    params = dict.fromkeys((*names, *keywords))
    given = dict(zip(names[len(names) - len(defaults) :], defaults))
    given.update(init.__kwdefaults__ or {})
    given.update(zip(names, args))
    given.update(kwargs)
    if len(args) > len(names) and code.co_flags & 0x04:
        raise TypeError(
            f"{cls.__name__} takes *args: every argument of a node needs a name, "
            "to be a parameter in a manifest"
        )
    # In the order of the signature, and only what there is a value for.
    return {key: given[key] for key in {**params, **given} if key in given}


def _bound_by_signature(
    cls: type[Node], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """The same for constructors that are not plain functions."""
    import inspect

    signature = inspect.signature(cls.__init__)
    try:
        bound = signature.bind(None, *args, **kwargs)
    except TypeError:
        return dict(kwargs)
    bound.apply_defaults()
    params: dict[str, Any] = {}
    for key, value in list(bound.arguments.items())[1:]:
        if signature.parameters[key].kind is inspect.Parameter.VAR_KEYWORD:
            params.update(value)
        elif signature.parameters[key].kind is not inspect.Parameter.VAR_POSITIONAL:
            params[key] = value
    return params
