r"""What an answer means: pairs of a gold answer and an answer to it.

Near misses stand beside what they miss: a competent grader would pay every
row of RIGHT and none of WRONG.
"""

import pytest

from rlvr_jax import config_limits, enums
from rlvr_jax.verifiers import answer
from rlvr_jax.verifiers.extraction import extract

RIGHT = {
  'spaces': [('6', '\\ 6\\ '), ('6', '6\\ ')],
  'case of symbols': [
    ('\\frac{R}{r}', '\\frac{R}{r}'),
    ('2R', 'R+R'),
    ('\\pi(R^2-r^2)', '\\pi R^2-\\pi r^2'),
    ('V=IR', 'V=RI'),
    ('X=3', 'x=3'),
    ('x=3', 'X = 3'),
    ('\\Omega', 'Ω'),
    ('A+a', 'a+A'),
    ('3', 'n=3'),
    ('3', '3=n'),
    ('a_1+a_2', 'a_2 + a_{1}'),
  ],
  'exact': [
    ('\\frac{1}{2^{99}}', '2^{-99}'),
    ('\\frac{1}{2004!}', '\\frac{2005}{2005!}'),
    ('2^{-80}', '\\frac{1}{2^{80}}'),
    ('2^{100}', '1267650600228229401496703205376'),
    ('\\frac{2^{2005}+1}{3 \\cdot 2^{2006}}', '\\frac{1+2^{2005}}{3\\cdot 2^{2006}}'),
    ('10^{20}', '100000000000000000000'),
    ('0.1+0.2', '0.3'),
    ('2024^{4046}', '(2024^2)^{2023}'),
    ('\\sqrt{2}+10^{-100}', '10^{-100}+\\sqrt{2}'),
    ('\\frac{1}{3}', '\\frac{2}{6}'),
    ('\\sqrt{49}', '7'),
    ('(0,1.5)', '(0,\\frac32)'),
  ],
  'factorial': [
    ('6', '3!'),
    ('120', '5!'),
    ('10!', '3628800'),
    ('\\frac{10!}{8!}', '90'),
    ('52!', '52 \\cdot 51!'),
    ('(n+1)!', '(n+1) \\cdot n!'),
    ('\\binom{5}{2}', '10'),
    ('C', 'C'),
    ('\\dbinom{10}{3}', '120'),
  ],
  'bases': [
    ('24', '18_{16}'),
    ('24', '18_{16}.'),
    ('101_2', '101_{2}'),
    ('101_2', '(101)_2'),
    ('1011_2', '11'),
    ('2A_{16}', '42'),
    ('101_2', '101₂'),
    ('101_{\\text{two}}', '101_2'),
    ('x_1', 'x_{1}'),
  ],
  'equations': [
    ('5', '2+3 = 5'),
    ('5', '2+3=5'),
    ('70', 'm + n = 40 + 30 = 70'),
    ('70', 'm+n = 70'),
    ('293', '256+37=293'),
    ('5', '\\sqrt{25} = 5'),
    ('30', '\\angle ABC = 30^\\circ'),
    ('5', '\\text{Area} = 5'),
    ('5', 'AB = 5'),
    ('\\frac{1}{3}', 'P(X > 2) = \\frac13'),
    ('\\frac{1}{2}', '\\sin x = \\frac{1}{2}'),
    ('5', '|z| = 5'),
    ('3x-y+13=0', '6x-2y+26=0'),
    ('3x-y+13=0', 'y=3x+13'),
    ('y=3x+13', '3x-y+13=0'),
    ('x^2+y^2=4', '\\frac{x^2}{4}+\\frac{y^2}{4}=1'),
    ('f(x)=x^2', 'x^2'),
    ('f(x)=2x', 'y = 2x'),
    ('x^2', 'f(x) = x^2'),
    ('y=2x+1', '2x+1'),
    ('f^{-1}(x)=x-1', 'x-1'),
    ('a_n = 2n', 'a_n=n+n'),
    ('\\sqrt{5}', '\\sqrt{5} \\approx 2.236'),
    ('\\sqrt{5}', 'x = \\sqrt{5} \\approx 2.236'),
    ('2.236', '\\sqrt{5} \\approx 2.236'),
    ('3.14', 'x \\approx 3.14'),
    ('\\frac{1}{3}', '0.333\\ldots'),
    ('\\frac{2}{11}', '0.1818...'),
    ('2', 'x=2'),
    ('x=2', '2'),
    ('x = 2', 'x = \\frac{4}{2} = 2'),
  ],
  'plain notation': [
    ('2*pi*r', '2\\pi r'),
    ('2*pi*r', '2πr'),
    ('ln(2)', '\\ln 2'),
    ('exp(2)', 'e^2'),
    ('exp(2)', 'e**2'),
    ('2**(1/4)', '\\sqrt[4]{2}'),
    ('sqrt(2)/2', '\\frac{1}{\\sqrt{2}}'),
    ('x^2+1', '1 + x**2'),
    ('3*cos(pi*x/2)', '3\\cos\\left(\\frac{\\pi x}{2}\\right)'),
    ('\\frac{3\\sqrt{5}}{7}', '3*sqrt(5)/7'),
    ('\\frac{3\\sqrt{5}}{7}', '3/7*sqrt(5)'),
    ('e^{16}-1', 'exp(16) - 1'),
    ('\\sin x', 'sin x'),
    ('\\cos(2x)', 'cos(2*x)'),
    ('\\log_2 8', 'log(8, 2)'),
    ('\\sqrt[3]{5}', 'cbrt(5)'),
    ('|x-1|', 'abs(x-1)'),
    ('\\arctan 2', 'arctan(2)'),
    ('\\tan^{-1} 2', 'atan(2)'),
    ('\\theta', 'theta'),
    ('\\alpha+\\beta', 'alpha + beta'),
    ('\\infty', 'infinity'),
    ('-\\infty', '-inf'),
    ('-\\infty', '-oo'),
    ('n*(n+1)/2', '\\frac{n^2+n}{2}'),
    ('x*y', 'xy'),
    ('2\\sqrt{3}', '2sqrt(3)'),
    ('2\\sqrt{3}', '2 sqrt3'),
    ('4\\sqrt{2}', '4\\sqrt(2)'),
    ('x^{10}', 'x^10'),
    ('x^{n+1}', 'x^(n+1)'),
    ('[2, \\infty)', 'x >= 2'),
    ('\\frac{x+1}{x-1}', '(x+1)/(x-1)'),
    ('\\binom{7}{3}', 'binom(7,3)'),
    ('-3\\pi', '-3*pi'),
    ('\\frac{\\pi}{6}', 'pi / 6'),
    ('5\\pi', '5 pi'),
    ('\\lfloor x \\rfloor', 'floor(x)'),
  ],
  'words': [
    ('Yes', 'yes'),
    ('Yes', '\\text{YES}'),
    ('yes', '\\text{Yes.}'),
    ('No', '\\text{no}'),
    ('No', 'No, there are none'),
    ('True', '\\textbf{True}'),
    ('false', 'False'),
    ('\\text{Evelyn}', 'Evelyn'),
    ('\\text{even}', '\\text{Even}'),
    ('\\text{east}', '\\textbf{east}'),
    ('\\text{no solution}', 'no solution'),
    ('\\text{no solution}', '\\text{No}\\ \\text{solution}'),
    ('E', '(E)'),
    ('E', '\\text{E}'),
    ('E', 'E. 12'),
    ('\\text{E}', '\\text{(E) } 12'),
    ('\\text{E}', '\\textbf{(E)}\\ 12'),
    ('\\text{C}', 'C. a stable isotope'),
    ('\\text{B}', 'B) 12'),
    ('\\text{B}', 'option B'),
    ('\\text{A}', 'A, not C'),
    ('\\text{(B)}', 'B'),
    ('B', 'b'),
    ('\\text{A}', '\\mathrm{A}'),
    ('\\text{D}', '\\mathbf{(D)}'),
    ('A', '(A) \\frac{1}{2}'),
    ('C', '\\text{C: } 7'),
  ],
  'units': [
    ('5', '5 m/s'),
    ('5', '5\\ \\mathrm{m/s}'),
    ('5', '5 \\text{ m/s}'),
    ('5', '5 m'),
    ('15', '15 m^2'),
    ('9.8', '9.8 m/s^2'),
    ('9.8', '9.8\\,\\text{m/s}^2'),
    ('9.8', '9.8\\ \\text{m}\\,\\text{s}^{-2}'),
    ('12', '12 sq. cm'),
    ('12', '12 square units'),
    ('12', '12\\text{ cm}^3'),
    ('12', '12 cm²'),
    ('12', '12 cubic meters'),
    ('20', '20\\,\\Omega'),
    ('20', '20 Ω'),
    ('25', '25^\\circ C'),
    ('25', '25 °C'),
    ('25', '25^{\\circ}\\text{C}'),
    ('25', '25 degrees Celsius'),
    ('90', '90°'),
    ('90', '90\\degree'),
    ('90', '90^\\circ'),
    ('74^\\circ', '74'),
    ('700', 'USD 700'),
    ('700', 'Rs. 700'),
    ('700', '₹700'),
    ('700', '£700'),
    ('700', '700 dollars'),
    ('700', '\\$700'),
    ('60', '60 km/h'),
    ('60', '60 km per hour'),
    ('60', '60 miles per hour'),
    ('25', '25 mph'),
    ('5', '5\\,\\text{N}\\cdot\\text{m}'),
    ('5', '5 N·m'),
    ('5', '5 kg m/s^2'),
    ('5', '5 kg·m/s²'),
    ('3', '3 {\\rm kg}'),
    ('3', '3 kg'),
    ('3', '3 minutes'),
    ('6', '\\text{6 apples}'),
    ('6', '6 apples'),
    ('10\\text{ cm}', '10'),
    ('10\\text{ cm}', '10 cm'),
    ('2\\sqrt{3}\\text{ cm}', '2\\sqrt{3}'),
    ('2\\sqrt{3}', '2\\sqrt{3} \\text{ cm}'),
    ('2\\sqrt{3}', '2\\sqrt{3} cm'),
    ('5\\pi', '5\\pi \\text{ m}^2'),
    ('\\frac{3}{2}', '\\frac{3}{2} \\text{ hours}'),
    ('36\\pi', '36\\pi\\text{ square inches}'),
    ('1.5', '1.5 L'),
    ('220', '220 V'),
    ('60', '60 Hz'),
    ('500', '500 mL'),
    ('30', '30 seconds'),
  ],
  'unicode': [
    ('\\sqrt{2}', '√2'),
    ('2\\sqrt{3}', '2√3'),
    ('\\sqrt{x+1}', '√(x+1)'),
    ('\\sqrt[3]{2}', '∛2'),
    ('121', '11²'),
    ('y^3', 'y³'),
    ('10^6', '10⁶'),
    ('x^{-1}', 'x⁻¹'),
    ('2^{10}', '2¹⁰'),
    ('0.75', '¾'),
    ('2.25', '2¼'),
    ('\\frac{1}{3}', '⅓'),
    ('\\frac{1}{2}', '½'),
    ('\\frac{1}{2}', '1⁄2'),
    ('\\infty', '∞'),
    ('-\\infty', '−∞'),
    ('2500', '2.5 × 10³'),
    ('\\pi', 'π'),
    ('2\\pi', '2π'),
    ('15', '3×5'),
    ('15', '3·5'),
    ('\\frac{3}{4}', '3÷4'),
    ('-5', '−5'),
    ('x\\le 2', 'x ≤ 2'),
    ('x \\ne 2', 'x ≠ 2'),
    ('\\pm 3', '±3'),
    ('\\emptyset', '∅'),
    ('(-\\infty,1)\\cup(3,\\infty)', '(−∞, 1) ∪ (3, ∞)'),
    ('\\mathbb{R}', 'ℝ'),
    ('12', '１２'),
    ('12', '𝟏𝟐'),
    ('\\theta', 'θ'),
    ('x_1+x_2', 'x₁ + x₂'),
    ('[2,\\infty)', 'x ∈ [2, ∞)'),
    ('\\lfloor x \\rfloor', '⌊x⌋'),
    ('30', '30°'),
    ('5', '5\u00a0'),
    ('\\frac{1}{3}', '0.3\u0305'),
    ('x^n', 'xⁿ'),
  ],
  'style': [
    ('6', '\\boldsymbol{6}'),
    ('6', '\\bf 6'),
    ('6', '{\\bf 6}'),
    ('6', '\\pmb{6}'),
    ('6', '\\bm{6}'),
    ('6', '\\underline{6}'),
    ('6', '\\mathbf{6}'),
    ('6', '\\mathrm{6}'),
    ('6', '\\text{6}'),
    ('6', '\\emph{6}'),
    ('8', '\\large 8'),
    ('8', '\\Large{8}'),
    ('8', '\\color{red}{8}'),
    ('8', '\\color{red} 8'),
    ('8', '\\textcolor{blue}{8}'),
    ('8', '{\\color{blue}8}'),
    ('8', '\\fbox{8}'),
    ('8', '\\displaystyle 8'),
    ('\\frac{1}{2}', '\\mathbf{\\frac{1}{2}}'),
    ('\\frac{1}{2}', '\\displaystyle\\frac{1}{2}'),
    ('3\\sqrt{2}', '\\mathbf{3\\sqrt{2}}'),
    ('3\\sqrt{2}', '\\boldsymbol{3\\sqrt{2}}'),
    ('6', 'N = \\mathbf{6}'),
    ('(1,2)', '\\left(1,2\\right)'),
    ('(1,2)', '\\bigl(1,2\\bigr)'),
    ('\\{1,2\\}', '\\left\\{1,2\\right\\}'),
    ('\\text{13}', '13'),
    ('x', '\\mathit{x}'),
    ('8', '8\\,'),
    ('8', '\\quad 8'),
    ('8', '**8**'),
  ],
  'forms of numbers': [
    ('\\frac{1}{3}', '0.\\overline{3}'),
    ('\\frac{1}{6}', '0.1\\overline{6}'),
    ('\\frac{10}{3}', '3.\\overline{3}'),
    ('0.\\overline{18}', '\\frac{2}{11}'),
    ('\\frac{1}{3}', '0.\\dot{3}'),
    ('\\frac{2}{11}', '0.\\dot{1}\\dot{8}'),
    ('\\frac{1}{3}', '0.\\bar{3}'),
    ('\\frac{1}{3}', '0.(3)'),
    ('e^2', '\\mathrm{e}^2'),
    ('1-\\frac{1}{\\mathrm{e}}', '1-e^{-1}'),
    ('2\\mathrm{i}', '2i'),
    ('3-i', '3.0 - 1.0i'),
    ('3+4i', '4i + 3'),
    ('\\frac{1+i}{2}', '0.5+0.5i'),
    ('5', '5 \\pmod{7}'),
    ('5', '5 \\pmod 7'),
    ('5', '5 \\mod 7'),
    ('5', '12 \\bmod 7'),
    ('5', 'x \\equiv 5 \\pmod{7}'),
    ('5', '5 (mod 7)'),
    ('x \\equiv 5 \\pmod{7}', '5 \\pmod 7'),
    ('5 \\pmod 7', '5'),
    ('5 \\pmod 7', 'x \\equiv 12 \\pmod 7'),
    ('7654321', '7 654 321'),
    ('7654321', '7\\,654\\,321'),
    ('7654321', '7{,}654{,}321'),
    ('7654321', '7,654,321'),
    ('12000', '12\\ 000'),
    ('1234.5', '1 234.5'),
    ('1500', '1.5 x 10^3'),
    ('1500', '1.5 \\times 10^{3}'),
    ('1500', '1.5e3'),
    ('1500', '1.5E+3'),
    ('0.00015', '1.5 × 10⁻⁴'),
    ('0.00015', '1.5*10^-4'),
    ('6.02 \\times 10^{23}', '6.02e23'),
    ('6.02 \\times 10^{23}', '602 \\cdot 10^{21}'),
    ('10^8', '1e8'),
    ('2.5', '2\\frac{1}{2}'),
    ('2.5', '2 1/2'),
    ('2.5', '2 \\tfrac12'),
    ('-1\\frac{1}{2}', '-\\frac32'),
    ('28\\%', '28'),
    ('28\\%', '0.28'),
    ('28\\%', '28 percent'),
    ('28\\%', '28 pct'),
    ('28\\%', '28 \\text{ percent}'),
    ('\\frac{1}{3}', '33\\frac13\\%'),
    ('0.005', '\\frac12\\%'),
    ('2\\pi', '6.283185307'),
    ('\\sqrt{2}', '1.41421356'),
    ('1.4142135', '\\sqrt{2}'),
    ('\\frac{1}{2}', '\\frac 1 2'),
    ('\\frac{1}{2}', '{1 \\over 2}'),
    ('\\frac{1}{2}', '\\frac1{2}'),
    ('-\\frac{1}{2}', '\\frac{1}{-2}'),
    ('72', 'seventy-two'),
    ('3', '\\text{three}'),
    ('1', '\\frac{7}{7}'),
  ],
  'sets and intervals': [
    ('[2,\\infty)', 'x\\ge 2'),
    ('[2,\\infty)', '2 \\le x'),
    ('x\\ge 2', '[2,\\infty)'),
    ('x\\ge 2', '2\\leq x'),
    ('x\\ge 2', 'x \\in [2,\\infty)'),
    ('(0,1]', '0 < x \\le 1'),
    ('(0,1]', '1 \\ge x > 0'),
    ('0 < x \\le 1', '(0,1]'),
    ('(1,4)', '1<x<4'),
    ('(1,4)', 'x>1 \\text{ and } x<4'),
    ('1<x<4', 'x\\in(1,4)'),
    ('(-\\infty,1)\\cup(3,\\infty)', 'x<1 \\text{ or } x>3'),
    ('(-\\infty,1)\\cup(3,\\infty)', 'x<1 or x>3'),
    ('(-\\infty,1)\\cup(3,\\infty)', 'x<1, x>3'),
    ('x<1 \\text{ or } x>3', '(3,\\infty)\\cup(-\\infty,1)'),
    ('x<1 \\text{ or } x>3', 'x>3 \\text{ or } x<1'),
    ('(-3,3)', '|x|<3'),
    ('(-\\infty,2)\\cup(2,\\infty)', 'x \\ne 2'),
    ('(-\\infty,2)\\cup(2,\\infty)', '\\mathbb{R}\\setminus\\{2\\}'),
    ('\\mathbb{R}\\setminus\\{2\\}', 'x \\neq 2'),
    ('\\mathbb{R}', '(-\\infty,\\infty)'),
    ('(-\\infty, \\infty)', 'x \\in \\mathbb{R}'),
    ('\\varnothing', '\\emptyset'),
    ('\\emptyset', '\\{\\}'),
    ('\\{1,2\\}', '\\{2,1\\}'),
    ('\\{1,2\\}', '1,2'),
    ('\\{1,2\\}', 'x \\in \\{1, 2\\}'),
    ('1,2', '\\{1,2\\}'),
    ('1,2', 'x=1, x=2'),
    ('1,2', 'x = 1 \\text{ or } 2'),
    ('1,2', 'x_1 = 2, x_2 = 1'),
    ('1,2,3', '1, 2, \\text{ and } 3'),
    ('\\pm 3', '3,-3'),
    ('\\pm 3', 'x = -3 \\text{ or } x = 3'),
    ('\\pm 3', '\\{-3,3\\}'),
    ('3,-3', '\\pm 3'),
    ('2 \\pm \\sqrt{3}', '2-\\sqrt{3}, 2+\\sqrt{3}'),
    ('1\\pm i', '1-i, 1+i'),
    ('(1,2)', 'x=1, y=2'),
    ('(1,2)', '(x,y)=(1,2)'),
    ('(1,2)', '1,2'),
    ('(1,2)', 'A(1,2)'),
    ('(1,2),(3,4)', '(3,4),(1,2)'),
    ('x=1, y=2', 'y=2, x=1'),
    ('x=1, y=2', '(1,2)'),
    ('(3, \\frac{\\pi}{2})', '\\left(3,\\frac{\\pi}{2}\\right)'),
    ('\\{x \\mid x > 2\\}', '(2,\\infty)'),
    ('(2,\\infty)', '\\{x : x > 2\\}'),
    ('[a,b]', '[a, b]'),
    ('a<b', 'b>a'),
    ('x < 3', '2x < 6'),
    ('[-\\sqrt{2},\\sqrt{2}]', '-\\sqrt{2} \\le x \\le \\sqrt2'),
    ('100,200,300', '100, 200, 300'),
    ('[1,3]', '[1,2]\\cup[2,3]'),
    ('\\langle 1,2 \\rangle', '(1,2)'),
    ('n=2, 3, 4', '2,3,4'),
    ('5', '\\{5\\}'),
    ('3:4', '3:4'),
    ('3:4', '\\frac{3}{4}'),
    ('12:00', '12:00'),
  ],
  'matrices': [
    ('\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}', '\\begin{bmatrix} 1 & 2 \\\\ 3 & 4 \\end{bmatrix}'),
    ('\\begin{pmatrix}1\\\\2\\end{pmatrix}', '\\begin{pmatrix}1\\\\2\\\\\\end{pmatrix}'),
    ('\\begin{pmatrix}1\\\\2\\end{pmatrix}', '\\left[\\begin{array}{c}1\\\\2\\end{array}\\right]'),
    ('\\begin{pmatrix}\\frac12\\\\1\\end{pmatrix}', '\\frac{1}{2}\\begin{pmatrix}1\\\\2\\end{pmatrix}'),
    ('\\begin{pmatrix}-1&0\\\\0&-1\\end{pmatrix}', '-\\begin{pmatrix}1&0\\\\0&1\\end{pmatrix}'),
    ('\\begin{pmatrix}1/\\sqrt{2}\\end{pmatrix}', '\\begin{pmatrix}\\frac{\\sqrt{2}}{2}\\end{pmatrix}'),
    ('A=\\begin{pmatrix}1&2\\end{pmatrix}', '\\begin{pmatrix}1 & 2\\end{pmatrix}'),
  ],
  'formulas': [
    ('\\tan^2 y+1', '\\sec^2 y'),
    ('1', '\\sin^2 x+\\cos^2 x'),
    ('|x|', '\\sqrt{x^2}'),
    ('\\sqrt{\\frac1n}', '\\frac{1}{\\sqrt n}'),
    ('2^{n+1}', '2\\cdot 2^n'),
    ('\\frac{1}{x+1}', '\\frac{1}{1+x}'),
    ('\\frac{x^2-1}{x-1}', 'x+1'),
    ('\\ln(x^2)', '2\\ln x'),
    ('\\frac{n(n+1)}{2}', '\\sum_{k=1}^{n} k'),
    ('\\cos(n\\pi)', '(-1)^n'),
    ('2\\cos^2 x - 1', '\\cos 2x'),
    ('\\log_{10} 2', '\\log 2'),
    ('\\ln 2', '\\log 2'),
    ('2', '\\log_{10} 100'),
    ('2', '\\log 100'),
    ('\\frac{1}{2}', '\\sin 30^\\circ'),
    ('-1', 'e^{i\\pi}'),
    ('x^{3/2}', 'x\\sqrt{x}'),
    ('a^2-b^2', '(a-b)(a+b)'),
    ('p - q', '-(q-p)'),
    ('\\frac{\\sqrt6+\\sqrt2}{4}', '\\cos 15^\\circ'),
    ('\\sqrt{3+2\\sqrt{2}}', '1+\\sqrt{2}'),
    ('x^2 \\sin x', '\\sin(x) x^2'),
    ('2\\sin x\\cos x', '\\sin 2x'),
    ('-8^{1/3}', '-2'),
    ('\\sqrt[3]{-8}', '-2'),
    ('2x e^{x^2}', '2 x exp(x^2)'),
    ('\\frac{\\pi}{4}+k\\pi', '\\frac{\\pi}{4}+k\\pi, k \\in \\mathbb{Z}'),
    ('4x^3', "f'(x) = 4x^3"),
    ('\\overline{z}', '\\overline{z}'),
    ('xyz', 'zyx'),
  ],
}  # fmt: skip
WRONG = {
  'case of symbols': [
    ('\\frac{R}{r}', '\\frac{r}{R}'),
    ('\\frac{V}{v}', '1'),
    ('M-m', '0'),
    ('2R', '2r'),
    ('V=Ir', 'V=IR'),
    ('\\binom{N}{n}', '\\binom{n}{n}'),
    ('A+a', '2a'),
    ('Kk', 'k^2'),
    ('\\omega', '\\Omega'),
    ('R', 'r'),
    ('\\Theta', '\\theta'),
    ('x_1', 'x_2'),
    ('a_n', 'a n'),
    ('x = 3', 'y = 3'),
    ("f'", 'f'),
  ],
  'exact': [
    ('\\frac{1}{2^{99}}', '\\frac{1}{2^{98}}'),
    ('\\frac{1}{2004!}', '\\frac{1}{2006!}'),
    ('2^{-80}', '2^{-81}'),
    ('\\frac{1}{20!}', '\\frac{1}{21!}'),
    ('2^{-99}', '0'),
    ('\\frac{2^{2005}+1}{3 \\cdot 2^{2006}}', '\\frac{1}{3 \\cdot 2^{2006}}'),
    ('\\sqrt{2}', '\\sqrt{2}+10^{-100}'),
    ('1', '1+e^{-1000}'),
    ('10^{20}', '10^{20}+1'),
    ('2^{1000}', '2^{1000}+1'),
    ('\\frac{1}{3}', '0.3333333333333333333333'),
    ('2\\pi', '6.28'),
    ('\\sqrt{2}', '1.414'),
    ('\\sqrt{2}', '\\frac{99}{70}'),
    ('\\pi', '\\frac{22}{7}'),
    ('\\pi', '\\frac{355}{113}'),
    ('\\sqrt{4}', '2.0000001'),
    ('0.0000001', '0.0000002'),
    ('\\sqrt{2} \\cdot 10^{-9}', '\\sqrt{3} \\cdot 10^{-9}'),
    ('\\sqrt{2} \\cdot 10^{-9}', '0.000000002'),
    ('(0,1)', '(0,1.5)'),
    ('x', 'x+10^{-60}'),
    ('e^{\\pi\\sqrt{163}}', '262537412640768744'),
  ],
  'factorial': [
    ('3', '3!'),
    ('10!', '10'),
    ('52!', '52'),
    ('10', '10!'),
    ('n!', 'n'),
    ('\\frac{10!}{8!}', '\\frac{10}{8}'),
    ('5', '(((9!)!)!)!'),
    ('5', '10^9!'),
    ('3', '3!!'),
    ('3', '3 factorial'),
  ],
  'bases': [
    ('18', '18_{16}'),
    ('101_2', '110_2'),
    ('101_2', '101'),
    ('101_2', '101_3'),
    ('101', '101_2'),
  ],
  'equations': [
    ('18', '17 = 18'),
    ('17', '17 = 18'),
    ('\\sqrt{2}', '3 = \\sqrt{2}'),
    ('3', '3 = \\sqrt{2}'),
    ('6', '2+3 = 6'),
    ('5', '2+3 = 6'),
    ('10', '2x = 10'),
    ('5', 'x+2 = 5'),
    ('0', '3x-y+13=0'),
    ('0', 'x^2-4=0'),
    ('3', '\\pi \\approx 3'),
    ('3', 'x \\approx 3'),
    ('3.14', '\\pi'),
    ('3.2', '\\pi \\approx 3.2'),
    ('2.2', '\\sqrt{5} \\approx 2.236'),
    ('3.14', '3.14...'),
    ('3.14', '3.14\\ldots'),
    ('\\pi', '3.14...'),
    ('5', '1,2,...,5'),
    ('5', '1, 2, \\ldots, 5'),
    ('1', '1, 2, \\ldots, 5'),
    ('0.333', '0.333...'),
    ('3x-y+13=0', '3x+4y+14=0'),
    ('3x-y+13=0', '3x-y=13'),
    ('y=2x+1', 'x=2y+1'),
    ('y=2x+1', 'y=2x-1'),
    ('f(x)=0', 'f(x)=1'),
    ('f(x)=x^2', 'f(x)=x^3'),
    ('x^2+y^2=4', 'x^2+y^2=2'),
    ('x=2', 'x=2=3'),
    ('2', 'x \\ne 2'),
    ('5', 'x > 5'),
    ('256', 'm+n = 256+37 = 293'),
    ('40', 'm + n = 40 + 30 = 70'),
    ('5', '5 = 5 = 6'),
  ],
  'plain notation': [
    ('7*sin(pi*x/5)+1', '7\\sin\\left(\\frac{\\pi x}{5}\\right)+2'),
    ('x/2', 'x/3'),
    ('2*pi*r', '2\\pi r^2'),
    ('2*pi*r', '2pir^2'),
    ('ln(2)', 'ln(3)'),
    ('pi', 'ip'),
    ('sqrt(2)', 'sqrt(3)'),
    ('2**(1/4)', '2^1/4'),
    ('exp(2)', 'exp(-2)'),
    ('sin(x)', 'cos(x)'),
    ('sin(x)', 'sinh(x)'),
    ('x^2+1', 'x^2-1'),
    ('x^{10}', 'x^1 0'),
    ('log(2)', 'log(3)'),
    ('5', '5 + x - y'),
  ],
  'words': [
    ('Yes', 'no'),
    ('No', 'on'),
    ('No', 'Yes'),
    ('Yes', 'yes or no'),
    ('True', 'False'),
    ('True', 'True or False'),
    ('\\text{Monday}', 'Tuesday'),
    ('\\text{east}', 'seat'),
    ('\\text{E}', 'C'),
    ('E', 'C'),
    ('\\text{A}', 'ABCD'),
    ('\\text{A}', 'A or B'),
    ('\\text{A}', 'A, B'),
    ('\\text{A}', '(A) or (B)'),
    ('\\text{A}', 'A/B'),
    ('\\text{A}', 'A, B, C, D'),
    ('\\text{A}', '(A) and (C)'),
    ('\\text{(A)}', '\\text{(C)}'),
    ('\\text{B}', 'B. or C.'),
    ('\\text{B}', '(A) B'),
    ('\\text{B}', 'not B'),
    ('\\text{C}', 'A, not C'),
    ('E', 'e^2'),
    ('\\text{Paris}', 'London'),
  ],
  'more than the number': [
    ('3', '3^2'),
    ('3', '3\\sqrt{2}'),
    ('5', '5n'),
    ('5', '5m^2n'),
    ('5', '5x'),
    ('5', '5 x'),
    ('5', '5 \\cdot 10^3'),
    ('5', '5 \\times 10^3'),
    ('5', '5i'),
    ('3', '\\frac{3}{4}x'),
    ('4', '4k+1'),
    ('3', '3e'),
    ('3', '3\\pi'),
    ('10', '10\\%\\text{ of }x'),
    ('10', '10% of x'),
    ('2', '\\sqrt{2}'),
    ('5', '5 - x'),
    ('0', '\\emptyset'),
    ('0', '\\{\\}'),
    ('5', '\\text{not } 5'),
    ('5', '\\text{at least } 5'),
    ('5', '5 \\text{ or more}'),
    ('5', '5 \\text{ more than } x'),
    ('5', '5 less than n'),
    ('5', '\\text{more than } 5'),
    ('3', '3 \\text{ or } 5'),
    ('3', '3, 5'),
    ('3', '\\{3,5\\}'),
    ('3', '3 \\lor 5'),
    ('3', '3 \\text{ to } 5'),
    ('3', '3-5'),
    ('3', '3 or 5'),
    ('3', '3/5'),
    ('3', '\\pm 3'),
    ('3', '3\\%'[:0] + '-3'),
    ('3', '[3,5]'),
    ('3', '(3,3)'),
    ('3', '3 \\text{ hundred}'),
    ('3', '3 million'),
    ('3', '3 dozen'),
    ('2', '2:1'),
    ('12:00', '1:00'),
    ('3:45', '1:15'),
    ('1:2:3', '1:4:9'),
    ('3:4', '4:3'),
    ('5', '\\cancel{5}'),
    ('5', '5^\\circ x'),
    ('5', '\\log 5'),
    ('2', '2 \\text{ squared}'),
    ('4', '|4+x|'),
    ('8', '\\textcolor{red}{8}x'),
    ('5', '5 R 2'),
    ('90', '\\frac{\\pi}{2}'),
    ('5', '5 \\text{ remainder } 2'),
  ],
  'unicode': [
    ('2', '√2'),
    ('5', '√5'),
    ('10', '10²'),
    ('x', 'x²'),
    ('2', '2½'),
    ('12', '1²'),
    ('\\infty', '−∞'),
    ('\\sqrt{2}', '∛2'),
    ('11', '11²'),
    ('10^6', '10⁵'),
    ('5', '5 ± 1'),
    ('x \\le 2', 'x < 2'),
    ('x \\le 2', 'x ≥ 2'),
  ],
  'forms of numbers': [
    ('3\\frac{1}{2}', '\\frac{3}{2}'),
    ('2\\frac{1}{2}', '1'),
    ('28\\%', '2800\\%'),
    ('28\\%', '2.8'),
    ('0.5', '50'),
    ('2.5\\%', '0.25'),
    ('1000', '1.000'),
    ('12', '1,2'),
    ('123', '1,23'),
    ('1234', '1,23,4'),
    ('1234567', '123,4567'),
    ('\\frac{1}{3}', '0.3'),
    ('\\frac{1}{6}', '0.\\overline{16}'),
    ('0.3', '0.\\overline{3}'),
    ('5', '12 \\pmod 7'),
    ('5', '6 \\pmod 7'),
    ('5 \\pmod 7', '5 \\pmod 8'),
    ('x \\equiv 5 \\pmod 7', 'x \\equiv 4 \\pmod 7'),
    ('7', '5 \\pmod 7'),
    ('7654321', '7, 654, 321'),
    ('6.02 \\times 10^{23}', '6.02 \\times 10^{22}'),
    ('1500', '1.5 x 10^2'),
    ('1500', '1.5e-3'),
    ('2i', '-2i'),
    ('3+4i', '3-4i'),
    ('3-i', '3+1.0i'),
    ('e', '\\mathrm{d}'),
    ('72', 'seventy'),
    ('12', '1 2'),
  ],
  'sets and intervals': [
    ('[2,\\infty)', 'x>2'),
    ('[2,\\infty)', 'x \\le 2'),
    ('[2,\\infty)', '(2,\\infty)'),
    ('(1,2)', '(2,1)'),
    ('[1,2]', '(1,2)'),
    ('[1,2)', '(1,2]'),
    ('(0,1]', '0 \\le x \\le 1'),
    ('(0,1]', '0<x<1'),
    ('(1,4)', '1<x'),
    ('x \\ge 2', 'y \\ge 2'),
    ('(-\\infty,1)\\cup(3,\\infty)', '1<x<3'),
    ('(-\\infty,1)\\cup(3,\\infty)', 'x<1'),
    ('(-\\infty,1)\\cup(3,\\infty)', 'x \\le 1 \\text{ or } x > 3'),
    ('(-\\infty,1)\\cup(3,\\infty)', '(-\\infty,1)\\cap(3,\\infty)'),
    ('\\emptyset', '0'),
    ('\\emptyset', '\\{0\\}'),
    ('\\{1,2\\}', '(1,2)'),
    ('\\{1,2\\}', '\\{1,2,3\\}'),
    ('\\{1,2,3\\}', '1,2'),
    ('1,2', '1'),
    ('1,2', '1,1,2'),
    ('(1,2)', '\\{1,2\\}'),
    ('(1,2)', '2,1'),
    ('(1,2)', 'x=2, y=1'),
    ('x=1, y=2', 'x=2, y=1'),
    ('x=1, y=2', '2,1'),
    ('x=1, y=2', '1'),
    ('a=1 \\text{ or } a=-2', '1'),
    ('\\pm 3', '3'),
    ('\\pm 3', '-3'),
    ('\\pm 2021', '2021'),
    ('2 \\pm \\sqrt{3}', '2+\\sqrt{3}'),
    ('2 \\pm \\sqrt{3}', '2 \\pm \\sqrt{5}'),
    ('(1,2,3)', '(1,3,2)'),
    ('n=2,3,4', 'n=1,2,3'),
    ('19, 46, 82', '21, 36, 82'),
    ('\\mathbb{R}', '\\mathbb{Z}'),
    ('\\mathbb{R}', '(0,\\infty)'),
    ('\\mathbb{R}\\setminus\\{2\\}', '\\mathbb{R}'),
    ('\\mathbb{R}\\setminus\\{2\\}', '2'),
    ('x \\ne 2', 'x = 2'),
    ('(-3,3)', '|x| \\le 3'),
    ('(1,2),(3,4)', '(1,2),(4,3)'),
    ('[a,b]', '(a,b)'),
    ('a<b', 'a>b'),
    ('a<b', 'a\\le b'),
    ('[0,\\infty)', '[0,\\infty]'),
    ('(3, \\frac{\\pi}{2})', '(3, \\frac{2\\pi}{3})'),
    ('(-3,3)', 'x^2 < 9'),
    ('x=2, x=-2', 'x^2=4'),
  ],
  'matrices': [
    ('\\begin{pmatrix}1\\\\2\\end{pmatrix}', '\\begin{pmatrix}1&2\\end{pmatrix}'),
    ('\\begin{pmatrix}1\\\\2\\end{pmatrix}', '\\begin{pmatrix}1\\\\-2\\end{pmatrix}'),
    ('\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}', '\\begin{pmatrix}1&3\\\\2&4\\end{pmatrix}'),
    ('\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}', '\\begin{vmatrix}1&2\\\\3&4\\end{vmatrix}'),
    ('\\begin{pmatrix}1\\\\2\\end{pmatrix}', '1'),
    ('\\begin{pmatrix}1\\\\2\\end{pmatrix}', '\\begin{pmatrix}1\\\\2\\\\3\\end{pmatrix}'),
  ],
  'formulas': [
    ('|x|', 'x'),
    ('\\sqrt{x^2}', 'x'),
    ('\\lfloor x \\rfloor', '\\lceil x \\rceil'),
    ('\\lfloor x \\rfloor', 'x'),
    ('\\frac{a}{b}', '\\frac{b}{a}'),
    ('x^2', 'x^3'),
    ('2^{n+1}', '2^n+1'),
    ('(-1)^n', '1'),
    ('(-1)^{n+m}', '1'),
    ('\\sin x', '-\\sin x'),
    ('\\cos x', '|\\cos x|'),
    ('\\infty', '-\\infty'),
    ('\\infty', '3'),
    ('x+1', 'x'),
    ('\\frac{1}{x+1}', '\\frac{1}{x}+1'),
    ('\\ln 2', '\\log_{10} 2'),
    ('2', '\\ln 100'),
    ('\\frac{n(n+1)}{2}', '\\frac{n(n-1)}{2}'),
    ('\\sum_{k=1}^{n} k', '\\sum_{k=0}^{n-1} k'),
    ('\\sin 30', '\\sin 30^\\circ'),
    ('xy', 'x+y'),
    ('e', 'E'),
    ('x^2+1', 'y^2+1'),
    ('\\overline{z}', 'z'),
    ('\\vec{a}', 'a'),
  ],
}  # fmt: skip


