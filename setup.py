"""Metadata of the package; build system and tool settings are in `pyproject.toml`."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (ROOT / "keras_grapes" / "version.py").read_text(encoding="utf-8")
).group(1)

setup(
    name="keras_grapes",
    version=VERSION,
    description="GRAPES for Keras 3: modulate the error of each node by its incoming weights.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["keras_grapes", "keras_grapes.*"]),
    package_data={"keras_grapes": ["py.typed"]},
    python_requires=">=3.10",
    install_requires=[
        "keras>=3.9",
        "numpy>=1.26",
        "scipy>=1.11",
        "tensorflow>=2.18",
    ],
    extras_require={
        "examples": [
            # tensorflow-datasets imports it to prepare a data set, and does not ask for it.
            "importlib_resources>=5.0",
            "matplotlib>=3.8",
            "scikit-learn>=1.3",
            "tensorflow-datasets>=4.9.7",
            "tqdm>=4.66",
        ],
        "nir": ["nir>=1.0"],
        "test": [
            "hypothesis>=6.100",
            "jax>=0.4.30",
            "keras-tuner>=1.4",
            "nir>=1.0",
            "pytest>=8.0",
            "pytest-xdist>=3.5",
            "setuptools>=77",
            # Of TensorFlow's own dependencies no longer, and KerasTuner needs it without asking.
            "tensorboard>=2.18",
        ],
        # The other backends of Keras. TensorFlow stays a requirement: see the guide on backends
        # for an environment without it.
        "jax": ["jax>=0.4.30"],
        "torch": ["torch>=2.4"],
        "docs": [
            # Runs the tutorials.
            "ipykernel>=6.29",
            "latex2mathml>=3.77",
            "mkdocs>=1.6",
            "mkdocs-autorefs>=1.4",
            "mkdocs-material>=9.5",
            "mkdocstrings[python]>=1.0",
            "mkdocstrings-python>=2.0",
            "nbclient>=0.10",
            # Formats the signatures of the reference.
            "ruff>=0.9",
        ],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    keywords="keras tensorflow jax pytorch biologically-plausible-learning grapes optimizer",
)
