"""Pieces of an HTML page that is one file. Every text is escaped here."""

import html
import re
from collections.abc import Mapping, Sequence

_CONTROL = re.compile(r'[\x00-\x08\x0b-\x1f\x7f-\x9f]')

_STYLE = """
:root{color-scheme:light dark;--bg:#fbfbfd;--card:#fff;--ink:#1d2129;
--soft:#676d7b;--line:#e3e6ec;--good:#0e8a5f;--bad:#c03a3a;--note:#fff6dd}
@media(prefers-color-scheme:dark){:root{--bg:#14161b;--card:#1c1f26;
--ink:#e8eaef;--soft:#9aa1b0;--line:#2e333d;--good:#3ecf98;--bad:#f28b82;
--note:#3a3218}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}
main{max-width:1060px;margin:0 auto;padding:28px 18px 60px}
h1{font-size:1.6rem;line-height:1.25;margin:0;overflow-wrap:anywhere}
h2{font-size:1.12rem;margin:38px 0 12px}
h3{font-size:.95rem;margin:20px 0 8px;overflow-wrap:anywhere}
.sub,.note,figcaption{color:var(--soft);font-size:.87rem}
.sub{margin:4px 0 0}.note{margin:0 0 10px}
.notice{background:var(--note);border-radius:8px;padding:8px 14px;
margin:14px 0 0;font-size:.9rem;overflow-wrap:anywhere}
.cards{display:flex;flex-wrap:wrap;gap:12px;margin-top:20px}
.card,figure,.scroll,details,.pair{background:var(--card);
border:1px solid var(--line);border-radius:10px}
.card{padding:12px 18px;flex:1 1 130px}
.card.first{flex:3 1 300px}
.card b{display:block;font-size:1.55rem;font-weight:650;line-height:1.3}
.card span{color:var(--soft);font-size:.83rem;display:block}
.grid{display:grid;gap:14px;
grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr))}
figure{margin:0;padding:12px 14px;min-width:0}
figure b{font-weight:600;font-size:.92rem;display:block;margin-bottom:4px;
overflow-wrap:anywhere}
figure img{width:100%;height:auto;display:block}
.scroll,.wide{overflow-x:auto}.wide img{min-width:560px}
table{border-collapse:collapse;width:100%;font-size:.9rem;
font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:7px 14px;border-bottom:1px solid var(--line);
white-space:nowrap}
th{color:var(--soft);font-weight:500}
th:first-child,td:first-child{text-align:left;white-space:normal;
overflow-wrap:anywhere;min-width:190px}
tr:last-child td{border-bottom:0}
.dot{display:inline-block;width:.7em;height:.7em;border-radius:50%;
margin-right:.55em}
.pair{margin:0 0 16px;padding:14px 16px}
.pair>p{margin:0 0 10px}
.sides{display:grid;gap:14px;
grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr))}
.sides>div{min-width:0}
.sides h4{font-size:.83rem;font-weight:600;margin:0 0 5px}
.facts{color:var(--soft);font-weight:400;display:block}
.good{color:var(--good)}.bad{color:var(--bad)}
.text{white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate}
pre{white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate;
background:var(--bg);border:1px solid var(--line);border-radius:8px;
padding:10px 12px;margin:0 0 10px;max-height:24em;overflow:auto;
font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
details{padding:10px 14px;margin-bottom:10px}
summary{cursor:pointer;overflow-wrap:anywhere}
details pre{margin:10px 0 0;max-height:none}
"""


def escape(text) -> str:
  """Safe as text and in attributes; control characters become visible."""
  return html.escape(_CONTROL.sub('\N{REPLACEMENT CHARACTER}', str(text)))


def document(title: str, body: str) -> str:
  """The whole page. Its policy forbids scripts and all requests."""
  policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    '<meta name="viewport" content="width=device-width,initial-scale=1">'
    f'<title>{escape(title)}</title><style>{_STYLE}</style></head>\n'
    f'<body><main>{body}</main></body></html>\n'
  )


def header(title: str, subtitle: str) -> str:
  sub = f'<p class="sub">{escape(subtitle)}</p>' if subtitle else ''
  return f'<h1>{escape(title)}</h1>{sub}\n'


def notices(sentences: Sequence[str]) -> str:
  lines = '<br>'.join(map(escape, sentences))
  return f'<p class="notice">{lines}</p>\n' if sentences else ''


def cards(items: Sequence[tuple[str, str, str]]) -> str:
  """(what, value, note) each; the first is the widest."""
  first, out = ' first', []
  for what, value, note in items:
    out.append(
      f'<div class="card{first}"><span>{escape(what)}</span>'
      f'<b>{escape(value)}</b><span>{escape(note)}</span></div>'
    )
    first = ''
  return f'<div class="cards">{"".join(out)}</div>\n'


def section(title: str, content: str) -> str:
  """A titled part of the page, or nothing if there is no content."""
  return f'<h2>{escape(title)}</h2>\n{content}\n' if content else ''


def note(text: str) -> str:
  return f'<p class="note">{escape(text)}</p>\n'


def figure(title: str, source: str, note: str, *, wide: bool = False) -> str:
  """An image; a wide one scrolls on a phone, so that it stays legible."""
  head = f'<b>{escape(title)}</b>' if title else ''
  foot = f'<figcaption>{escape(note)}</figcaption>' if note else ''
  alt = escape(title or note)
  image = f'<img alt="{alt}" src="{source}">'
  if wide:
    image = f'<div class="wide">{image}</div>'
  return f'<figure>{head}{image}{foot}</figure>\n'


def swatch(color: str) -> str:
  return f'<span class="dot" style="background:{color}"></span>'


def table(
  head: Sequence[str], rows: Sequence[Sequence[str]], *, html_first=False
) -> str:
  """Cells are text; with `html_first` the first of a row is HTML already."""
  top = ''.join(f'<th>{escape(h)}</th>' for h in head)
  body = ''
  for row in rows:
    first = row[0] if html_first else escape(row[0])
    rest = ''.join(f'<td>{escape(c)}</td>' for c in row[1:])
    body += f'<tr><td>{first}</td>{rest}</tr>'
  return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>\n'


def question(task: Mapping, sides: Sequence[str]) -> str:
  """A question with its answer, and what a model said to it, side by side."""
  return (
    f'<div class="pair"><p class="text">{escape(task.get("question", ""))}</p>'
    f'<p class="note">Answer: <span class="text">'
    f'{escape(task.get("answer", ""))}</span></p>'
    f'<div class="sides">{"".join(sides)}</div></div>\n'
  )


def transcript(
  heading: str, facts: Sequence[str], text: str, correct: bool
) -> str:
  """One completion; the first fact, its verdict, is coloured."""
  verdict, *rest = facts
  kind = 'good' if correct else 'bad'
  return (
    f'<div><h4>{escape(heading)} <span class="{kind}">{escape(verdict)}</span> '
    f'<span class="facts">{escape(", ".join(rest))}</span></h4>'
    f'<pre>{escape(text)}</pre></div>'
  )


def code(text: str) -> str:
  return f'<pre>{escape(text)}</pre>\n'


def fold(title: str, content: str) -> str:
  return f'<details><summary>{escape(title)}</summary>{content}</details>\n'
