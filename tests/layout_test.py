"""docs/LAYOUT.md has a line for each file, out of its docstring.

  python tests/layout_test.py

writes it.
"""

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
LAYOUT = ROOT / 'docs' / 'LAYOUT.md'
HEAD = """\
# Layout

A line for each file: the first sentence of its docstring. Folders stand in the order in which they may import each other, see
[CONTRIBUTING.md](../CONTRIBUTING.md#who-may-import-whom). `tests/` mirrors the package. Written by `python tests/layout_test.py`.
"""


def sentence(path: pathlib.Path) -> str:
  """The first sentence of a module, or of a shell script's first comment."""
  text = path.read_text('utf-8')
  if path.suffix == '.sh':
    lines = text.removeprefix('#!/usr/bin/env bash\n').splitlines()
    comments = [x[1:] for x in lines if x.startswith('#')]
    text = '\n'.join(x.strip() for x in comments)
  else:
    text = ast.get_docstring(ast.parse(text)) or ''
  paragraph = ' '.join(text.partition('\n\n')[0].split())
  assert paragraph, f'{path} has no docstring'
  return re.split(r'(?<=[.?])\s+(?=[A-Z])', paragraph)[0]


def section(folder: str, files) -> str:
  title = f'\n## {folder}/\n'
  package = ROOT / folder / '__init__.py'
  if package.exists():
    title += f'\n{sentence(package)}\n'
  lines = [f'- `{path.name}`: {sentence(path)}' for path in files]
  return '\n'.join([title, *lines, ''])


def layout() -> str:
  text = (ROOT / 'CONTRIBUTING.md').read_text('utf-8')
  rows = re.findall(r'^\| `([\w.]+)` \|[^|]*\|[^|]*\|$', text, re.M)
  package = ROOT / 'rlvr_jax'
  out = [
    section(
      'rlvr_jax',
      [package / f'{x}.py' for x in rows if (package / f'{x}.py').exists()],
    )
  ]
  folders = [package / x.replace('.', '/') for x in rows]
  folders = [x for x in folders if x.is_dir()]
  for top in [*folders, ROOT / 'configs', ROOT / 'scripts']:
    inner = sorted(x.parent for x in top.rglob('*.py'))
    for folder in dict.fromkeys([top, *inner]):
      files = sorted([*folder.glob('*.py'), *folder.glob('*.sh')])
      files = [x for x in files if x.name != '__init__.py']
      if folder == top or folder not in folders:
        out.append(section(str(folder.relative_to(ROOT)), files))
  return HEAD + ''.join(out)


def test_layout_is_current():
  assert LAYOUT.read_text('utf-8') == layout(), (
    'write it anew: python tests/layout_test.py'
  )


if __name__ == '__main__':
  LAYOUT.write_text(layout(), 'utf-8')