# gold|answer, one a line.
MORE_RIGHT = r"""
5|=5
11|\mathsf{11}
11|\Large\textbf{11}
2\sqrt{5}|2\sqrt{5}\,
\sqrt{-4}|2i
\mathbb{R}\setminus\{0,1\}|x \neq 0, 1
\frac{\pi}{3}|60^\circ
mgh|m g h
\frac{\pi}{2}|1.5707963267948966
0.5|\frac{1}{2}
5|\boxed{5}
\text{A}|\text{(A)}
\text{B}|\textbf{B}
\sqrt{2}|\sqrt2
-\frac{1}{2}|-1/2
-\frac{1}{2}|-.5
\frac{3}{4}|\left(\frac{3}{4}\right)
\frac{3}{4}|\frac{3}{4}.
10|\$10
10|10\$
10|10.0
10|10.
10|+10
10|010
10|ten
50000|50,000 \text{ people}
6|6 \text{ ways}
6|6\text{th}
0.08|8\%
8|8\,\%
12.5\%|\frac{1}{8}
12.5\%|12\frac12\%
x^2+2x+1|(x+1)^2
x^2+2x+1|x^2 + 2 x + 1
x^2+2x+1|1+2x+x^2
\frac{1}{2}x|\frac{x}{2}
0.5x|\frac{x}{2}
-x+2|2-x
\frac{-x}{2}|-\frac{x}{2}
e^{x}|\exp(x)
e^{x}|\exp x
\log_3 9|2
\ln e|1
\cos 60^\circ|0.5
\cos\frac{\pi}{3}|\frac{1}{2}
\frac{\pi}{4}|\arctan 1
\frac{\pi}{4}|45^\circ
(2,3)|(2, 3)
(2,3)|\left(2, 3\right)
(2,3)|(2.0, 3.0)
(2,3)|x=2,y=3
(2,3)|x = 2 \text{ and } y = 3
(0,0),(1,1)|(1,1), (0,0)
(0,0),(1,1)|(0,0) \text{ and } (1,1)
\{(0,0),(1,1)\}|(0,0),(1,1)
(-\infty,0]|x\le0
(-\infty,0]|x \leq 0
(-\infty,0]|(-\infty, 0]
(-\infty,0)\cup(0,\infty)|x\neq 0
(-\infty,-2]\cup[2,\infty)|x \le -2 \text{ or } x \ge 2
(-\infty,-2]\cup[2,\infty)|x\leq -2, x\geq 2
(-\infty,-2]\cup[2,\infty)|\{x \mid x \le -2 \text{ or } x \ge 2\}
(-\infty,-2]\cup[2,\infty)||x| \ge 2
[-2,2]||x| \le 2
[-2,2]|-2 \le x \le 2
[-2,2]|\{x : -2 \le x \le 2\}
[-2,2]|\{x \in \mathbb{R} \mid -2 \le x \le 2\}
]0,1[|(0,1)
(0,1)|]0,1[
\{0\}|0
\{-1,0,1\}|-1, 0, 1
\{-1,0,1\}|x = -1, 0, 1
\{-1,0,1\}|x \in \{-1, 0, 1\}
\pm\sqrt{2}|\sqrt{2}, -\sqrt{2}
\pm\sqrt{2}|x = \sqrt{2} \text{ or } x = -\sqrt{2}
\frac{1\pm\sqrt5}{2}|\frac{1+\sqrt5}{2}, \frac{1-\sqrt5}{2}
x=\frac{1\pm\sqrt5}{2}|\frac{1\pm\sqrt5}{2}
\frac{1\pm\sqrt5}{2}|\frac12 \pm \frac{\sqrt5}{2}
2,3|2 \text{ or } 3
2,3|2 and 3
2,3|2;3
2,3|\{2,3\}
2,3|x=2 \lor x=3
2,3|(2,3)
\text{no real solutions}|no real solutions
\begin{pmatrix}1\\2\end{pmatrix}|\begin{bmatrix}1\\2\end{bmatrix}
\begin{pmatrix}1\\2\end{pmatrix}|\begin{pmatrix} 1 \\ 2 \end{pmatrix}
\begin{pmatrix}1&0\\0&1\end{pmatrix}|\begin{pmatrix}1 & 0 \\[4pt] 0 & 1\end{pmatrix}
\begin{pmatrix}1&0\\0&1\end{pmatrix}|\begin{matrix}1&0\\0&1\end{matrix}
\begin{pmatrix}1&0\\0&1\end{pmatrix}|\left[\begin{matrix}1&0\\0&1\end{matrix}\right]
\begin{pmatrix}0.5\\2\end{pmatrix}|\begin{pmatrix}\frac12\\2\end{pmatrix}
3\sqrt{2}\text{ cm}|3\sqrt{2}\text{ cm}
100\pi\text{ cm}^2|100\pi
48\text{ square inches}|48 in^2
48|48\text{ in}^2
48|48 sq ft
48|48\text{ ft}^{2}
48|48 kg/m^3
48|48 \text{ kg/m}^3
48|48 dollars per hour
48|48\text{ dollars/hour}
48|\$48 per hour
48|48 USD
48|48 €
48|48€
48|48 mm
48|48 \mu m
48|48 μm
48|48 \text{ nm}
48|48 kWh
48|48 gallons
48|48 J
48|48 kJ/mol
48|48\text{ J/(kg K)}
48|48\,\mathrm{kg\cdot m/s^2}
48|48 ohms
48|48 volts
48|48\mathrm{~cm}
48|48 \mathrm{~m/s}
48|48 minutes.
48|48 years old
48|48 people
48|48\text{ pages}
-40|-40^\circ\text{F}
-40|-40 °F
-40|−40℃
1000000|1 million
1000000|10^6
1000000|1{,}000{,}000
1000000|1\ 000\ 000
1000000|1,000,000.00
1.2\times10^{-3}|0.0012
1.2\times10^{-3}|1.2e-3
1.2\times10^{-3}|1.2 \cdot 10^{-3}
1.2\times10^{-3}|1.2×10⁻³
1.2\times10^{-3}|1.2 x 10^{-3}
1.2\times10^{-3}|1.2*10**-3
1.2\times10^{-3}|1.2 * 10^(-3)
3 \times 10^8|3e8 \text{ m/s}
3 \times 10^8|3.0 \times 10^{8}
\frac{7}{3}|2\frac{1}{3}
\frac{7}{3}|2\;\frac{1}{3}
\frac{7}{3}|2 + \frac{1}{3}
\frac{7}{3}|2⅓
\frac{7}{3}|2 1/3
\frac{7}{3}|2.\overline{3}
\frac{7}{3}|2.333\ldots
-\frac{7}{3}|-2\frac{1}{3}
-\frac{7}{3}|-2 1/3
\text{True}|true
\text{True}|\mathrm{True}
\text{True}|\textbf{True}
\text{Saturday}|\text{saturday}
\text{Saturday}|Saturday.
\text{neither}|Neither
3/4|.75
3/4|0.750
3/4|75\%
3/4|\frac{75}{100}
2^{-3}|0.125
2^{-3}|\frac18
2^3|8
8|2^3
8|\sqrt{64}
8|4!/3
8|\binom{8}{1}
8|{8 \choose 1}
56|\binom{8}{3}
56|{8 \choose 3}
\frac{1}{\sqrt{3}}|\frac{\sqrt{3}}{3}
\frac{1}{\sqrt{3}}|3^{-1/2}
\sqrt{8}|2\sqrt{2}
\sqrt{8}|2^{3/2}
\sqrt[3]{16}|2\sqrt[3]{2}
\sqrt[3]{16}|16^{\frac13}
i|\sqrt{-1}
-1|i^2
2-3i|-3i+2
2-3i|2 - 3 i
\frac{2-3i}{13}|\frac{1}{2+3i}
a_n=2n-1|2n-1
a_n = 2n-1|a_{n}=2n-1
y = -\frac{1}{2}x+3|y=-0.5x+3
y = -\frac{1}{2}x+3|x+2y=6
y = -\frac{1}{2}x+3|2y = -x+6
x+2y=6|x+2y-6=0
(x-1)^2+(y-2)^2=9|x^2+y^2-2x-4y-4=0
S=\pi r^2|\pi r^2
f(x)=\frac{1}{x}|\frac1x
f(x) = x^2+1|f(x)=1+x^2
f(x)=x+1|y=x+1
f(n) = n^2|n^2
P(x)=x^2|x^2
0|0.0
0|-0
0|0\%
1011_2|1011_{2}
1011_2|1011_{\text{two}}
255_{10}|255
FF_{16}|255
255|FF_{16}
255|\text{FF}_{16}
12:30|12:30
12:30 \text{ p.m.}|12:30
1:2|1:2
1:2|1 : 2
1:2|1/2
5|n = 5
5|n=5.
5|\text{The value of } x \text{ is } 5
5|\text{Answer: } 5
5|\therefore x = 5
5|x=5\text{ cm}
5|\text{Length} = 5 \text{ cm}
5|a+b = 5
5|a + b + c = 5
5|2+3
5|2 + 3 = 5
5|10/2 = 5
5|\frac{10}{2} = 5
5|x = \frac{10}{2} = 5
5|\sqrt{9+16}=\sqrt{25}=5
5|\lfloor 5.7 \rfloor = 5
5|\lfloor 5.7 \rfloor
5|f(2)=5
5|f(2) = 2^2+1 = 5
5|\left|z\right| = 5
5|\|v\| = 5
5|\mathbf{5}
5|\mathbf{x = 5}
5|\mathbf{x} = 5
5|\overline{AB} = 5
5|AB=5
5|BC = 5 \text{ units}
5|m\angle A = 5^\circ
5|\gcd(10,15) = 5
5|\gcd(10, 15)
5|\max(3,5)
5|\min\{5,7\}
5|\text{lcm}(1,5)
5|\det A = 5
5|E[X] = 5
5|E(X)=5
5|\mathbb{E}[X] = 5
5|x_{max} = 5
5|x_{\text{max}} = 5
5|x^* = 5
5|N(5) = 5
5|k \equiv 5 \pmod{12}
\frac{\sqrt{3}}{2}|\sin 60^\circ
\frac{\sqrt{3}}{2}|\frac{1}{2}\sqrt{3}
\frac{\sqrt{3}}{2}|\sqrt{\frac34}
\frac{\sqrt{3}}{2}|\sqrt{0.75}
\frac{\sqrt{3}}{2}|0.8660254
x>3|3<x
x>3|(3,\infty)
x>3|x \in (3, \infty)
x>3|\{x|x>3\}
x \geq -1|[-1, \infty)
-1<x<1|(-1,1)
-1<x<1|x \in (-1,1)
-1<x<1||x|<1
(0,\infty)|x>0
(0,\infty)|\mathbb{R}^+
\mathbb{R}|\text{all real numbers}
\mathbb{R}|all real numbers
\emptyset|\text{no solution}
\emptyset|\varnothing
\emptyset|∅
\emptyset|\{ \}
\emptyset|\text{empty set}
-\infty|-∞
\infty|+∞
\infty|\text{infinity}
\text{infinitely many}|infinitely many
\text{Yes}|\text{Yes, it is}
\frac{n!}{k!(n-k)!}|\binom{n}{k}
n!|n(n-1)!
(2n)!|(2n)!
\frac{1}{n!}|\frac{1}{n!}
\frac{3}{10!}|\frac{3}{3628800}
7!|5040
7!|7\cdot 6!
3^{100}|3^{100}
3^{100}|9^{50}
10^{100}|10^{100}
10^{-50}|\frac{1}{10^{50}}
10^{-50}|1e-50
2^{2^{3}}|256
2^{64}-1|18446744073709551615
0.\overline{142857}|\frac{1}{7}
0.\overline{9}|1
\frac{1}{7}|0.\overline{142857}
\frac{1}{7}|0.142857142857\ldots
1-e^{-2}|1-\frac{1}{\mathrm{e}^2}
\frac{dy}{dx}=2x|2x
2x\,dx|2x\,\mathrm{d}x
e^{-1}|1/e
e^{-1}|\frac{1}{e}
e^{-1}|exp(-1)
e^{-1}|0.36787944
\alpha|α
\frac{\alpha}{2}|alpha/2
\lambda^2|λ²
\theta = \frac{\pi}{3}|pi/3
\theta = \frac{\pi}{3}|θ = π/3
\frac{2\pi}{3}|2π/3
\frac{2\pi}{3}|120^\circ
4\pi r^2|4πr²
4\pi r^2|4*pi*r^2
4\pi r^2|4pi*r**2
x^{1/2}|√x
x^{1/2}|sqrt(x)
x^{1/2}|x**0.5
x^{1/2}|x^(1/2)
\sqrt{x^2+1}|sqrt(x^2+1)
\sqrt{x^2+1}|√(x²+1)
\sqrt{x^2+1}|(x**2+1)**(1/2)
\frac{a+b}{c}|(a+b)/c
\sin^2 x|sin(x)^2
\sin^2 x|sin^2(x)
\sin^2 x|(sin x)^2
\sin^2 x|sin(x)**2
\log_2 3|log_2(3)
\log_2 3|log2(3)
\log_2 3|\frac{\ln 3}{\ln 2}
\log_2 3|ln(3)/ln(2)
\log_2 3|log(3)/log(2)
x_1 x_2|x1*x2
a_1|a1
2\sqrt{3}|2*3**0.5
2\sqrt{3}|2*sqrt(3)
2\sqrt{3}|2 * 3^(1/2)
2\sqrt{3}|sqrt(12)
6|\text{\textbf{6}}
\frac{1}{2}|\mathrm{\frac{1}{2}}
7|\text{Total: }7
15|C(6,2)
15|^6C_2
15|\dbinom62
15|6C2
15|{}_6C_2
1234567|1'234'567
1000000|\text{one million}
5|5 \frac{\text{m}}{\text{s}}
5|5 ms^{-1}
5|5 times
5|5¢
\{1,2,3\}|{1,2,3}
\{1,2,3\}|x ∈ {1,2,3}
\emptyset|\text{No solution exists}
\begin{pmatrix}1\\2\end{pmatrix}|\begin{pmatrix}1\\[2pt]2\end{pmatrix}
90^\circ|90˚
\{1,2\}|{1, 2}
\{1,2\}|｛1,2｝
e^{x}+C|e^{x}+c
3|3\text{ mod }5
3|3\text{ roots}
3|\text{exactly }3
\{1,2,3\}|{1, 2, 3}
\{1,2,3\}|{3,2,1}
\{1,2,3\}|\{1, 2, 3\}.
\{1,2,3\}|x\in{1,2,3}
\{1,2,3\}|{ 1,2,3 }
\{1,2,3\}|S = {1,2,3}
\{1,2,3\}|1,2\text{ or }3
10|C(5,2)
10|C(5,3)
10|{5 \choose 2}
10|5C2
10|{}_5C_2
10|^5C_2
10|^{5}C_{2}
10|\binom52
10|C(5, 2) = 10
10|\binom{5}{2} = 10
10|C(5,2) = \frac{5!}{2!3!} = 10
10|\tbinom52
5|5\frac{\text{m}}{\text{s}}
5|5\,\frac{\mathrm{m}}{\mathrm{s}^2}
5|5 \frac{\text{km}}{\text{h}}
5|5\text{ m}\text{s}^{-1}
5|5 m s^{-1}
5|5\,\mathrm{m\,s^{-1}}
5|5\text{ ms}^{-1}
5|5 m/s
5|5 km h^{-1}
5|5\text{ times}
5|5 cents
5|5˚
5|5\text{ days per week}
5|5\ \text{dollars}
5|5 o'clock
5|5 \text{ kg m/s}^2
5|5 N·m
5|5 N m
5|5 J/kg
5|5 g/cm^3
5|5 mol/L
5|5\text{ mol L}^{-1}
5|5 people/km^2
5|5\text{ people per square mile}
5|5~\mathrm{cm}^2
5|5\, cm^2
5|5 \,\mathrm{m}^3
5|5\text{m}
5|5\mathrm{m}
5|5{\rm m}
5|5 {\rm\ cm}
5|5\text{ }^\circ\text{C}
5|5^\circ\text{C}
5|5\text{ lives}
5|5\text{ different ways}
5|5 distinct values
5|5\text{ ways}
5|5\text{ possible values}
5|5\text{ integers}
5|5\text{ solutions}
5|5\text{ real roots}
5|5\text{ factors}
5|5\text{ digits}
5|5\text{ sides}
5|5\text{ edges}
5|5\text{ terms}
5|5\text{ zeros}
5|5\text{ baskets}
5|5\text{ percent}
5|5\text{ pairs}
5|5\text{ sets}
5|5\text{ triples}
5|5\text{ choices}
5|5\text{ moves}
5|5\text{ outfits}
6|\text{six}
6|\text{six apples}
6|\textbf{Six}
6|\textbf{\text{6}}
6|\mathrm{\mathbf{6}}
6|\ 6
6|\text{The total is }6
6|\text{Answer}: 6
6|\text{Area: }6
6|\text{Number of ways: }6
6|\text{Total cost: \$}6
6|\text{Final Answer: }6
6|\text{exactly }6
6|\text{Therefore, }6
6|\text{Sum}=6
6|\mathbf{6}\text{ cm}^2
6|\textbf{6}\text{ cm}^{2}
6|\text{6 cm}^2
6|\text{6 cm}^2.
x^2+C|x^2+k
x^2+C|x^{2} + C
3.14|\pi \approx 3.14
\frac{1}{3}|\frac13 \approx 0.333
\frac{1}{3}|1/3 \approx 0.33
\frac{1}{3}|\frac{1}{3}\sim 0.333
\sqrt{2}|\sqrt{2}\approx 1.414
\sqrt{2}|\sqrt2 \approx 1.41
\sqrt{2}|1.41421356
20\%|20\%\text{ of the class}
20\%|20 \text{ percent of the class}
20\%|20\%
12345|12'345
12345|12’345
12345|12 345
12345|12,345
12345|12\,345
12345|12{,}345
2000000|2\text{ million}
2000000|\text{two million}
2000000|2,000,000
2000000|2\times 10^6
2000000|2 million
\begin{pmatrix}1\\2\end{pmatrix}|\begin{pmatrix}1\\[4pt]2\end{pmatrix}
\emptyset|\text{There is no solution}
\emptyset|\text{No solutions exist}
\emptyset|\text{no real solution}
\emptyset|\text{No solution.}
"""
MORE_WRONG = r"""
5|>5
5|<5
5|5 \text{ or so}
5|\text{about }5
2 h x|2 x
\frac{GMm}{r^2}|\frac{Gmm}{r^2}
\frac{22}{7}|\pi \approx \frac{22}{7}
x^2+y^2=1|x^2-y^2=1
5|5!
5|-5
5|5.5
5|5\%5
5|\frac{5}{1}0
5|5\cdot 1.1
5|5+\epsilon
5|5,0
5|50
5|05x
5|5:1
5|5/2
5|5\sqrt{1.1}
5|5^{-1}
5|\frac{1}{5}
5|5\text{ or }6
5|5\text{ and }6
5|5 \text{ maybe}
5|5?
5|5 \text{ if } x > 0, 3 \text{ otherwise}
5|\text{between } 4 \text{ and } 6
5|4<x<6
5|x\ge5
5|x>4
5|5\le x
5|x \ne 5
5|\approx 5
5|\sim 5
5|\pm5
5|\{5, 6\}
5|(5,6)
5|[5,5]
5|5 \pm 1
5|5 \ldots
5|1+2+\cdots+5
5|5 \text{ thousand}
5|5k
5|5M
5|5 \text{ percent of } n
5|5\%\text{ of } n
5|five or six
5|5 \text{ times } x
5|5 \times x
5|5 \cdot n
5|5(x+1)
5|5 mod 3
5|5 \bmod 3
5|8 \pmod 3
5|5x=25
5|x^2=5
5|x=5y
5|x = 5 + k
5|y = 5x
5|f(x)=5x
5|5=6
5|5=5x
5|4=5
5|2+2=5
5|x=5=6
5|x=4, y=5
5|x=5, y=6
5|\text{(5)}^2
5|\begin{pmatrix}5\end{pmatrix}x
5|5dx
5|5\,dx
5|5\,\mathrm{d}x
5|5 \text{ squared}
5|5²
5|⁵
5|½5
5|5½
5|√5
5|5√1.21
5|5π
5|5e
5|5i
5|5^\circ x
5|5\%%
5|5m+1
5|5 m + 1
5|5g
5|5 a
5|5 b c
5|5 cm + 3
5|5 cm 3
5|5 hours 30 minutes
5|5 ft 6 in
5|5:30
5|5.5.5
5|5,555
5|5e5
5|5E-1
5|0x5
5|5_{16}5
5|V
5|\text{no}
5|none
5|\log 5
5|5\log 5
5|\sin 5
5|\lfloor 5.5
5|\lceil 5.5 \rceil
5|\lfloor 6 \rfloor
5|\left|-6\right|
5|5 -
5|- 5
5|5 +
5|5**2
5|5^2
5|5^0
5|5//2
5|5 5
5|5\\5
0.5|0.50001
0.5|0.49999999999
0.5|\frac{1}{2}x
0.5|1:2:1
0.5|\frac{2}{1}
0.5|5\%
50\%|\frac{1}{5}
50\%|5
50\%|0.05
50\%|500\%
-3|3
-3|\text{negative} 4
-3|-3x
-3|--3
-3|3-
\frac{1}{3}|0.33
\frac{1}{3}|0.333
\frac{1}{3}|33\%
\frac{1}{3}|33.3\%
\frac{2}{3}|0.67
\frac{2}{3}|0.666667
\pi|3.14
\pi|3.1416
\pi|3.14159
\pi|\pi r
\pi|p i
\pi|\pi^2
\pi|180^\circ x
2\pi|2\pi r
\sqrt{2}|1.41421
\sqrt{2}|\pm\sqrt{2}
\sqrt{2}|\sqrt{2}i
\sqrt{2}|\sqrt{-2}
\sqrt{2}|2^2
\sqrt{5}|\sqrt{5} = 2.2
\sqrt{5}|2.236
2\sqrt{3}|\sqrt{6}
2\sqrt{3}|2\sqrt{3}x
2\sqrt{3}|\sqrt{2}\cdot 3
2\sqrt{3}|2\sqrt[3]{3}
x^2|x_2
x^2|2x
x^2|X^2
x^2|x^{-2}
x^2|x^2+c
x^2+C|x^2+c+1
x|-x
x|X
x|y
x|x=2
ab|a+b
ab|aB
ab|a
a/b|ab
n|N
n^2|n^2 + 10^{-20}
e^x|e^{-x}
e^x|x^e
e^x|E^x
\ln x|\log_{10} x
\ln x|\ln X
\sin x|\sin y
\sin x|\sin(-x)
\sin x|\arcsin x
\sin^{-1} x|\frac{1}{\sin x}
\sin^2 x|\sin x^2
\tan x|\cot x
\frac{a}{b+c}|\frac{a}{b}+c
\frac{a}{b}+c|\frac{a+c}{b}
2^{10}|2^{-10}
2^{10}|2\cdot10
2^{10}|2^{1}0
2^{100}|2^{101}
2^{100}|2^{100}+1
2^{100}|1.2676506e30
2^{100}|1267650600228229401496703205375
10^{100}|10^{99}
100!|99!
100!|100
100!|\frac{101!}{100}
\frac{1}{100!}|\frac{1}{101!}
\frac{1}{100!}|0
10^{-30}|0
10^{-30}|10^{-31}
1+10^{-30}|1
\sqrt{10^{60}+1}|10^{30}
3^{50}|3^{50}+3
e^{-100}|0
e^{-100}|e^{-101}
(1,2)|(1,2,0)
(1,2)|(1;3)
(1,2)|1
(1,2)|[1,2]
(1,2)|(1,2]
(1,2)|1\le x\le 2
(1,2)|\{x: 1<x\}
(1,2)|(1.0,2.1)
(1,2)|(-1,2)
(1,2)|(y,x)=(1,2)x
[1,2]|1<x<2
[1,2]|\{1,2\}
[1,2]|x\ge 1
[1,2]|[1,2]\cup[3,4]
\{1,2\}|\{1\}
\{1,2\}|\{1,2,2,3\}
\{1,2\}|[1,2]
\{1,2\}|12
\{1,2\}|\{\{1,2\}\}
1,2|12
1,2|1.2
1,2|1,3
1,2|1,2,3
1,2|-1,-2
1,2|x=1,y=3
1,2|[1,2]
\pm1|1
\pm1|\pm2
\pm1|\mp 2
\pm1|0
(-\infty,3)|x\le 3
(-\infty,3)|x>3
(-\infty,3)|(-\infty,3]
(-\infty,3)|(3,\infty)
(-\infty,3)|3
(-\infty,3)|(\infty,3)
x>2|x\ge2
x>2|x<2
x>2|2
x>2|y>2
x>2|x>-2
x>2|x=2
x>2|X<2
x\ne0|x=0
x\ne0|x>0
a>b|a\ge b
y=2x|y=x
y=2x|y=-2x
y=2x|x=2y
y=2x|2
y=2x|y>2x
y=2x+3|y=2x
y=2x+3|y=3x+2
x^2+y^2=1|x^2+y^2=2
x^2+y^2=1|x^2-y^2=1
x^2+y^2=1|1
x=2|x=3
x=2|y=2
x=2|x\ge2
x=1,y=2|x=2,y=1
x=1,y=2|x=1
x=1,y=2|x=1,y=2,z=3
101_2|1010_2
101_2|101_{10}
101_2|5_2
101_2|6
1:2|2:1
1:2|1:3
1:2|2:4
1:2|12
12:30|12.30
12:30|30:12
\begin{pmatrix}1&2\end{pmatrix}|\begin{pmatrix}2&1\end{pmatrix}
\begin{pmatrix}1&2\end{pmatrix}|\begin{pmatrix}1\\2\end{pmatrix}
\begin{pmatrix}1&2\end{pmatrix}|(1,3)
\begin{pmatrix}1&2\\3&4\end{pmatrix}|\begin{pmatrix}1&2\\3&5\end{pmatrix}
\begin{pmatrix}1&2\\3&4\end{pmatrix}|-2
\begin{pmatrix}1&2\\3&4\end{pmatrix}|2\begin{pmatrix}1&2\\3&4\end{pmatrix}
3+4i|3+4j
3+4i|4+3i
3+4i|-3-4i
3+4i|5
3+4i|3+4
i|-i
i|1
i|I
\text{red}|blue
\text{red}|not red
\text{red}|red or blue
\text{A}|B
\text{A}|AB
\text{A}|A and B
\text{A}|A?B
\text{A}|All
\text{A}|A1
\text{B}|8
\text{Yes}|No
\text{Yes}|Y
\text{Yes}|yes/no
\text{Yes}|not yes
\text{no}|none
Yes|Yes and no
True|not true
\emptyset|\{\emptyset\}
\emptyset|\mathbb{R}
\emptyset|x
\mathbb{R}|\mathbb{Q}
\mathbb{R}|\mathbb{R}\setminus\{0\}
\mathbb{R}|\infty
\mathbb{Z}|\mathbb{R}
\infty|\text{undefined}
\infty|10^{100}
\infty|\pm\infty
\infty|2\infty
12 \text{ hours}|13
12 \text{ hours}|12 + x
10\text{ cm}|100
\$5|\$6
7 \pmod{10}|8 \pmod{10}
7 \pmod{10}|7 \pmod{11}
7 \pmod{10}|17
0.\overline{3}|0.3
0.\overline{3}|0.\overline{33}4
0.1\overline{6}|0.\overline{16}
1.5\times10^3|1.5\times10^{-3}
1.5\times10^3|15\times10^3
1.5\times10^3|1.5^3
1 1/2|11/2
1\frac{1}{2}|\frac{11}{2}
1\frac{1}{2}|1\cdot\frac{1}{2}
1\frac{1}{2}|1-\frac12
1234|1.234
1234|12,34
1234|1 2 3 4
1234|1,2,3,4
10|10\%\text{ of the total}
6|\mathbf{6}^2
5|5\text{ fifths}
5|5\text{ tens}
4|4\sim 6
\{1,2,3\}|{1,2}
\{1,2,3\}|{1,2,3,4}
\{1,2,3\}|{1},{2}
\{1,2,3\}|({1,2},3)
\{1,2,3\}|{1,2,-3}
\{1,2,3\}|x\notin{1,2,3}
3|{3,5}
3|{1,3}
3|\{3,3.5\}
3|{3,4,5}
3|\sqrt{3,5}
3|x\in{3,5}
3|C(3,1)+1
3|C(3,2)+3
3|C(5,3)
3|(3,5)
3|P(3)
3|C(3,x)
3|A(3,5)
3|3C2x
3|3C1+3
5|C(5,2)
5|5C2
5|{}_5C_2
5|\binom52
5|{5 \choose 2}
5|C(5,0)
5|^5C_2
2|C(5,2)
2|5C2
2|\binom{5}{2}
5|5\frac{m}{s}+1
5|5\frac{x}{y}
5|5\frac{\text{m}}{2}
5|5\text{ out of }10
5|5\text{ in base }6
5|5\text{ over }6
5|5\text{ times }3
5|5\text{ choose }2
5|5 s^{-1} + 5
5|5\text{ sixths}
5|5\text{ hundreds}
5|5\text{ quarters}
5|5 m 20 cm
5|5\text{ m }20\text{ cm}
5|5\text{ kg }300\text{ g}
5|5\text{ years and }2\text{ months}
5|\text{5 or 6 apples}
5|\text{5 to 6 apples}
5|\text{between 5 and 6}
5|\text{5 apples and 3 pears}
5|\text{5 apples, 3 pears}
5|5\text{ red, }3\text{ blue}
6|\textbf{6}^2
6|\text{6}^3
6|\mathrm{6}^{2}
6|\mathbf{6}_{7}
6|\text{6}!
6|\mathbf{6}!
6|\text{6} x
6|\text{6}\text{7}
6|\mathbf{6}7
6|\textbf{6}\%\text{ of }x
6|\text{6}^{-1}
6|\mathbf{6}^{\circ}+1
6|\text{(6}
6|\mathrm{\frac{6}{5}}
6|\text{6/5}
6|\text{6+5}
6|\text{6 x 5}
6|\text{6 squared}
6|\text{six squared}
6|\text{sixty}
6|\text{sixteen}
6|\text{six hundred}
6|\text{six or seven}
6|\text{six sevenths}
6|\text{Not: }6
6|\text{at least: }6
6|\text{Case 6: }7
6|\text{wrong: }6
6|\text{incorrect: }6
6|\text{greater than: }6
6|\text{exactly }6\text{ or }7
6|\text{either: }6, 7
x^2+C|x^2+c^2
x^2+C|x^2 c
x^2+C|x^2+2
x^2+C|cx^2
x^2+C|x^2+c+C
x^2+C|x^2+x
A+C|A+B
A+C|a+c
3|3\sim 5
3|3 \approx 5
3|3 \sim 4
3|3~5
3|3 - 5
3|3 – 5
3|3—5
3|3..5
3|3 \ldots 5
3|3 \dots 5
3|3, \ldots, 5
3|[3..5]
3|3 \leftrightarrow 5
3|3 \Rightarrow 5
3|3 \to 5
3|3 \pm 0.5
3|3 \approx 2.5
3|\pi \approx 3
3|\sim 3
3|3 \lesssim 5
3|3\simeq 5
3|3 \cong 5
20|20\%\text{ of the class}
20|20\% \text{ of } 80
20|20\%\text{ of them}
20|20 \text{ percent of the class}
20|20\text{ per cent of }x
20|\text{20\% of 50}
20|\text{20% of the class}
12|12'345
12|12 345
12|12,345
2|2\text{ million}
2|\text{two million}
2|2 million
\emptyset|\text{no solution except }1
\emptyset|\text{There is one solution}
\emptyset|\text{no integer solution}x
\emptyset|{0}
\emptyset|\{1\}
48|48\%\text{ of the total}
"""


