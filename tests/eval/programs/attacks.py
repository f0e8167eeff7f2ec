"""Hostile programs, by what they try; one that reaches what it should not returns PRIZE.

`python -m tests.eval.programs.measure` runs them all against both walls.
"""

from tests.eval.programs.attacks_on_size import ATTACKS_ON_SIZE

PRIZE = 424242


def _f(body: str) -> str:
    """`body` as the function that is run."""
    return "def simple_math_problem():\n" + "\n".join("    " + line for line in body.splitlines())


_LOOPS = {
    "while true": _f("while True:\n    pass"),
    "while counting": _f("n = 0\nwhile n >= 0:\n    n += 1\nreturn n"),
    "while at module level": "while True:\n    pass\n" + _f("return 424242"),
    "for over a huge range": _f("for i in range(10**18):\n    pass\nreturn 424242"),
    "nested ranges": _f(
        "s = 0\nfor i in range(10**6):\n    for j in range(10**6):\n        s += 1\nreturn s"
    ),
    "list that grows under its loop": _f("a = [1]\nfor x in a:\n    a.append(x)\nreturn 424242"),
    "dict that is rewritten under its loop": _f("d = {0: 1}\nfor k in d:\n    d[k + 1] = 1\nreturn 424242"),
    "sum of a huge range": _f("return sum(range(10**15))"),
    "max of a huge range": _f("return max(range(10**15))"),
    "list of a huge range": _f("return len(list(range(10**12)))"),
    "float in a huge range": _f("return 0.5 in range(10**15)"),
    "sorted huge range": _f("return sorted(range(10**11))[0]"),
    "unpacking a huge range": _f("a, b = range(10**13)\nreturn a"),
    "spreading a huge range": _f("return max(*range(10**13))"),
    "star target": _f("a, *b = range(10**13)\nreturn a"),
    "generator without end": _f("return sum(1 for i in range(10**15))"),
    "generator that never yields": _f("return sum(i for i in range(10**15) if i < 0)"),
    "next that never finds": _f("return next(i for i in range(10**15) if i < 0)"),
    "any of a huge range": _f("return any(i < 0 for i in range(10**15))"),
    "comprehension without end": _f("return len([0 for i in range(10**9) for j in range(10**9)])"),
    "comprehension that keeps nothing": _f("return len([0 for i in range(10**12) if False])"),
    "zip of huge ranges": _f("for a, b in zip(range(10**12), range(10**12)):\n    pass\nreturn 1"),
    "map over a huge range": _f("return sum(map(abs, range(10**12)))"),
    "filter that keeps nothing": _f(
        "return list(filter(None, [0] * 10 + list(map(lambda x: 0, range(10**9)))))"
    ),
    "enumerate a list into itself": _f("a = [1]\na.extend(enumerate(a))\na += zip(a)\nreturn len(a)"),
    "zip a list into itself": _f("a = [1]\nz = zip(a)\na.extend(z)\nreturn len(a)"),
    "map a list into itself": _f("a = [1]\na.extend(map(lambda x: a.append(x), a))\nreturn len(a)"),
    "in-place generator into its source": _f("a = [1]\na += (x for x in a)\nreturn len(a)"),
    "reversed pairs": _f(
        "n = 0\nwhile n < 10**9:\n    for i in reversed(range(1000)):\n        n += 1\nreturn n"
    ),
    "while with a walrus": _f("n = 1\nwhile (n := n + 1):\n    pass\nreturn n"),
    "while with try": _f("while True:\n    try:\n        1 / 0\n    except:\n        continue"),
    "continue in a try": _f(
        "while True:\n    try:\n        raise ValueError\n    except ValueError:\n        pass"
    ),
    "loop that swallows every error": _f(
        "while True:\n    try:\n        while True:\n            x = [0] * 10**6\n"
        "    except BaseException:\n        pass"
    ),
    "sort with an endless key": _f(
        "def key(x):\n    while True:\n        pass\nreturn sorted([1, 2], key=key)"
    ),
    "max with an endless key": _f("return max([1, 2], key=lambda x: sum(range(10**12)))"),
    "default argument without end": "def simple_math_problem(a=sum(1 for _ in range(10**12))):\n    return 424242",
    "annotation without end": "def simple_math_problem(a: sum(range(10**12)) = 1) -> list(range(10**12)):\n    return 1",
    "assert without end": _f("assert sum(i for i in range(10**12))\nreturn 424242"),
    "f-string without end": _f("return f'{sum(i for i in range(10**12))}'"),
    "long expression in a loop": _f("x = 0\nwhile True:\n    x = " + " + ".join(["x"] * 300) + " + 1"),
}

