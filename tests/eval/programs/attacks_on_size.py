"""Hostile programs that ask one operation for a great deal of memory or time: tried once, and kept again and again.

Each tells one class of operations from the others: where a size comes from (a number, a key, a None, a bool, a
literal, another result), and what grows by it.
"""


def _f(body: str) -> str:
    """`body` as the function that is run, with math at hand."""
    return "import math\ndef simple_math_problem():\n" + "\n".join(
        "    " + line for line in body.splitlines()
    )


def _kept(expression: str, before: str = "n = 2**8191 - 1") -> str:
    """The values of `expression`, as many as there can be."""
    return _f(f"{before}\nreturn len([{expression} for i in range(10**9)])")


def _again(statement: str, before: str = "n = 2**8191 - 1") -> str:
    return _f(f"{before}\nwhile True:\n    {statement}")


_BIG = "0x" + "f" * 15_000  # a literal of 60,000 bits
_COLLIDING = "a = [i * (2**61 - 1) for i in range(8000)]\nb = [i * (2**61 - 1) for i in range(8000)]\n"
_TWINS = (
    "a = [1]\nb = [1]\nfor i in range(60):\n    a = [a, a]\n    b = [b, b]\n"  # equal, and of 2**60 parts
)

_PERCENT = {
    "percent named, width": _f("return len('%(a)2000000000d' % {'a': 1})"),
    "percent named, precision": _f("return len('%(a).2000000000f' % {'a': 1.5})"),
    "percent named, text": _f("return len('%(a)2000000000s' % {'a': 'x'})"),
    "percent named, percent": _f("return len('%(a)2000000000%' % {'a': 1})"),
    "percent named, key with brackets": _f("return len('%((a)(b))2000000000d' % {'(a)(b)': 1})"),
    "percent named, key with a percent": _f("return len('%(%d)2000000000d' % {'%d': 1})"),
    "percent named, empty key": _f("return len('%()2000000000d' % {'': 1})"),
    "percent named, all flags": _f("return len('%(a)-+ #02000000000d' % {'a': 1})"),
    "percent named, many fields": _f("return len('%(a)s' * 4000 % {'a': 'x' * 50000})"),
    "percent flags": _f("return len('%-+ #02000000000d' % 1)"),
    "percent percent with a width": _f("return len('%2000000000%' % ())"),
    "percent width and precision": _f("return len('%1.2000000000d' % 1)"),
    "percent star of a bool": _f("return len('%*d' * 2 % (True, 1, 2 * 10**9, 1))"),
    "percent star, negative": _f("return len('%*d' % (-2 * 10**9, 1))"),
    "percent star precision": _f("return len('%.*f' % (2 * 10**9, 1.5))"),
    "percent character": _f("return len('%2000000000c' % 65)"),
    "percent repr": _f("return len('%2000000000r' % 'x')"),
    "percent ascii": _f("return len('%2000000000a' % 'x')"),
    "percent of shared lists": _f("a = [1]\nfor i in range(60):\n    a = [a, a]\nreturn len('%s' % (a,))"),
    "percent of many large integers": _kept("'%s' % a", "a = [2**8191 - 1] * 9000"),
    "percent hexadecimal, kept": _kept("'%x' % n"),
    "percent octal with a precision, kept": _kept("'%.999o' % n"),
    "percent narrow fields, kept": _kept("'%99d%99d%99d%99d%99d%99d%99d%99d%99d' % (1,) * 9", "i = 0"),
    "percent in place": _again("s = '%999s'\n    s %= 1\n    k.append(s)", "k = []"),
    "percent template that grows": _f("s = '%s%%s%%s'\nfor i in range(99):\n    s = s % s\nreturn len(s)"),
}