def _verdicts(table, more):
  rows = [(kind, *row) for kind, rows in table.items() for row in rows]
  rows += [('', *line.split('|', 1)) for line in more.strip('\n').split('\n')]
  golds = [gold for _, gold, _ in rows]
  texts = [f'We obtain $\\boxed{{{said}}}$.' for *_, said in rows]
  return rows, answer.verify(golds, texts, timeout_s=60)


def test_what_is_equal_is_correct():
  rows, found = _verdicts(RIGHT, MORE_RIGHT)
  assert [
    (*row, v.name) for row, v in zip(rows, found) if v != enums.Verdict.CORRECT
  ] == []


def test_near_misses_are_not_correct():
  rows, found = _verdicts(WRONG, MORE_WRONG)
  assert [
    row for row, v in zip(rows, found) if v == enums.Verdict.CORRECT
  ] == []


@pytest.mark.parametrize(
  ('gold', 'said', 'usual', 'rules'),
  [
    ('0.1', '10\\%', True, {'percent': 'strict'}),
    ('10', '10\\%', True, {'percent': 'strict'}),
    ('\\sqrt{4}', '200\\%', True, {'percent': 'strict'}),
    ('\\sqrt{4}', '2\\%', True, {'percent': 'strict'}),
    ('1000', '1.000', False, {'thousands': 'european'}),
    ('1.5', '1,5', False, {'thousands': 'european'}),
    ('1234.5', '1.234,5', False, {'thousands': 'european'}),
    ('[0,1]', '[0;1]', True, {'semicolons': False}),
    ('(0,1]', '(0;1]', True, {'semicolons': False}),
    ('3:45', '1:15', False, {'ratios': 'scaled'}),
    ('2:4:6', '1:2:3', False, {'ratios': 'scaled'}),
    ('|x|', 'x', False, {'domain': 'positive'}),
    ('\\sqrt{\\frac1n}', '\\frac{1}{\\sqrt{n}}', True, {'domain': 'complex'}),
    ('\\pi', '3.1416', False, {'approximate': 1e-5}),
    ('\\pi', '3.141592653', True, {'approximate': 1e-12}),
  ],
)
def test_conventions_on_which_graders_differ(gold, said, usual, rules):
  texts = [f'\\boxed{{{said}}}']
  verdict = lambda rules: answer.verify(
    [gold], texts, timeout_s=60, rules=rules
  )
  changed = extract.RULES._replace(**rules)
  if (gold, rules) in (('0.1', {'percent': 'strict'}),) or said == '200\\%':
    assert verdict(extract.RULES) == verdict(changed) == [enums.Verdict.CORRECT]
    return
  assert (verdict(extract.RULES) == [enums.Verdict.CORRECT]) == usual
  assert (verdict(changed) == [enums.Verdict.CORRECT]) != usual