_RECURSION = {
    "endless recursion": _f("return simple_math_problem()"),
    "endless recursion, two functions": "def g():\n    return simple_math_problem()\n" + _f("return g()"),
    "endless recursion in a lambda": _f("f = lambda n: f(n + 1)\nreturn f(0)"),
    "recursion that swallows its error": _f(
        "try:\n    return simple_math_problem()\nexcept:\n    return 424242"
    ),
    "recursion that swallows RecursionError": _f(
        "try:\n    return simple_math_problem()\nexcept Exception:\n    return 424242"
    ),
    "recursion in two branches": _f("def f(n):\n    return f(n - 1) + f(n - 1) if n else 1\nreturn f(40)"),
    "recursion through sort keys": _f("def f(x):\n    return sorted([1, 2], key=f)\nreturn f(1)"),
    "recursion through map": _f("def f(x):\n    return list(map(f, [x]))\nreturn f(1)"),
    "recursion through a generator": _f("def f(n):\n    return sum(f(n + 1) for _ in [1])\nreturn f(0)"),
    "the Y combinator": _f("return (lambda f: f(f))(lambda f: f(f))"),
    "generators in generators": _f(
        "g = (x for x in [1])\nfor i in range(20000):\n    g = (x for x in g)\nreturn sum(g)"
    ),
    "zips in zips": _f("z = [1]\nfor i in range(100000):\n    z = zip(z)\nreturn next(z)"),
    "maps in maps": _f("z = [1]\nfor i in range(100000):\n    z = map(abs, z)\nreturn next(z)"),
    "filters in filters": _f("z = [1]\nfor i in range(100000):\n    z = filter(None, z)\nreturn next(z)"),
    "enumerates in enumerates": _f("z = [1]\nfor i in range(100000):\n    z = enumerate(z)\nz = 0\nreturn z"),
    "generators through closures": _f(
        "def wrap(g):\n    return (x for _ in [1] for x in g)\ng = [1]\n"
        "for i in range(50000):\n    g = wrap(g)\nreturn sum(g)"
    ),
    "mixed chain": _f(
        "z = [1]\nfor i in range(4900):\n    z = [zip, enumerate][i % 2]((x for x in z))\nreturn next(z)"
    ),
    "dropped chain of zips": _f("z = [1]\nfor i in range(100000):\n    z = zip(z)\nz = 0\nreturn z"),
    "list in itself, printed": _f("a = []\na.append(a)\nreturn len(str(a))"),
    "list in itself, compared": _f("a = []\na.append(a)\nb = []\nb.append(b)\nreturn a == b"),
    "deep list, compared": _f(
        "a = []\nb = []\nfor i in range(10000):\n    a = [a]\n    b = [b]\nreturn a == b"
    ),
    "deep list, printed": _f("a = []\nfor i in range(10000):\n    a = [a]\nreturn len(f'{a}')"),
    "deep tuple, hashed": _f("t = ()\nfor i in range(50000):\n    t = (t,)\nreturn len({t: 1})"),
    "deep tuple, in a set": _f("t = ()\nfor i in range(50000):\n    t = (t,)\nreturn len({t})"),
    "deep tuple, looked up": _f("t = ()\nfor i in range(50000):\n    t = (t,)\nreturn t in {}"),
    "deep closures": _f(
        "def wrap(f):\n    return lambda: f\nf = 1\nfor i in range(50000):\n    f = wrap(f)\nreturn f"
    ),
    "deep errors": _f("e = ValueError(1)\nfor i in range(10000):\n    e = ValueError(e)\nreturn len(str(e))"),
    "parentheses": _f("return " + "(" * 5000 + "1" + ")" * 5000),
    "brackets": _f("return " + "[" * 3000 + "]" * 3000),
    "minus signs": _f("return " + "-" * 15000 + "1"),
    "not not not": _f("return " + "not " * 4000 + "1"),
    "long sum": _f("return " + "1+" * 9000 + "1"),
    "long attribute chain": _f("x = 1\nreturn x" + ".real" * 3000),
    "long call chain": _f("f = lambda: f\nreturn f" + "()" * 8000),
    "long subscript chain": _f("a = []\na.append(a)\nreturn a" + "[0]" * 5000),
    "nested lambdas": _f("return " + "lambda:" * 2500 + "1"),
    "nested conditionals": _f("return " + "1 if 1 else " * 1500 + "1"),
    "nested ifs": "def simple_math_problem():\n"
    + "".join(" " * (i + 1) + "if 1:\n" for i in range(99))
    + " " * 101
    + "return 424242",
    "elif ladder": _f(
        "x = 5\nif x == 0:\n    y = 0\n"
        + "".join(f"elif x == -{i}:\n    y = {i}\n" for i in range(1, 600))
        + "return x"
    ),
}

