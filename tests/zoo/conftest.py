import gc

import keras
import pytest


@pytest.fixture(autouse=True)
def memory():
    """Frees the models of a test: some of these hold hundreds of MB."""
    yield
    keras.backend.clear_session()
    gc.unfreeze()
    gc.collect()
