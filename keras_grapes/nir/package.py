"""The package `nir`, which is optional."""

__all__ = []


def nir_package():
    """Returns the package `nir`.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import nir
    except ImportError as error:
        raise ImportError(
            "NIR graphs need the package `nir`: install it by `pip install keras_grapes[nir]` or "
            "`pip install nir`."
        ) from error
    return nir
