"""What a node is in Python."""

from __future__ import annotations

from collections.abc import Mapping
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Any, Callable, ClassVar, Optional, TypeVar, Union, overload

__all__ = ["BuiltinNode", "FunctionNode", "Node", "node"]

Self = TypeVar("Self", bound="Node")


class _Changes:
    """Tells whether any pipeline or built-in node was changed since: then ``mark`` is another
    object. It is set after the change, and read before what may change is looked at."""

    __slots__ = ("mark",)

    def __init__(self) -> None:
        self.mark = object()


changes = _Changes()


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
    or a cancellation. All four methods may be plain or ``async``: plain ones are called on the
    thread that waits for the run, or in the event loop; async nodes wait side by side in the event
    loop. A node object of yours is used as it is, run after run, so what it collects can be read
    from it afterwards; runs of one pipeline that hold such nodes take turns. Treat the values as
    read-only: another node may get the same.

    The arguments of the constructor are the node's parameters; a manifest holds them.

    ``class Shout(Node, thread=True)`` has a thread in which all its methods are called, so that the
    event loop stays free; they are plain then. ``process=True`` has a process of its own, to which
    the node is pickled: one per run, and what the node collects stays there.

    Args:
        name: what the pipeline makes the node's id from; by default the class's name in snake
            case without ``Node``: ``AudioLevelNode`` is ``audio_level``.
    """

    name: str
    #: Where its methods are called, if not on the thread of the run: ``"thread"`` or
    #: ``"process"``.
    runs_in: ClassVar[Optional[str]] = None

    def __init_subclass__(cls, thread: bool = False, process: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if thread and process:
            raise TypeError(f"{cls.__name__} runs in a thread or in a process, not in both")
        if thread or process:
            cls.runs_in = "thread" if thread else "process"

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

    def options(
        self: Self,
        *,
        on_error: Union[str, dict[str, Any], None] = None,
        timeout: Optional[float] = None,
        join: Union[str, dict[str, float], None] = None,
        parallelism: Optional[int] = None,
    ) -> Self:
        """Says how a pipeline is to treat the node, and hands it back; None changes nothing::

            Pipeline("p", [Fetch().options(on_error={"retry": 3}, timeout=10)])

        Args:
            on_error: what happens if it fails with a value: ``"fail"`` ends the run (default),
                ``"skip"`` drops the value, ``"passthrough"`` hands it on as it came, and
                ``{"retry": n, "backoff": seconds}`` calls again up to n times, after this time,
                then after twice this time, and so on.
            timeout: the time for one value in seconds; one that takes longer has failed. A plain
                method is not interrupted, but what it gives too late does not count.
            join: for a node with several incoming connections: ``"any"`` takes each value as it
                comes (default), ``"zip"`` a list of one value of each connection, ``"latest"`` a
                list of each value of the first connection and the latest of every other, and
                ``{"by_pts": seconds}`` lists of values whose presentation times differ from the
                first connection's by no more.
            parallelism: how many values may be processed at once, if the node's type says that it
                keeps no state, as nodes in C can; order stays. All others take one at a time.
        """
        given = {
            "join": join, "on_error": on_error, "timeout": timeout, "parallelism": parallelism
        }  # fmt: skip
        options = self.__dict__.setdefault("_options", {})
        for key, value in given.items():
            if value is not None:
                # A copy, as it cannot be changed without a trace.
                options[key] = dict(value) if isinstance(value, dict) else value
        changes.mark = object()
        return self

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

    def _set_params(self, params: dict[str, Any]) -> None:
        """Changes parameters while a session runs."""
        for key, value in params.items():
            setattr(self, key, value)
            self.__dict__["_params"][key] = value
        changes.mark = object()

    def _revive(self) -> None:
        """Makes it fit for another value, after one that failed and that the run does without."""

    def __repr__(self) -> str:
        params = "".join(f", {key}={value!r}" for key, value in self.params.items())
        return f"{type(self).__name__}(name={self.name!r}{params})"


@overload
def node(function: Callable[..., Any], /) -> type[FunctionNode]: ...
@overload
def node(
    *, thread: bool = False, process: bool = False
) -> Callable[[Callable[..., Any]], type[FunctionNode]]: ...
def node(
    function: Optional[Callable[..., Any]] = None, /, *, thread: bool = False, process: bool = False
) -> Any:
    """Makes a node class of a function, whose first argument is the value::

        @node
        def scale(value, factor=2):
            return value * factor

        Pipeline("p", [scale(), scale(factor=3, name="more")])

    The other arguments are the node's parameters. The function may be a generator, or async, or
    both, as :meth:`Node.process`.

    Args:
        function: the function.
        thread: whether it is called in a thread of the node's own.
        process: whether it is called in a process of the node's own; then it must be at the module
            level.
    """
    if function is None:
        return lambda function: _class_of(function, thread, process)
    return _class_of(function, thread, process)


def _class_of(function: Any, thread: bool, process: bool) -> type[FunctionNode]:
    import inspect

    if not isinstance(function, FunctionType):
        raise TypeError(f"node makes a class of a function, not of {function!r}")
    name = function.__name__.strip("<>")
    parameters = list(inspect.signature(function).parameters.values())
    value = parameters.pop(0) if parameters else None
    if value is None or value.kind in (value.KEYWORD_ONLY, value.VAR_KEYWORD, value.VAR_POSITIONAL):
        raise TypeError(f"{name} takes no value: its first argument is what it processes")
    for parameter in parameters:
        if parameter.kind in (value.POSITIONAL_ONLY, value.VAR_POSITIONAL):
            raise TypeError(
                f"{name} takes {parameter}: every argument but the first needs a name, "
                "to be a parameter in a manifest"
            )
        if parameter.name == "name":
            raise TypeError(f"{name} takes 'name', which is the node's; call it something else")
    if thread and (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)):
        raise TypeError(f"{name} is async, and needs no thread")
    namespace = {
        "__doc__": function.__doc__,
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
        "function": staticmethod(function),
        "_signature": inspect.Signature(parameters),
    }
    make: Any = type(FunctionNode)
    return make(name, (FunctionNode,), namespace, thread=thread, process=process)  # type: ignore[no-any-return]


class FunctionNode(Node):
    """The base of the classes that :func:`node` makes of functions."""

    #: The function as it was written.
    function: ClassVar[Callable[..., Any]]
    #: All its arguments but the first.
    _signature: ClassVar[Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = object.__new__(cls)
        name = kwargs.pop("name", None)
        try:
            bound = cls._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{cls.__name__}(): {error}") from None
        bound.apply_defaults()
        params: dict[str, Any] = {}
        self.__dict__["_params"] = params
        for key, value in bound.arguments.items():
            more = cls._signature.parameters[key].kind.name == "VAR_KEYWORD"
            params.update(value if more else {key: value})
        self.__dict__["name"] = name if name is not None else _default_name(cls)
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(kwargs.get("name"))

    def __getnewargs_ex__(self) -> Any:
        return (), {**self.params, "name": self.name}

    def process(self, value: Any) -> Any:
        return type(self).function(value, **self.__dict__["_params"])

    def _set_params(self, params: dict[str, Any]) -> None:
        self.__dict__["_params"].update(params)
        changes.mark = object()


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
    words = ""
    # By hand: to compile an expression takes a tenth of what a first result takes.
    for before, letter, after in zip(f" {name}", name, f"{name[1:]} "):
        if "A" <= letter <= "Z":
            small = "a" <= before <= "z" or "0" <= before <= "9"
            if small or ("A" <= before <= "Z" and "a" <= after <= "z"):
                words += "_"
        words += letter
    return words.lower()


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
