"""Templates escape what they print, miss nothing, and are installed."""

import html.parser
import pathlib
import re
import subprocess
import sys

import jinja2
import pytest

from rlvr_jax.reporting import pages

_ROOT = pathlib.Path(__file__).parents[2]
_TEMPLATES = _ROOT / 'rlvr_jax' / 'reporting' / 'templates'
_EVIL = (
  '\n</pre></style><script>alert(1)</script>{{ 7 * 7 }}{% raw %}'
  '<!--"\' onload="a()\x00\u202e&lt;&#60;'
)
_SEEN = _EVIL.replace('\x00', '\ufffd')


class Parser(html.parser.HTMLParser):
  """The texts and attributes' values of a page, and its tags' names."""

  def __init__(self, text):
    super().__init__()
    self.texts, self.values, self.tags = [''], [], set()
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attributes):
    self.tags.add(tag)
    self.values += attributes
    self.texts.append('')

  def handle_endtag(self, tag):
    self.texts.append('')

  def handle_data(self, data):
    self.texts[-1] += data


def everything(x):
  """Values for report.html with the text `x` in every place."""
  figure = pages.Figure(x, x, x)
  side = {'heading': x, 'verdict': x, 'correct': False, 'facts': [x, x]}
  asked = {'question': x, 'answer': x, 'sides': [side | {'text': x}]}
  return {
    'title': x,
    'subtitle': x,
    'notices': [x, x],
    'cards': [(x, x, x)],
    'results': [[x, x]],
    'colors': [x],
    'accuracy': figure._replace(wide=True),
    'training': [figure],
    'bands': True,
    'evaluation': {'figures': [figure], 'head': [x], 'rows': [[x]]},
    'signal_map': {
      'figure': figure,
      'sentence': x,
      'caption': x,
      'head': [x],
      'rows': [[x]],
      'words': [(x, x)],
    },
    'transcripts': [{'label': x, 'note': x, 'questions': [asked]}],
    'reproduce': [(x, x, x)],
  }


def test_hostile_text_stays_text_in_every_place_of_a_page():
  plain = Parser(pages.render('report.html', **everything('PLAIN')))
  evil = Parser(pages.render('report.html', **everything(_EVIL)))
  assert evil.tags == plain.tags
  assert 'script' not in evil.tags
  instead = lambda text: text.replace('PLAIN', _SEEN)
  assert evil.values == [(k, instead(v)) for k, v in plain.values]
  # After <pre> browsers drop a newline: the template's, not the text's.
  assert evil.texts == [instead(text) for text in plain.texts]
  assert f'\n{_SEEN}' in evil.texts
  assert evil.texts.count(_SEEN) > 20


def test_long_text_is_whole():
  text = '<&\x07' * 30_000
  out = pages.render('report.html', **everything(text))
  assert out.count('&lt;&amp;\ufffd' * 30_000) > 20


def test_a_missing_value_is_an_error():
  values = everything('x')
  for name in values:
    less = {k: v for k, v in values.items() if k != name}
    with pytest.raises(jinja2.UndefinedError, match=name):
      pages.render('report.html', **less)


@pytest.mark.parametrize(
  'path', sorted(_TEMPLATES.glob('*.html')), ids=lambda p: p.name
)
def test_templates_leave_escaping_on(path):
  text = path.read_text()
  assert not re.search(r'\|\s*safe\b|autoescape|Markup', text)
  # Only within quotes is an escaped value one attribute.
  assert not re.search(r'=\s*\{\{', text)


def test_half_of_a_character_can_be_saved(tmp_path):
  out = pages.save(tmp_path / 'new' / 'page.html', 'a\ud800é')
  assert out.read_text(encoding='utf-8') == 'a\\ud800é'
  assert [p.name for p in out.parent.iterdir()] == ['page.html']


def test_an_installed_package_has_the_templates(tmp_path):
  build = ['-q', 'build', '--build-base', str(tmp_path / 'base')]
  subprocess.run(
    [sys.executable, 'setup.py', *build, '--build-lib', str(tmp_path / 'lib')],
    cwd=_ROOT,
    check=True,
    timeout=120,
  )
  built = tmp_path / 'lib' / 'rlvr_jax' / 'reporting' / 'templates'
  names = lambda folder: {p.name for p in folder.iterdir()}
  assert names(built) == names(_TEMPLATES)
  assert 'page.css' in names(built)