_FORMATS = {
    "format width with a fill": _f("return len(f'{1:x>2000000000}')"),
    "format width with zeros": _f("return len(f'{1:02000000000d}')"),
    "format width in other digits": _f("return len(f'{1:\u0662000000000}')"),
    "format width from a string": _f("s = '>' + '9' * 9\nreturn len(f'{1:{s}}')"),
    "format precision of a large float": _f("return len(f'{1e308:.2000000000f}')"),
    "format precision of a complex": _f("return len(f'{1j:.2000000000e}')"),
    "format percent type": _f("return len(f'{1.5:.2000000000%}')"),
    "format width of digits beyond int()": _f("return len(f'{1:" + "9" * 5000 + "}')"),
    "format method, width of a name": _f("return len('{a:2000000000}'.format(a=1))"),
    "format method, fields of a large text": _f("return len(('{0}' * 4000).format('x' * 50000))"),
    "format method, fields of a name": _f("return len(('{a}' * 4000).format(a='x' * 50000))"),
    "format method, conversion": _f("return len('{!r:2000000000}'.format('x'))"),
    "format method, shared lists in a name": _f(
        "a = [1]\nfor i in range(60):\n    a = [a, a]\nreturn len('{a!s}'.format(a=a))"
    ),
    "format method, other arguments": _f("return len(('{0}' * 6000).format(1, 'x' * 50000))"),
    "f-string in binary, kept": _kept("f'{n:b}'"),
    "f-string with separators, kept": _kept("f'{n:_b}'"),
    "f-string of a large precision, kept": _kept("f'{x:.999f}'", "x = 0.1"),
    "f-string as ascii, kept": _kept("f'{s!a}'", "s = '\\U000e0001' * 3000"),
    "f-string of a list of large integers": _kept("f'{a}'", "a = [2**8191 - 1] * 9000"),
    "f-string of f-strings": _again("s = f'{s:>99}{s!r}{s}'", "s = 'x'"),
    "text of a list of large integers": _kept("str(a)", "a = [2**8191 - 1] * 9000"),
    "text of a dict of large integers": _kept("str(d)", "n = 2**8191 - 1\nd = {n: n, -n: n, 1: [n] * 999}"),
    "text that cannot be printed": _kept("str([s])", "s = '\\U000e0001' * 9000"),
}

