"""An array library as strict as CuPy, for machines without a GPU.

It computes with NumPy behind a wall: its arrays never turn into NumPy arrays by themselves, do not mix with
them, are not iterated over, and functions that CuPy lacks are not there. Every copy to the host is counted.
"""

from types import SimpleNamespace

import numpy as np

copies = 0  # from the device to the host, by asnumpy or by asking an array for a number or truth value

bool, float32, float64 = np.bool_, np.float32, np.float64
int8, int16, int64, uint8 = np.int8, np.int16, np.int64, np.uint8


def _count():
    global copies
    copies += 1


class ndarray:
    """A NumPy array behind the wall."""

    __array_priority__ = 1000
    __hash__ = None

    def __init__(self, inner):
        self._inner = np.asarray(inner)

    def __array__(self, *_, **__):
        raise TypeError("an array of this library goes into no NumPy function and no loop: use asnumpy")

    __array_ufunc__ = __array_function__ = __iter__ = __array__

    def __len__(self):
        return len(self._inner)

    def __getitem__(self, key):
        return ndarray(self._inner[_key(key)])

    def __setitem__(self, key, value):
        self._inner[_key(key)] = _bare(value)

    shape, dtype, size, ndim, nbytes = (
        property(lambda self, name=name: getattr(self._inner, name))
        for name in ("shape", "dtype", "size", "ndim", "nbytes"))
    T = property(lambda self: ndarray(self._inner.T))


def _bare(value):
    """What is behind the wall. NumPy arrays (but for scalars) must not come in."""
    if isinstance(value, ndarray):
        return value._inner
    if isinstance(value, np.ndarray):
        raise TypeError("a NumPy array does not mix with arrays of this library")
    if isinstance(value, list | tuple):
        return type(value)(_bare(part) for part in value)
    return value


def _key(key):
    if isinstance(key, list):
        raise TypeError("an index list would be copied to the device")
    return _bare(key)


def _wall(result):
    """Everything that comes out is an array of this library, also a single number."""
    if isinstance(result, tuple):
        return tuple(map(_wall, result))
    return ndarray(result) if isinstance(result, np.ndarray | np.generic) else result


def _through(function):
    def call(*args, **kwargs):
        return _wall(function(*map(_bare, args), **{name: _bare(value) for name, value in kwargs.items()}))

    return call


def _to_host(name):
    def convert(self):
        _count()
        return getattr(self._inner, name)()

    return convert


def _in_place(name):
    operation = getattr(np.ndarray, name)

    def apply(self, other):
        operation(self._inner, _bare(other))
        return self

    return apply


for _name in ("add", "sub", "mul", "truediv", "pow", "matmul", "and", "or", "xor", "floordiv", "mod"):
    for _form in ("__{}__", "__r{}__"):
        setattr(ndarray, _form.format(_name), _through(getattr(np.ndarray, _form.format(_name))))
    if _name != "matmul":
        setattr(ndarray, f"__i{_name}__", _in_place(f"__i{_name}__"))
for _name in ("lt", "le", "gt", "ge", "eq", "ne", "neg", "invert", "abs"):
    setattr(ndarray, f"__{_name}__", _through(getattr(np.ndarray, f"__{_name}__")))
for _name in ("__bool__", "__int__", "__float__"):
    setattr(ndarray, _name, _to_host(_name))
for _name in ("sum", "mean", "std", "var", "max", "min", "any", "all", "argmax", "argmin", "astype", "reshape", "copy",
              "transpose", "ravel", "argsort", "cumsum", "clip", "take", "view"):
    setattr(ndarray, _name, _through(getattr(np.ndarray, _name)))

_FUNCTIONS = (
    "abs", "all", "any", "arange", "argmax", "argmin", "argsort", "bincount", "broadcast_to", "clip", "concatenate",
    "cos", "cumsum", "divmod", "einsum", "empty", "empty_like", "exp", "full", "isfinite", "lexsort", "log", "log1p",
    "matmul", "maximum", "mean", "minimum", "nonzero", "ones", "ones_like", "pad", "quantile", "searchsorted", "sin",
    "sqrt", "stack", "sum", "take", "take_along_axis", "tanh", "triu", "unique", "where", "zeros", "zeros_like",
)
for _name in _FUNCTIONS:
    globals()[_name] = _through(getattr(np, _name))


def asarray(values, dtype=None, copy=None):  # NumPy arrays come in here and in `array`
    return ndarray(np.array(values._inner if isinstance(values, ndarray) else values, dtype, copy=copy))


def array(values, dtype=None):
    return asarray(values, dtype, copy=True)


def repeat(values, repeats, axis=None):
    if not isinstance(repeats, int):
        raise TypeError("repeats must be a number")
    return ndarray(np.repeat(values._inner, repeats, axis))


def asnumpy(values):
    _count()
    return values._inner.copy()


class Generator:
    def __init__(self, seed):
        self._inner = np.random.default_rng(seed)

    def random(self, size, dtype=np.float64):
        return ndarray(self._inner.random(size, dtype))


lib = SimpleNamespace(stride_tricks=SimpleNamespace(
    sliding_window_view=_through(np.lib.stride_tricks.sliding_window_view)))
linalg = SimpleNamespace(norm=_through(np.linalg.norm))
random = SimpleNamespace(Generator=Generator, default_rng=Generator)
