"""Messages of every kind that a model writes, by what each of them is to show."""

CODE = 'all: <b>\n\tcc $(CFLAGS) -o "$@" \\(x\\) **“x”**y\n    ~a~ &amp;'

PYTHON = '''from dataclasses import dataclass

@dataclass(frozen=True)
class Point:
    """Where something is."""
    x: float = 0.0

    def moved(self, by: float) -> "Point":
        return Point(self.x + by)  # a new one, and a line that is much longer than any reader's window: $x$ <b>
'''

GALLERY = {
    "math": r"""Inline $E = mc^2$, \(\alpha_1 < \beta\) and 中$x$文; display:

$$
\int_0^1 x^2 \, dx = \frac{1}{3}
$$

\[ \begin{pmatrix} a & b \\ c & d \end{pmatrix} \]

\begin{align}
a &= b + c \\
d &= e
\end{align}

- in a list $\sum_{i=1}^n i$
- **bold $k$ bold**, 20% is $20%$

| formula | meaning |
|:--|--:|
| $a|b$ | divides |
| \(\sqrt{2}\) | root |
""",
    "chemistry": r"\ce{2H2 + O2 -> 2H2O}, $\ce{SO4^2-}$ and \ce{CaCO3 v}",
    "money": "It costs $5 and $10, between $5-$10 or US$7/$8; set $HOME/$USER.",
    "code": f"Run `$a$ <div> \\(x\\)` and\n\n```make\n{CODE}\n```\n\n```tsx\nconst a: number = 1; // $x$\n```\n",
    "long code": f"```python\n{PYTHON}```\n\n```\nno name, no colours\n```\n\n```brainfuck title=x\n+[-->-]\n```\n",
    "html": "Use the <div> tag, <b>not bold</b>, #include <stdio.h>, <https://qwen.ai>, <!-- shown -->, a < b.",
    "bold": "使用**“引号”**后面，**注意：**后面，**$x$：**后面，3~5天，7~9天；见https://qwen.ai，了解。",
    "lists": "1. one\n   - two\n   ```sh\n   echo $A $B\n   ```\n2. three\n\n> quoted **text**\n> $$\n> q > 0\n> $$",
    "tasks": "- [x] done\n- [ ] to do\n  - [X] done within\n- no task",
    "alignment": "| left | middle | right |\n|:--|:-:|--:|\n| a | b | 1 |\n| longer | wider | 1000 |",
    "wide table": "|" + "|".join(f" column {n} " for n in range(14)) + "|\n|" + "--|" * 14 + "\n|"
    + "|".join(f" value_{n} " for n in range(14)) + "|",
    "wide formula": "$$\n" + " + ".join(f"x_{{{n}}}^2" for n in range(40)) + "\n$$\n\nand in a line "
    + r"$\frac{" + " + ".join(f"a_{{{n}}}" for n in range(40)) + r"}{b}$ of text.",
    "footnotes": "Water boils at 100 °C[^sea], or below[^1]; `[^1]` is code, [^a-z] a pattern.\n\n"
    "[^sea]: At sea level, where $p = 1$ atm.\n[^1]: On a **mountain**.\n",
    "diagram": "```mermaid\ngraph LR\n    A[Question] --> B{Fits?}\n    B -->|yes| C[Answer]\n"
    "    B -->|no| D[Leave out]\n```",
    "broken diagram": "```mermaid\ngraph LR\n    A[Question --> B{{\n      indented\n```\n\nand on.",
    "unfinished diagram": "```mermaid\ngraph LR\n    A --> B",
    "right to left": "هذه فقرة باللغة العربية مع كلمة English و $x^2$ و `code` فيها.\n\nAn English paragraph.\n\n"
    "- البند الأول\n- البند الثاني 123\n\n| الاسم | العدد |\n|--|--|\n| تفاح | 3 |\n\n> اقتباس قصير\n\n"
    "1. פריט ראשון\n2. שני\n\n- an English list\n",
    "picture": "![a cat](https://example.com/cat.png) here",
    "streaming": "An answer that is not finished: $$ \\frac{a}{",
    "streaming code": "```python\nprint('$x$ <b>')\n",
}  # fmt: skip

COMMON_LANGUAGES = (
    "python javascript typescript tsx jsx java c c++ c# go rust ruby php swift kotlin scala dart r julia matlab sh "
    "bash zsh powershell sql html xml css scss json jsonl yaml toml ini dockerfile makefile cmake lua perl haskell "
    "elixir clojure ocaml fortran latex markdown diff graphql protobuf nginx vb groovy erlang lisp vue svelte "
    "objective-c cuda"
)