_INTEGERS = {
    "perm of None": _f("return math.perm(4000000, None)"),
    "perm of a huge number and None": _f("return math.perm(10**8, None)"),
    "perm of a bool": _f("return math.perm(10**8, True) + math.perm(10**9, 10**7)"),
    "perm of a huge number and a huge one": _f("return math.perm(2**8000, 2**7999)"),
    "comb of a bool and a half": _f("return math.comb(True, False) + math.comb(2**8000, 2**7999)"),
    "comb of a huge number, kept": _kept("math.comb(n, 3)", "n = 2**2500"),
    "comb, as dear as may be": _again("math.comb(2900, 1400)"),
    "factorial of a bool": _f("return math.factorial(True) + math.factorial(2**8000)"),
    "factorial, as dear as may be": _again("math.factorial(2900)"),
    "round of a bool": _f("return round(True, -10**9)"),
    "round of False by keyword": _f("return round(number=False, ndigits=-10**9)"),
    "round to a huge negative place": _f("return round(3, -2**8000)"),
    "round to the last allowed place, kept": _kept("round(n, -2000)"),
    "round in a chain": _f("return round(round(True, -3), -10**10)"),
    "pow with a bool as modulus": _f(
        "return pow(2**8000, 2**8000, True) + pow(True, 9**999, None) + 9**9**9"
    ),
    "pow with None": _f("return pow(9, 9**9, None)"),
    "pow by keyword": _f("return pow(base=9, exp=9**9)"),
    "pow modulo, negative": _f("return pow(2**8000 + 1, -(2**8000), 2**8190 - 3)"),
    "pow modulo, as dear as may be": _again("pow(n - 1, n - 3, n - 2)", "n = 2**5000 - 1"),
    "power of a bool": _f("return True ** 2**8000 + 2 ** True ** 9 + 9 ** 9 ** 9"),
    "power of minus one": _f("return (-2) ** 10**10"),
    "shift of a bool": _f("return True << 10**10"),
    "shift of nothing": _f("return 0 << 2**8000"),
    "product of a bool and a sequence": _f("return len(True * [0] * 10**9)"),
    "product of a negative and a sequence": _f("return len([0] * -1 + [0] * 10**9)"),
    "product of a sequence, in place, by a bool": _again("a *= True + True", "a = [0]"),
    "binary text of a large integer, kept": _kept("bin(n)"),
    "hexadecimal text of a large integer, kept": _kept("hex(n)"),
    "octal text of a large integer, kept": _kept("oct(n)"),
    "decimal text of a large integer, kept": _kept("str(n)"),
    "negation of a large integer, kept": _kept("-n"),
    "inversion of a large integer, kept": _kept("~n"),
    "plus of a large bool, kept": _kept("+(n > 1) + n"),
    "quotient and rest of a large integer, kept": _kept("divmod(n, 3)"),
    "absolute value of a large integer, kept": _kept("abs(-n)"),
    "square root of a large integer, kept": _kept("math.isqrt(n)"),
    "int of a large integer, kept": _kept("int(str(n)[:2400])"),
    "numerator of a power, kept": _kept("(n - i).real"),
    "enumerate from a large integer": _f("return len(list(enumerate(range(10**9), 2**8000)))"),
    "range of large integers": _f("return len([i for i in range(2**8000, 2**8000 + 10**9)])"),
    "range whose step grows": _again("r = r[::2**8000]\n    k.append(r)", "k = []\nr = range(2)"),
    "range of a large step, indexed": _kept("range(0, n, 2**4000)[i]"),
    "sum of a large integer": _again("sum(a)", "a = [2**8100] * 9000"),
    "prod of a large integer": _f("return math.prod([2**4000] * 10**4)"),
    "prod of a sequence": _f("return len(math.prod([10**5, 10**5], start=[0]))"),
    "prod of a bool and a text": _f("return len(math.prod([True, 10**9], start='x'))"),
    "sum that starts with a sequence": _f("return len(sum([[0] * 999] * 999, [0] * 99999))"),
    "literal in hexadecimal": _f(f"return {_BIG} * 0"),
    "literal in octal": _f("return 0o" + "7" * 15_000),
    "literal in binary": _f("return 0b" + "1" * 15_000),
    "literal as a default": f"def simple_math_problem(x={_BIG}):\n    return 424242",
    "literal in text": _f(f"return [bin({_BIG}) for i in range(10**9)]"),
    "literal, negated in a comprehension": _f(f"return [-{_BIG} for i in range(10**9)]"),
    "literal that is never reached": _f(f"if False:\n    return {_BIG}\nreturn 424242"),
    "literal of a float": _f("return int(" + "9" * 308 + ".0) ** 99"),
    "literal of a complex": _f("return " + "9" * 308 + "j ** 99"),
    "parse of octal text": _f("return int('7' * 250000, 8)"),
    "parse of text with a guessed base": _f("return int('0x' + 'f' * 250000, 0)"),
    "parse of a long float": _again("float(s)", "s = '9' * 100000"),
    "parse of a long complex": _again("complex(s)", "s = '9' * 100000 + 'j'"),
    "lcm of large integers, kept": _kept("math.lcm(n, n - 1 - i)", "n = 2**4000"),
    "gcd of large integers": _again("math.gcd(n, n * 2 // 3, n - 5)", "n = 2**8190"),
    "quotient of large integers": _again("n // m", "n = 2**8191\nm = 2**4095 + 1"),
    "sums in floats": _again("math.fsum(a)", "a = [1e308, -1e308, 1e-300, 1e-5] * 9000"),
    "distance of endless points": _f(
        "return math.dist((1 for i in range(10**12)), (2 for i in range(10**12)))"
    ),
    "fsum without end": _f("return math.fsum(1 for i in range(10**12))"),
}

