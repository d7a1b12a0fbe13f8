import pathlib
import sys

# The examples are scripts, not installed with the package.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
