"""What is refused at start."""

import types

import pytest

from rlvr_jax import checks, registry


def check_group(spec, size):
  config = types.SimpleNamespace(
    num_generations=size, algo=types.SimpleNamespace(estimate=spec)
  )
  algo = types.SimpleNamespace(estimate=registry.get('estimator', spec))
  checks.check_group(config, algo)


@pytest.mark.parametrize('spec', ['grpo', 'dr_grpo', 'rloo', 'pass_at_k'])
def test_one_sample_leaves_a_relative_estimator_nothing(spec):
  with pytest.raises(ValueError, match='num_generations=1'):
    check_group(spec, 1)
  check_group(spec, 2)


@pytest.mark.parametrize(
  'spec', ['reinforce', 'psr', 'nsr', 'weighted_reinforce']
)
def test_one_sample_is_enough_where_each_counts_by_itself(spec):
  check_group(spec, 1)
