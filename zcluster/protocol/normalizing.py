"""How objects say what their token is made of: functions by type, and methods of classes.

`Normalizers` is what `zcluster.base.normalize_token` is one of. It finds, for a type, the first
class along its method resolution order that says what its objects stand for: by a function that
was registered for that class, or by a method ``__zcluster_tokenize__`` or ``__dask_tokenize__`` in
it. So a subclass is written as its base unless it says otherwise, and always beside its own type.

Functions for the types of a library can wait until the library is there: what is registered with
`Normalizers.register_lazy` runs once, when the first object of such a type is met.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from functools import partial
from typing import Any, TypeVar, overload

from zcluster.errors import InvalidArgument

__all__ = ["Normalizers"]

_METHODS = ("__zcluster_tokenize__", "__dask_tokenize__")
_Function = TypeVar("_Function", bound=Callable[..., Any])


class Normalizers:
    """Functions that turn objects into what their tokens are made of, by type.

    Parameters
    ----------
    fixed : container of types
        Types that nothing can be registered for.
    on_change : callable
        Called when what was found before may hold no longer.

    Examples
    --------
    >>> from zcluster.base import normalize_token, tokenize
    >>> class Grid:
    ...     def __init__(self, path):
    ...         self.path = path
    ...         self.open_file = object()
    >>> @normalize_token.register(Grid)
    ... def grid_parts(grid):
    ...     return grid.path
    >>> tokenize(Grid("a.nc")) == tokenize(Grid("a.nc"))
    True
    >>> tokenize(Grid("a.nc")) == tokenize(Grid("b.nc"))
    False
    """

    def __init__(self, fixed: Container[type], on_change: Callable[[], None]) -> None:
        self._fixed = fixed
        self._on_change = on_change
        self._functions: dict[type, Callable[[Any], Any]] = {}
        self._lazy: dict[str, Callable[[], Any]] = {}  # by the name of the package

    def __repr__(self) -> str:
        waiting = f", waiting for {', '.join(sorted(self._lazy))}" if self._lazy else ""
        return f"<Normalizers: {len(self._functions)} types{waiting}>"

    @overload
    def register(
        self, types: type | tuple[type, ...], func: None = None
    ) -> Callable[[_Function], _Function]: ...

    @overload
    def register(self, types: type | tuple[type, ...], func: _Function) -> _Function: ...

    def register(self, types: type | tuple[type, ...], func: _Function | None = None) -> Any:
        """Register a function for a type, or for several; it replaces an earlier one.

        Parameters
        ----------
        types : type or tuple of types
            Subclasses are included, unless they have a function or a method of their own.
        func : callable, optional
            Takes an object of that type and returns plain values, containers, arrays, or anything
            else that has a token; the same for equal objects, in every process.

        Returns
        -------
        callable
            The function; or, without one, a decorator.

        Raises
        ------
        InvalidArgument
            For what is not a type, and for types that `tokenize` writes in its own way: numbers,
            text, containers, functions, `object`.
        """
        if func is None:
            return partial(self.register, types)
        kinds = types if isinstance(types, tuple) else (types,)
        for kind in kinds:
            self._check(kind)
        for kind in kinds:
            self._functions[kind] = func
        self._on_change()
        return func

    def _check(self, kind: Any) -> None:
        if not isinstance(kind, type):
            raise InvalidArgument(
                f"normalize_token.register got {kind!r}; expected a type or a tuple of types, or "
                "the name of a package for register_lazy"
            )
        if kind is object or kind in self._fixed:
            raise InvalidArgument(
                f"normalize_token.register got {kind.__name__}, which tokenize always writes in "
                "its own way; register a class of your own"
            )

    @overload
    def register_lazy(
        self, toplevel: str, func: None = None
    ) -> Callable[[_Function], _Function]: ...

    @overload
    def register_lazy(self, toplevel: str, func: _Function) -> _Function: ...

    def register_lazy(self, toplevel: str, func: _Function | None = None) -> Any:
        """Register a function that registers more, once a type of some package is met.

        Parameters
        ----------
        toplevel : str
            The package's name, without dots: ``"pandas"``.
        func : callable, optional
            Takes nothing; it imports the package and registers functions for its types.

        Returns
        -------
        callable
            The function; or, without one, a decorator.

        Examples
        --------
        >>> from zcluster.base import normalize_token, tokenize
        >>> @normalize_token.register_lazy("fractions")
        ... def register_fractions():
        ...     import fractions
        ...     normalize_token.register(fractions.Fraction, str)
        >>> from fractions import Fraction
        >>> normalize_token(Fraction(2, 4))
        '1/2'
        """
        if func is None:
            return partial(self.register_lazy, toplevel)
        if not toplevel.isidentifier():
            raise InvalidArgument(
                f"register_lazy got {toplevel!r}; expected the name of a package without dots, "
                "such as 'pandas'"
            )
        self._lazy[toplevel] = func
        self._on_change()
        return func

    def dispatch(self, cls: type) -> Callable[[Any], Any] | None:
        """Return the function or method for objects of a type, or None if there is none."""
        for base in cls.__mro__:
            if self._lazy:
                package = str(base.__module__).partition(".")[0]
                if package in self._lazy:
                    self._lazy[package]()
                    self._lazy.pop(package, None)
            function = self._functions.get(base)
            if function is not None:
                return function
            for name in _METHODS:
                if base.__dict__.get(name) is not None:
                    method: Callable[[Any], Any] = getattr(base, name)
                    return method
        return None

    def __call__(self, value: Any) -> Any:
        """Return what a value's token is made of; the value itself, if nothing else says.

        For functions that are registered, which may hand on what belongs to other types.
        """
        function = self.dispatch(type(value))
        return value if function is None else function(value)
