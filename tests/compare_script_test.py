"""scripts/compare.py on a small run against the model before training."""

import importlib.util
import json
import math
import pathlib
import shutil
import statistics

import pytest

from rlvr_jax.reporting import run_writer

pytestmark = pytest.mark.usefixtures('one_device')
_PATH = pathlib.Path(__file__).parents[1] / 'scripts' / 'compare.py'


@pytest.fixture(scope='module')
def script():
  spec = importlib.util.spec_from_file_location('compare_script', _PATH)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture
def workdir(smoke, tmp_path):
  return shutil.copytree(smoke[0], tmp_path / 'run')


def test_a_run_against_its_start(script, workdir, capsys):
  flags = ['--step_base=0', '--samples=4', '--k=2', '--ppl_tasks=3']
  flags.append('--ppl_samples=2')
  assert script.main([str(workdir), str(workdir), *flags]) == 0
  (line,) = run_writer.read(workdir / 'compare.jsonl')
  assert (line['base']['step'], line['other']['step']) == (0, 2)
  assert (line['n'], line['samples'], line['k']) == (8, 4, 2)
  assert sum(map(len, line['coverage'].values())) == 8
  ppl = line['perplexity']
  assert set(ppl) == {
    f'{a}_under_{b}' for a in ('base', 'other') for b in ('base', 'other')
  }
  assert all(p['n'] == 6 and p['low'] <= p['high'] for p in ppl.values())
  # Perplexity under the own policy agrees with the sampler's log-probs.
  (path,) = workdir.glob('samples-0-*')
  samples = [json.loads(text) for text in path.read_text().splitlines()[1:]]
  own = [
    math.exp(x['surprisal'] / x['tokens'])
    for x in samples
    if x['task'] < 3 and x['round'] < 2
  ]
  own = statistics.median(own)
  assert ppl['base_under_base']['median'] == pytest.approx(own, rel=1e-4)
  assert ppl['base_under_other']['median'] != pytest.approx(own, rel=1e-4)
  page = (workdir / 'compare-0-2.html').read_text()
  assert 'run step 0 against run step 2' in page
  out = capsys.readouterr().out
  assert 'crossover k*' in out
  # Once more: nothing is sampled, the numbers stay.
  again = [str(workdir), str(workdir), *flags, '--ppl_tasks=0']
  assert script.main(again) == 0
  assert '32 of 32 samples are in' in capsys.readouterr().out
  first, second = run_writer.read(workdir / 'compare.jsonl')
  del first['perplexity']
  assert first == second


def test_the_same_step_twice_does_not_differ(script, workdir):
  flags = ['--samples=2', '--ppl_tasks=2', '--ppl_samples=1']
  assert script.main([str(workdir), str(workdir), *flags]) == 0
  (line,) = run_writer.read(workdir / 'compare.jsonl')
  assert {m['difference'] for m in line['metrics'].values()} == {0}
  assert len({str(p) for p in line['perplexity'].values()}) == 1


def test_a_random_start_keeps_its_own_seed(script, workdir, tmp_path):
  """OTHER's seed is for sampling; BASE's random weights keep their own."""
  twin = shutil.copytree(workdir, tmp_path / 'twin')
  text = (twin / 'config.json').read_text()
  assert '"seed": 0,' in text
  (twin / 'config.json').write_text(text.replace('"seed": 0,', '"seed": 7,'))
  _, own, configs = script.parse([str(workdir), str(twin), '--samples=3'])
  assert [c.seed for c in own] == [0, 7]
  assert [c.seed for c in configs] == [7, 7]
  assert configs[0].eval.samples == 3
  assert configs[0].model.name == own[0].model.name


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--k=3'], '--k=3 must be from 1 to --samples=2'),
    (['--ppl_tasks=-1'], '--ppl_tasks must be at least 0'),
    (['--temperature=0'], '2 samples at temperature 0'),
    (['--step_base=1'], 'has no checkpoint of step 1. There are: 2'),
  ],
)
def test_refusals_are_one_clear_line(script, workdir, capsys, flags, message):
  assert script.main([str(workdir), str(workdir), *flags]) == 1
  error = capsys.readouterr().err
  assert error.startswith('error: ')
  assert message in error
  assert error.count('\n') == 1
