"""A unit in steps of time, and the neuron in continuous time that NIR has for it.

NIR's leaky neuron is `tau dv/dt = v_leak - v + r I`; it spikes where `v > v_threshold`, and then
starts again at `v_reset`. A step of Euler's method makes of it

    v[t] = (1 - dt / tau) v[t-1] + (dt / tau) (v_leak + r I[t])

which is the potential of a spiking neural unit with `decay = 1 - dt / tau`, and with an input of
its own size if `r = tau / dt`. Without a leak, `dv/dt = r I`, the decay is 1 and `r = 1 / dt`.

Its neuron of second order has a synaptic current between, `tau_syn di/dt = -i + w_in I`, of which
a step makes `i[t] = (1 - dt / tau_syn) i[t-1] + (dt / tau_syn) w_in I[t]`. The potential takes the
current of its own step, as in `keras_grapes.Synaptic`.
"""

import dataclasses

import numpy as np

from keras_grapes.nir.package import nir_package

__all__ = []

# The file holds single precision.
_PRECISION = 1e-6


@dataclasses.dataclass(frozen=True)
class Neuron:
    """Parameters of units in steps of time, arrays of one shape.

    Attributes:
        decay: Share of the potential that is left after a step.
        scale: What the input is multiplied by.
        drive: What is added to the potential at each step.
        threshold: Above which a unit spikes; `None` for one that puts out its potential.
        synaptic_decay: Share of the synaptic current that is left after a step; `None` for units
            of first order.
    """

    decay: np.ndarray
    scale: np.ndarray
    drive: np.ndarray
    threshold: np.ndarray | None
    synaptic_decay: np.ndarray | None = None


def to_node(leak, threshold, shape, dt, synaptic_leak=None):
    """Returns the node for units that take their input as it is.

    Args:
        leak: Array that broadcasts to `shape`: 1 less the decay, exact where the decay is near 1.
        threshold: Array that broadcasts to `shape`, or `None` for units without spikes.
        shape: Tuple of ints, the shape of the units.
        dt: Float, the seconds of a time step.
        synaptic_leak: Array like `leak`, of the synaptic current. Defaults to `None`, no such
            current.

    Raises:
        ValueError: If some units leak and others do not, or what has no node without a leak has
            none.
    """
    nir = nir_package()

    def array(value):
        return np.broadcast_to(value, shape).astype("float32")

    leak = np.asarray(leak, "float64")
    if (leak == 0).any() != (leak == 0).all():
        raise ValueError("NIR has no node of units of which some leak and others do not.")
    zero = array(0.0)
    if synaptic_leak is not None:
        synaptic_leak = np.asarray(synaptic_leak, "float64")
        if (leak == 0).any() or (synaptic_leak == 0).any():
            raise ValueError("NIR has no node of units of second order that do not leak.")
        return nir.CubaLIF(
            tau_syn=array(dt / synaptic_leak),
            w_in=array(1 / synaptic_leak),
            tau_mem=array(dt / leak),
            r=array(1 / leak),
            v_leak=zero,
            v_threshold=array(threshold),
            v_reset=zero.copy(),
        )
    if (leak == 0).any():
        if threshold is None:
            return nir.I(r=array(1 / dt))
        return nir.IF(r=array(1 / dt), v_threshold=array(threshold), v_reset=zero)
    leaky = {"tau": array(dt / leak), "r": array(1 / leak), "v_leak": zero}
    if threshold is None:
        return nir.LI(**leaky)
    return nir.LIF(**leaky, v_threshold=array(threshold), v_reset=zero.copy())


def from_node(node, dt):
    """Returns the `Neuron` of a node `LIF`, `IF`, `LI`, `I` or `CubaLIF`.

    Raises:
        ValueError: If the reset is not to 0, a time constant is shorter than a step, or there is
            something else that units here do not have.
    """
    threshold = getattr(node, "v_threshold", None)
    if threshold is not None and np.any(np.not_equal(node.v_reset, 0)):
        raise ValueError(
            "it is reset to a potential other than 0, and the units here to 0. Received: "
            f"v_reset={np.ravel(node.v_reset)}"
        )
    r = np.asarray(node.r, "float64")
    tau = getattr(node, "tau", getattr(node, "tau_mem", None))
    if tau is None:
        rate, decay, drive = dt, np.ones_like(r), np.zeros_like(r)
    else:
        rate = _rate(tau, dt)
        decay, drive = _tidy(rate), rate * np.asarray(node.v_leak, "float64")
    scale = r * rate
    synaptic_decay = None
    if hasattr(node, "tau_syn"):
        if drive.any():
            raise ValueError(
                "it leaks to a potential other than 0, and units of second order here to 0. "
                f"Received: v_leak={np.ravel(node.v_leak)}"
            )
        synaptic_rate = _rate(node.tau_syn, dt)
        synaptic_decay = _tidy(synaptic_rate)
        scale = scale * np.asarray(node.w_in, "float64") * synaptic_rate
    scale = np.where(np.abs(scale - 1) < _PRECISION, 1.0, scale)
    return Neuron(decay, scale, drive, threshold, synaptic_decay)


def _rate(tau, dt):
    rate = dt / np.asarray(tau, "float64")
    if not ((rate >= 0) & (rate <= 1 + _PRECISION)).all():
        raise ValueError(
            f"its time constant must be at least a time step, dt={dt} seconds. Received: "
            f"tau={np.min(tau)}. Give the `dt` that the file was made for."
        )
    return rate


def _tidy(rate):
    """Returns `1 - rate`, without what single precision added to a decay of few digits."""
    decay = 1 - rate
    rounded = np.round(decay, 6)
    return np.clip(np.where(np.abs(rounded - decay) <= 1.2e-7 * rate, rounded, decay), 0.0, 1.0)