_MEMORY = {
    "list times a billion": _f("return len([0] * 10**9)"),
    "list times a billion, from the left": _f("return len(10**9 * [0])"),
    "tuple times a billion": _f("return len((0,) * 10**9)"),
    "string times a billion": _f("return len('x' * 10**9)"),
    "list doubled": _f("a = [0]\nwhile True:\n    a = a + a"),
    "list doubled in place": _f("a = [0]\nwhile True:\n    a += a"),
    "list times two, in place": _f("a = [0]\nwhile True:\n    a *= 2"),
    "list extended by itself": _f("a = [0]\nwhile True:\n    a.extend(a)"),
    "string doubled": _f("a = 'x'\nwhile True:\n    a = a + a"),
    "string doubled in place": _f("a = 'x'\nwhile True:\n    a += a"),
    "string joined": _f("a = 'x' * 1000\nfor i in range(20):\n    a = a.join([a, a, a])\nreturn len(a)"),
    "join with a long separator": _f("return len(('x' * 10**5).join(['y'] * 10**5))"),
    "f-string doubled": _f("a = 'x'\nwhile True:\n    a = f'{a}{a}'"),
    "string of all strings": _f(
        "a = []\ns = 'x'\nfor i in range(10**6):\n    s += 'x'\n    a.append(s)\nreturn len(a)"
    ),
    "append for ever": _f("a = []\nwhile True:\n    a.append([])"),
    "append sets for ever": _f("a = []\nwhile True:\n    a.append({0})"),
    "append dicts for ever": _f("a = []\nwhile True:\n    a.append({0: 0})"),
    "append lambdas for ever": _f("a = []\nwhile True:\n    a.append(lambda: a)"),
    "append generators for ever": _f("a = []\nwhile True:\n    a.append(x for x in a)"),
    "append methods for ever": _f("a = []\nwhile True:\n    a.append(a.append)"),
    "append big integers for ever": _f("a = []\nn = 2**8000\nwhile True:\n    n += 1\n    a.append(n)"),
    "append errors for ever": _f(
        "a = []\nwhile True:\n    try:\n        1 / 0\n    except ZeroDivisionError as e:\n"
        "        a.append(e)"
    ),
    "append strings for ever": _f("a = []\nn = 0\nwhile True:\n    n += 1\n    a.append(f'{n:>99}')"),
    "append closures for ever": _f(
        "a = []\ndef keep(x):\n    return lambda: x\nwhile True:\n    a.append(keep([]))"
    ),
    "dict without end": _f("d = {}\nn = 0\nwhile True:\n    n += 1\n    d[n] = n"),
    "dict comprehension without end": _f("return len({i: i for i in range(10**9)})"),
    "set comprehension without end": _f("return len({i for i in range(10**9)})"),
    "setdefault for ever": _f("d = {}\nn = 0\nwhile True:\n    n += 1\n    d.setdefault(n, [n])"),
    "list of wide characters": _f("s = '\u6f22' * 10**5\nreturn len([list(s), list(s), list(s), list(s)])"),
    "shared lists, printed": _f("a = [1]\nfor i in range(60):\n    a = [a, a]\nreturn len(str(a))"),
    "shared lists, formatted": _f("a = [1]\nfor i in range(60):\n    a = [a, a]\nreturn f'{a}'"),
    "shared lists, compared": _f(
        "a = [1]\nb = [1]\nfor i in range(60):\n    a = [a, a]\n    b = [b, b]\nreturn a == b"
    ),
    "shared tuples, hashed": _f("t = (1,)\nfor i in range(60):\n    t = (t, t)\nreturn len({t})"),
    "shared tuples, looked up": _f(
        "t = (1,)\nfor i in range(19):\n    t = (t, t)\nreturn [t in {} for i in range(99)]"
    ),
    "shared dicts, printed": _f("d = {}\nfor i in range(60):\n    d = {0: d, 1: d}\nreturn len(str(d))"),
    "shared lists, sorted": _f(
        "a = [1]\nb = [1]\nfor i in range(60):\n    a = [a, a]\n    b = [b, b]\nreturn sorted([a, b])"
    ),
    "shared lists, counted": _f(
        "a = [1]\nb = [1]\nfor i in range(60):\n    a = [a, a]\n    b = [b, b]\nreturn [a].count(b)"
    ),
    "lists of lists times": _f("a = [0]\nfor i in range(9):\n    a = [a] * 1000\nreturn a == a[0]"),
    "slice that grows": _f("a = [1] * 1000\nfor i in range(99):\n    a[0:0] = a\nreturn len(a)"),
    "sum of lists": _f("return len(sum([[i] for i in range(10**5)], []))"),
    "colliding integers in a set": _f("return len(set([i * (2**61 - 1) for i in range(10**5)]))"),
    "colliding integers in a dict": _f(
        "d = {}\nfor i in range(10**5):\n    d[i * (2**61 - 1)] = i\nreturn len(d)"
    ),
    "colliding tuples": _f(
        "a = [()]\nfor i in range(15):\n    a = [t + (x,) for t in a for x in (-1, -2)]\nreturn len(set(a))"
    ),
    "colliding sets, intersected": _f(
        "a = set([i * (2**61 - 1) for i in range(5000)])\n"
        "b = set([i * (2**61 - 1) for i in range(5000)])\n"
        "return [len(a & b) for i in range(99)]"
    ),
    "colliding list against a set": _f(
        "a = [i * (2**61 - 1) for i in range(5000)]\nb = set(a)\n"
        "return [len(b.difference(a)) for i in range(99)]"
    ),
    "insert at the front": _f("a = []\nwhile True:\n    a.insert(0, 1)"),
    "keywords without end": _f("return dict(**{str(i): i for i in range(10**6)})"),
    "source that is too long": _f("return 424242 #" + "x" * 30_000),
    "tree that is too large": _f("return [" + "1," * 9000 + "]"),
}