@pytest.mark.parametrize(
  ('key', 'value'),
  [
    ('percent', 'both'),
    ('thousands', ''),
    ('semicolons', 'yes'),
    ('ratios', 'any'),
    ('domain', 'reals'),
    ('approximate', -1.0),
    ('approximate', float('nan')),
    ('approximate', 1.0),
  ],
)
def test_an_unknown_convention_is_refused(key, value):
  with pytest.raises(ValueError, match=f'verifier.{key}='):
    config_limits.check({f'verifier.{key}': value})


@pytest.mark.parametrize(
  ('gold', 'box', 'right'),
  [
    ('5,3', 'p=5, q=3', True),
    ('5,3', 'q=3, p=5', True),
    ('5,3', 'p=3, q=5', False),
    ('1,4', 'x_1=4, x_2=1', True),
    ('1,4', 'x=4 \\text{ or } x=1', True),
    ('2,7,9', 'a=2, b=7, c=9', True),
    ('2,7,9', 'a=7, b=2, c=9', False),
  ],
)
def test_names_order_the_values_of_a_list(gold, box, right):
  (got,) = answer.verify([gold], [f'\\boxed{{{box}}}'], timeout_s=60)
  assert (got == enums.Verdict.CORRECT) == right


@pytest.mark.parametrize('said', ['≥ 5', '> 5', '\\ge 5', '<5', '5!'])
def test_a_bound_in_a_sentence_is_no_number(said):
  text = f'The answer is ${said}$'
  assert answer.verify(['5'], [text], timeout_s=60) != [enums.Verdict.CORRECT]
