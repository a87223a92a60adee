"""The universal functions of NumPy, lazy: see `universal.Ufunc`.

Names that NumPy spells twice are one object here, too.
"""

from __future__ import annotations

import numpy as np

from zcluster.array.universal import Ufunc

__all__ = [
    "abs",
    "absolute",
    "acos",
    "acosh",
    "add",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bitwise_and",
    "bitwise_count",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "cbrt",
    "ceil",
    "conj",
    "conjugate",
    "copysign",
    "cos",
    "cosh",
    "deg2rad",
    "degrees",
    "divide",
    "divmod",
    "equal",
    "exp",
    "exp2",
    "expm1",
    "fabs",
    "float_power",
    "floor",
    "floor_divide",
    "fmax",
    "fmin",
    "fmod",
    "frexp",
    "gcd",
    "greater",
    "greater_equal",
    "heaviside",
    "hypot",
    "invert",
    "isfinite",
    "isinf",
    "isnan",
    "isnat",
    "lcm",
    "ldexp",
    "left_shift",
    "less",
    "less_equal",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logaddexp2",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "mod",
    "modf",
    "multiply",
    "negative",
    "nextafter",
    "not_equal",
    "positive",
    "pow",
    "power",
    "rad2deg",
    "radians",
    "reciprocal",
    "remainder",
    "right_shift",
    "rint",
    "sign",
    "signbit",
    "sin",
    "sinh",
    "spacing",
    "sqrt",
    "square",
    "subtract",
    "tan",
    "tanh",
    "true_divide",
    "trunc",
]

absolute = Ufunc(np.absolute)
add = Ufunc(np.add)
arccos = Ufunc(np.arccos)
arccosh = Ufunc(np.arccosh)
arcsin = Ufunc(np.arcsin)
arcsinh = Ufunc(np.arcsinh)
arctan = Ufunc(np.arctan)
arctan2 = Ufunc(np.arctan2)
arctanh = Ufunc(np.arctanh)
bitwise_and = Ufunc(np.bitwise_and)
bitwise_count = Ufunc(np.bitwise_count)
bitwise_or = Ufunc(np.bitwise_or)
bitwise_xor = Ufunc(np.bitwise_xor)
cbrt = Ufunc(np.cbrt)
ceil = Ufunc(np.ceil)
conjugate = Ufunc(np.conjugate)
copysign = Ufunc(np.copysign)
cos = Ufunc(np.cos)
cosh = Ufunc(np.cosh)
deg2rad = Ufunc(np.deg2rad)
degrees = Ufunc(np.degrees)
divide = Ufunc(np.divide)
divmod = Ufunc(np.divmod)
equal = Ufunc(np.equal)
exp = Ufunc(np.exp)
exp2 = Ufunc(np.exp2)
expm1 = Ufunc(np.expm1)
fabs = Ufunc(np.fabs)
float_power = Ufunc(np.float_power)
floor = Ufunc(np.floor)
floor_divide = Ufunc(np.floor_divide)
fmax = Ufunc(np.fmax)
fmin = Ufunc(np.fmin)
fmod = Ufunc(np.fmod)
frexp = Ufunc(np.frexp)
gcd = Ufunc(np.gcd)
greater = Ufunc(np.greater)
greater_equal = Ufunc(np.greater_equal)
heaviside = Ufunc(np.heaviside)
hypot = Ufunc(np.hypot)
invert = Ufunc(np.invert)
isfinite = Ufunc(np.isfinite)
isinf = Ufunc(np.isinf)
isnan = Ufunc(np.isnan)
isnat = Ufunc(np.isnat)
lcm = Ufunc(np.lcm)
ldexp = Ufunc(np.ldexp)
left_shift = Ufunc(np.left_shift)
less = Ufunc(np.less)
less_equal = Ufunc(np.less_equal)
log = Ufunc(np.log)
log10 = Ufunc(np.log10)
log1p = Ufunc(np.log1p)
log2 = Ufunc(np.log2)
logaddexp = Ufunc(np.logaddexp)
logaddexp2 = Ufunc(np.logaddexp2)
logical_and = Ufunc(np.logical_and)
logical_not = Ufunc(np.logical_not)
logical_or = Ufunc(np.logical_or)
logical_xor = Ufunc(np.logical_xor)
maximum = Ufunc(np.maximum)
minimum = Ufunc(np.minimum)
modf = Ufunc(np.modf)
multiply = Ufunc(np.multiply)
negative = Ufunc(np.negative)
nextafter = Ufunc(np.nextafter)
not_equal = Ufunc(np.not_equal)
positive = Ufunc(np.positive)
power = Ufunc(np.power)
rad2deg = Ufunc(np.rad2deg)
radians = Ufunc(np.radians)
reciprocal = Ufunc(np.reciprocal)
remainder = Ufunc(np.remainder)
right_shift = Ufunc(np.right_shift)
rint = Ufunc(np.rint)
sign = Ufunc(np.sign)
signbit = Ufunc(np.signbit)
sin = Ufunc(np.sin)
sinh = Ufunc(np.sinh)
spacing = Ufunc(np.spacing)
sqrt = Ufunc(np.sqrt)
square = Ufunc(np.square)
subtract = Ufunc(np.subtract)
tan = Ufunc(np.tan)
tanh = Ufunc(np.tanh)
trunc = Ufunc(np.trunc)
abs = absolute
acos = arccos
acosh = arccosh
asin = arcsin
asinh = arcsinh
atan = arctan
atan2 = arctan2
atanh = arctanh
bitwise_invert = invert
bitwise_left_shift = left_shift
bitwise_not = invert
bitwise_right_shift = right_shift
conj = conjugate
mod = remainder
pow = power
true_divide = divide