_NUMBERS = {
    "tower of powers": _f("return 9**9**9"),
    "tower of powers, by pow": _f("return pow(9, pow(9, 9))"),
    "tower of powers, in place": _f("n = 9\nfor i in range(9):\n    n **= n\nreturn n"),
    "negative tower": _f("return (-9)**9**9"),
    "squared again and again": _f("n = 3\nfor i in range(99):\n    n = n * n\nreturn n"),
    "squared for ever": _f("n = 3\nwhile True:\n    n **= 2"),
    "shift": _f("return 1 << 10**10"),
    "shift in place": _f("n = 1\nwhile True:\n    n <<= 1000"),
    "shift by a huge shift": _f("return 1 << (1 << 8000)"),
    "round to a billion places": _f("return round(10**1000, -10**9)"),
    "round by keyword": _f("return round(ndigits=-10**9, number=10**1000)"),
    "round to a huge place": _f("return round(5, -10**300)"),
    "factorial": _f("import math\nreturn math.factorial(10**9)"),
    "factorial of factorial": _f("import math\nreturn math.factorial(math.factorial(20))"),
    "factorial, imported": "from math import factorial as f\n" + _f("return f(f(f(9)))"),
    "comb": _f("import math\nreturn math.comb(10**9, 5 * 10**8)"),
    "perm": _f("import math\nreturn math.perm(10**7)"),
    "perm of two": _f("import math\nreturn math.perm(10**9, 10**7)"),
    "prod": _f("import math\nreturn math.prod(range(1, 10**6))"),
    "lcm": _f("import math\nreturn math.lcm(*range(1, 10**5))"),
    "lcm in a loop": _f("import math\nn = 1\nfor i in range(1, 10**5):\n    n = math.lcm(n, i)\nreturn n"),
    "isqrt of a huge power": _f("import math\nreturn math.isqrt(10**10**6)"),
    "modular powers": _f("n = 2**8000\ns = 0\nwhile True:\n    s += pow(n - 1, n - 3, n + 1)"),
    "huge literal": _f("return 0x" + "f" * 19_000),
    "huge decimal literal": _f("return " + "9" * 19_000),
    "huge int from a string": _f("return int('9' * 10**6)"),
    "huge int from hex": _f("return int('f' * 10**5, 16)"),
    "huge int in base 3": _f("return int('1' * 10**5, 3)"),
    "fibonacci": _f("a, b = 1, 1\nwhile True:\n    a, b = b, a + b"),
    "ldexp": _f("import math\nreturn int(math.ldexp(1.0, 1023)) ** 99"),
    "width of a field": _f("return len(f'{1:1000000000}')"),
    "precision of a field": _f("return len(f'{1.5:.1000000000f}')"),
    "nested width": _f("w = 10**9\nreturn len(f'{1:{w}}')"),
    "percent width": _f("return len('%1000000000d' % 1)"),
    "percent star": _f("return len('%*d' % (10**9, 1))"),
    "percent precision": _f("return len('%.1000000000f' % 1.5)"),
    "zfill": _f("return len('1'.zfill(10**10))"),
    "ljust": _f("return len('1'.ljust(10**10))"),
    "format method": _f("return len('{:1000000000}'.format(1))"),
    "format method, many fields": _f("return len(('{0}' * 5000).format([0] * 10**4))"),
    "format method, nested width": _f("return len('{:{}}'.format(1, 10**9))"),
    "format method, shared lists": _f("a = [1]\nfor i in range(60):\n    a = [a, a]\nreturn '{}'.format(a)"),
    "replace": _f("return len(('x' * 10**4).replace('x', 'y' * 10**6))"),
    "infinity as an answer": _f("return float('inf')"),
    "nan as an answer": _f("return float('nan')"),
    "overflow as an answer": _f("return 1e308 * 10"),
    "complex as an answer": _f("return (-1) ** 0.5 * 424242"),
}