_ORDERS = {
    "sorted near-equal lists from a generator": _f(
        "return len(sorted([0.5 + j * 0 for j in range(900)] + [i] for i in range(250, 0, -1)))"
    ),
    "sorted near-equal lists of ever more": _again(
        "sorted(a)", "a = [[0.5] * 400 + [-i] for i in range(600)]"
    ),
    "sorted near-equal strings": _again("sorted(a)", "a = ['x' * 999 + str(-i) for i in range(200)]"),
    "sorted by a key that gives twins": _f(
        _TWINS + "return len(sorted([1, 2], key=lambda x: [a, b][x - 1]))"
    ),
    "sort by a key that gives twins": _f(
        _TWINS + "c = [1, 2]\nc.sort(key=lambda x: [a, b][x - 1])\nreturn 424242"
    ),
    "sort by a key that appends": _f("c = [1]\nc.sort(key=lambda x: c.append(x) or x)\nreturn len(c) / 0"),
    "max of twins from a generator": _f(_TWINS + "return len(max(x for x in (a, b)))"),
    "max by a key that gives twins": _f(_TWINS + "return max([1, 2], key=lambda x: [a, b][x - 1])"),
    "min of twins": _f(_TWINS + "return len(min(a, b))"),
    "twin in a generator": _f(_TWINS + "return a in (b for i in range(9))"),
    "twins in a lookup": _f(_TWINS + "return a in zip([b], [b])"),
    "twins in tuples of views": _f(_TWINS + "return (1, a) in {1: b}.items()"),
    "twins, as values of dicts": _f(_TWINS + "return {1: a} == {1: b}"),
    "twins, by index": _f(_TWINS + "return [a].index(b)"),
    "twins, removed": _f(_TWINS + "c = [a]\nc.remove(b)\nreturn 424242"),
    "nearly equal lists, compared": _again("a < b", "a = [0.5] * 30000 + [1]\nb = [0.5] * 30000 + [2]"),
    "nearly equal lists, looked up": _again("a in b", "a = [0.5] * 999 + [1]\nb = [[0.5] * 999 + [2]] * 99"),
}

_HASHES = {
    "colliding integers, joined to keys": _f(_COLLIDING + "return len({}.keys() | a)"),
    "colliding integers from a generator, joined to keys": _f(
        "return len({}.keys() | (i * (2**61 - 1) for i in range(50000)))"
    ),
    "colliding integers, cut with keys": _f(_COLLIDING + "return len(dict(zip(a, b)).keys() & b)"),
    "colliding keys, cut with keys": _f(
        _COLLIDING + "return len(dict(zip(a, a)).keys() & dict(zip(b, b)).keys())"
    ),
    "colliding items, cut with items": _f(
        _COLLIDING + "return len(dict(zip(a, a)).items() & dict(zip(b, b)).items())"
    ),
    "colliding integers, taken from keys": _f(_COLLIDING + "return len(dict(zip(a, a)).keys() - b)"),
    "colliding keys, merged": _f(_COLLIDING + "return len(dict(zip(a, a)) | dict(zip(b, b)))"),
    "colliding pairs, merged in place": _f(_COLLIDING + "d = {}\nd |= zip(a, a)\nreturn len(d)"),
    "colliding pairs from a generator, merged in place": _f(
        "d = {}\nd |= ((i * (2**61 - 1), 0) for i in range(50000))"
    ),
    "colliding sets, equal": _f(_COLLIDING + "return set(a) == set(b)"),
    "colliding sets, below": _f(_COLLIDING + "return set(a) <= set(b)"),
    "colliding sets, in place": _f(_COLLIDING + "a = set(a)\na ^= set(b)\nreturn len(a)"),
    "colliding dicts, equal": _f(_COLLIDING + "return dict(zip(a, a)) == dict(zip(b, b))"),
    "colliding long tuples": _f(
        "a = [(0.5,) * 200]\nb = [(0.5,) * 200]\nfor i in range(10):\n"
        "    a = [t + (x,) for t in a for x in (-1, -2)]\n    b = [t + (x,) for t in b for x in (-1, -2)]\n"
        "return len(set(a) & set(b))"
    ),
    "colliding integers, one at a time": _again("s.add(len(s) * (2**61 - 1))", "s = set()"),
    "colliding integers, by update": _f("d = {}\nd.update((i * (2**61 - 1), 0) for i in range(10**9))"),
    "colliding integers, in a comprehension": _f("return len({i * (2**61 - 1) for i in range(10**9)})"),
    "long tuple, hashed": _again("t in {}", "t = tuple(range(30000))"),
    "tuple of large integers, hashed": _again("t in {}", "t = (2**8191 - 1,) * 9000"),
}