_ESCAPES = {
    "subclasses": _f("return ().__class__.__bases__[0].__subclasses__()"),
    "class of a class": _f("return (1).__class__.__mro__[1].__subclasses__().__len__()"),
    "globals of a function": _f("return simple_math_problem.__globals__['PRIZE']"),
    "code of a function": _f(
        "simple_math_problem.__code__ = (lambda: 424242).__code__\nreturn simple_math_problem()"
    ),
    "closure of a lambda": _f("return (lambda: 0).__closure__"),
    "defaults of a function": _f("simple_math_problem.__defaults__ = (1,)\nreturn 424242"),
    "frame of a generator": _f("g = (x for x in [1])\nreturn g.gi_frame.f_back.f_globals"),
    "code of a generator": _f("return (x for x in [1]).gi_code.co_consts"),
    "traceback of an error": _f(
        "try:\n    1 / 0\nexcept Exception as e:\n    return e.__traceback__.tb_frame.f_globals"
    ),
    "context of an error": _f("try:\n    1 / 0\nexcept Exception as e:\n    return e.__context__.args"),
    "args of an error": _f("try:\n    {}[424242]\nexcept KeyError as e:\n    return e.args[0]"),
    "with_traceback": _f("try:\n    1 / 0\nexcept Exception as e:\n    return e.with_traceback(None)"),
    "self of a builtin": _f("return print.__self__.exec('1')"),
    "self of a method": _f("return [].append.__self__"),
    "spec of a module": _f("import math\nreturn math.__spec__.loader.load_module('os').getpid()"),
    "dict of a module": _f("import math\nreturn math.__dict__['pi']"),
    "loader": _f("import math\nreturn math.__loader__"),
    "doc": _f("return len(simple_math_problem.__doc__)"),
    "getattr": _f("return getattr(1, '__class__')"),
    "setattr": _f("import math\nsetattr(math, 'pi', 3)\nreturn 424242"),
    "attribute of math": _f("import math\nmath.pi = 3\nreturn 424242"),
    "attribute of a function": _f("simple_math_problem.x = 424242\nreturn simple_math_problem.x"),
    "vars": _f("return vars()"),
    "dir": _f("return len(dir())"),
    "globals": _f("globals()['x'] = 424242\nreturn x"),
    "locals": _f("return locals()"),
    "builtins": _f("return __builtins__['eval']('424242')"),
    "import function": _f("return __import__('os').getpid()"),
    "eval": _f("return eval('424242')"),
    "exec": _f("exec('x = 424242')\nreturn x"),
    "exec at module level": "exec('def simple_math_problem():\\n    return 424242')",
    "compile": _f("return compile('424242', '', 'eval')"),
    "breakpoint": _f("breakpoint()\nreturn 424242"),
    "input": _f("return int(input())"),
    "help": _f("help()\nreturn 424242"),
    "exit": _f("exit()\nreturn 424242"),
    "quit": "quit()\n" + _f("return 424242"),
    "SystemExit": _f("raise SystemExit(424242)"),
    "KeyboardInterrupt": _f("raise KeyboardInterrupt"),
    "GeneratorExit": _f("raise GeneratorExit"),
    "type of three arguments": _f("X = type('X', (), {'__len__': lambda s: 424242})\nreturn len(X())"),
    "object": _f("return object().__class__"),
    "super": _f("return super().__thisclass__"),
    "memoryview": _f("return memoryview(b'1')"),
    "bytes": _f("return b'1'[0]"),
    "id": _f("return id(1) * 0 + 424242"),
    "hash": _f("return hash(424242)"),
    "a class": "class A:\n    x = 424242\n" + _f("return A.x"),
    "a class with an operator": _f("class A:\n    def __eq__(self, other):\n        return True\nreturn A()"),
    "a class as the function": "class simple_math_problem:\n    def __new__(cls):\n        return 424242",
    "a decorator": "def d(f):\n    return lambda: 424242\n@d\n" + _f("return 1"),
    "a decorator with a lambda": "@lambda f: lambda: 424242\n" + _f("return 1"),
    "a metaclass": _f("class M(type):\n    pass\nclass A(metaclass=M):\n    pass\nreturn 424242"),
    "format field with an item": _f("return '{0[0]}'.format([424242])"),
    "format of a function": _f("return '{}'.format(simple_math_problem)"),
    "type of a function": _f("return type(simple_math_problem)"),
    "call of a type": _f("return type(simple_math_problem)('return 424242')"),
    "format field with an attribute": _f("return '{0.__class__}'.format(1)"),
    "f-string with an attribute": _f("return f'{(1).__class__}'"),
    "f-string with a debugger": _f("return f'{simple_math_problem.__globals__=}'"),
    "f-string conversion": _f("return f'{simple_math_problem!r}'"),
    "name of a function in a string": _f("return int(str(simple_math_problem)[-5:-1], 16)"),
    "builtins as tuples": _f("return list(max)[1]"),
    "builtins as lists": _f("a, b, c, d = max\nreturn b"),
    "length of a function": _f("return len(simple_math_problem)"),
    "generator throw": _f("return (x for x in [1]).throw(ValueError)"),
    "generator send": _f("return (x for x in [1]).send(None)"),
    "bound in a comprehension": _f("[x for x in [424242]]\nreturn x"),
    "class scope in a comprehension": _f("return [f for f in [simple_math_problem.__class__]][0]"),
    "lambda with a default": _f("return (lambda x=__import__('os'): x)()"),
    "match": _f("match 1:\n    case int(real=x):\n        return 424242"),
    "with": _f("with open('/etc/passwd') as f:\n    return 424242"),
    "del": _f("del simple_math_problem\nreturn 424242"),
    "global": _f("global simple_math_problem\nsimple_math_problem = 424242\nreturn simple_math_problem"),
    "nonlocal": _f("x = 1\ndef g():\n    nonlocal x\n    x = 424242\ng()\nreturn x"),
    "matrix product": _f("return [1] @ [2]"),
    "finally that returns": _f("try:\n    while True:\n        pass\nfinally:\n    return 424242"),
    "finally bomb": _f(
        "try:\n    return 1\nfinally:\n    try:\n        return 2\n    finally:\n        return 424242"
    ),
    "except star": _f("try:\n    1 / 0\nexcept* ZeroDivisionError:\n    pass\nreturn 424242"),
}

_SYSTEM = {
    f"import {module}": f"import {module}\n" + _f(f"return {call}")
    for module, call in {
        "os": "os.getpid() * 0 + 424242",
        "sys": "sys.exit(424242)",
        "subprocess": "subprocess.call('true') + 424242",
        "socket": "socket.socket().fileno()",
        "ctypes": "ctypes.string_at(0)",
        "importlib": "424242",
        "builtins": "builtins.eval('424242')",
        "threading": "424242",
        "multiprocessing": "424242",
        "signal": "424242",
        "gc": "len(gc.get_objects()) * 0 + 424242",
        "inspect": "424242",
        "pickle": "424242",
        "shutil": "424242",
        "resource": "424242",
        "time": "time.sleep(99)",
        "asyncio": "424242",
        "numpy": "424242",
        "torch": "424242",
        "eval.interpreter": "424242",
        "math.os": "424242",
    }.items()
} | {
    "import in the function": _f("import os\nos._exit(0)"),
    "import from": _f("from os import _exit\n_exit(0)"),
    "import from math": _f("from math import os\nreturn 424242"),
    "import star": "from os import *\n" + _f("return 424242"),
    "relative import": "from . import math\n" + _f("return 424242"),
    "relative import of the interpreter": "from .library import BUILTINS\n" + _f("return 424242"),
    "import behind a try": _f("try:\n    import os\nexcept:\n    return 424242"),
    "import as math": "import os as math\n" + _f("return math.getpid()"),
    "write a file": _f("open('/tmp/prize', 'w').write('x')\nreturn 424242"),
    "read a file": _f("return len(open('/etc/passwd').read())"),
    "print to a file": _f("print('x', file=open('/tmp/prize', 'w'))\nreturn 424242"),
    "fork bomb": "import os\nwhile True:\n    os.fork()\n" + _f("return 424242"),
}