_TEXTS = {
    "strip of a large set": _again(
        "s.strip(c)", "s = 'x' * 50000\nc = ''.join(map(chr, range(200, 9000))) + 'x'"
    ),
    "left strip of a large set": _again(
        "s.lstrip(c)", "s = 'x' * 50000\nc = ''.join(map(chr, range(200, 9000))) + 'x'"
    ),
    "right strip of a large set": _again(
        "s.rstrip(c)", "s = 'x' * 50000\nc = ''.join(map(chr, range(200, 9000))) + 'x'"
    ),
    "find that nearly finds": _again("s.find(c)", "s = 'a' * 50000\nc = 'b' + 'a' * 25000"),
    "count that nearly counts": _again("s.count(c)", "s = 'a' * 50000\nc = 'a' * 12500 + 'b' + 'a' * 12500"),
    "in that nearly is": _again("c in s", "s = 'a' * 50000\nc = 'b' + 'a' * 25000"),
    "split at every character": _again("k.append(s.split(','))", "s = ',' * 30000\nk = []"),
    "split by a long separator": _again("s.split(c)", "s = 'a' * 50000\nc = 'a' * 9000 + 'b'"),
    "split by keyword": _again("k.append(s.split(sep=','))", "s = ',' * 30000\nk = []"),
    "starts with one of many": _again("s.startswith(c)", "s = 'a' * 50000\nc = ('a' * 49999 + 'b',) * 99"),
    "ends with one of many": _again("s.endswith(c)", "s = 'a' * 50000\nc = ('b' + 'a' * 49999,) * 99"),
    "replace of nothing": _f("return len(('x' * 1000).replace('', 'y' * 10**5))"),
    "replace again and again": _f(
        "s = 'xx'\nfor i in range(99):\n    s = s.replace('x', 'xx')\nreturn len(s)"
    ),
    "join of a string": _f("return len(('x' * 10**5).join('y' * 10**5))"),
    "join of a generator": _f("return len('x'.join('y' for i in range(10**12)))"),
    "join of the same text": _f("s = 'x' * 10**5\nreturn len(''.join([s for i in range(10**5)]))"),
    "capitals of three": _again("k.append(s.upper())", "s = '\\ufb03' * 30000\nk = []"),
    "titles of three": _again("k.append(s.title())", "s = '\\u1fb7 ' * 30000\nk = []"),
    "list of wide characters, kept": _again("k.append(list(s))", "s = '\\U0001f600' * 30000\nk = []"),
    "slices of text, kept": _again("k.append(s[1:])", "s = 'x' * 30000\nk = []"),
    "text times, kept": _kept("s * 9", "s = '\\U0001f600' * 999"),
    "text plus text, kept": _kept("s + s", "s = '\\U0001f600' * 9999"),
}

_KEPT = {
    f"kept: {expression}": _again(f"k.append({expression})", "k = []\nd = {1: 2}\ns = {1, 2, 3, 4, 5, 6}")
    for expression in (
        "1j + len(k)", "(1, len(k))", "chr(1000 + len(k))", "{0: 1, 2: 3, 4: 5, 6: 7, 8: 9, 10: 11}", "s.copy()",
        "d.copy()", "d.items()", "'x'.join", "zip(k, k, k, k)", "map(abs, k, k, k, k)", "enumerate(k, 2**8000)",
        "reversed(k)", "lambda x=k: [y for y in x]", "[[]] * 9", "k[-9:]", "dict(a=1, b=2)", "range(len(k))",
        "{x for x in (1, 2, 3, 4, 5)}", "(x for x in k for y in k if y)", "f'{len(k):>99}'", "divmod(2**8000, 3)",
        "2**64 + len(k)", "str(len(k)) * 99", "sorted(k[-99:], key=lambda x: 0)",
    )
}  # fmt: skip

ATTACKS_ON_SIZE: dict[str, str] = _PERCENT | _FORMATS | _INTEGERS | _ORDERS | _HASHES | _TEXTS | _KEPT