_FAKES = {
    "print of a result": _f("print(424242)"),
    "print of a protocol line": _f("print('[\"ok\", 424242]')\nreturn None"),
    "print of a result at the end": _f("return 1") + "\nprint('#### 424242')",
    "no function": "result = 424242",
    "no function but a lambda": "simple_math_problem = lambda: 424242",
    "function that is a number": "def simple_math_problem():\n    return 1\nsimple_math_problem = 424242",
    "function with an argument": "def simple_math_problem(x):\n    return 424242",
    "generator function": _f("yield 424242"),
    "generator function that returns": _f("return 424242\nyield"),
    "generator with yield from": _f("yield from [424242]"),
    "async function": "async " + _f("return 424242"),
    "await": "async " + _f("return await 424242"),
    "async comprehension": "async " + _f("return [x async for x in 424242]"),
    "yield in a lambda": _f("return (lambda: (yield 424242))()"),
    "return at module level": "return 424242\n" + _f("return 424242"),
    "return at module level, behind an if": "if True:\n    return 1\n" + _f("return 424242"),
    "break outside a loop": _f("break\nreturn 424242"),
    "string as an answer": _f("return '424242'"),
    "tuple as an answer": _f("return (424242,)"),
    "list as an answer": _f("return [424242]"),
    "function as an answer": _f("return lambda: 424242"),
    "generator as an answer": _f("return (x for x in [424242])"),
    "error as an answer": _f("return ValueError(424242)"),
    "error at the end": _f("return 424242") + "\nraise ValueError",
    "error before the function": "1 / 0\n" + _f("return 424242"),
    "error that cannot be seen": _f("try:\n    return 1\nexcept Rejected:\n    return 424242"),
    "caught rejection": _f("try:\n    open('x')\nexcept:\n    pass\nreturn 424242"),
    "caught limit": _f("try:\n    9**9**9\nexcept:\n    pass\nreturn 424242"),
    "caught limit, by its base": _f(
        "try:\n    while True:\n        pass\nexcept Exception:\n    pass\nreturn 424242"
    ),
    "is of equal numbers": _f("x = 1000\nreturn 424242 if x is 10 ** 3 else 1"),
    "is of equal strings": _f("x = 'a'\nreturn 424242 if x * 2 is 'aa' else 1"),
    "null byte": _f("return 424242") + "\0",
    "lone surrogate": _f("return 424242 # \ud800"),
    "not a program": "The answer is 424242.",
    "markdown": "```python\n" + _f("return 424242") + "\n```",
    "empty": "",
    "bad indentation": "def simple_math_problem():\nreturn 424242",
    "walrus at a wrong place": _f("x := 424242\nreturn x"),
    "unclosed string": _f("return '424242"),
    "tab soup": "def simple_math_problem():\n\treturn 1\n        return 424242",
    "type parameters": "def simple_math_problem[T]():\n    return 424242",
    "keyword-only parameters": "def simple_math_problem(*, x=424242):\n    return x",
    "any arguments": "def simple_math_problem(*args, **kwargs):\n    return 424242",
}

ATTACKS: dict[str, str] = (
    _LOOPS | _RECURSION | _MEMORY | _NUMBERS | _ESCAPES | _SYSTEM | _FAKES | ATTACKS_ON_SIZE
)
