"""The wiring of a model: its layers with kernels, and which of them feed which."""

import inspect

import keras
from keras import layers, ops

from keras_grapes import graph
from keras_grapes.checks import check_model
from keras_grapes.groups import is_wrapper, nested_groups
from keras_grapes.groups.owners import ELEMENTWISE
from keras_grapes.linear import linear_map

__all__ = ["Site", "Wiring"]

# Layers that bring values to other places and leave them as they are, or pick or average them.
MOVING_LAYERS = (
    layers.Flatten,
    layers.Reshape,
    layers.Permute,
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.UpSampling1D,
    layers.UpSampling2D,
    layers.UpSampling3D,
)


class Site:
    """One call of a layer with a kernel.

    Attributes:
        layer: The layer.
        linear: Its `keras_grapes.linear.LinearMap`.
        group: The `keras_grapes.grouping.Group` of its nodes, `None` where they are not the
            channels of its output.
        step: The `keras_grapes.graph.Step` of the call.
        depends: Bool, whether its input depends on a hidden layer.
        is_output: Bool, whether the model's output is reached from it through no further site.
    """

    def __init__(self, layer, linear, step, depends):
        self.layer = layer
        self.linear = linear
        self.step = step
        self.depends = depends
        self.is_output = False
        groups = [g for g in nested_groups(layer) if g.feeds_output]
        has_nodes = len(groups) == 1 and groups[0].output_axis is not None
        self.group = groups[0] if has_nodes else None
        self._opened = OpenedLayer(self)

    @property
    def input(self):
        """The `Slot` of its input; further inputs, as the states of an RNN, are left out."""
        return self.step.inputs[0]

    @property
    def output(self):
        """The `Slot` of its output, the first one."""
        return self.step.outputs[0]

    @property
    def current_shape(self):
        """Shape of what its linear map puts out."""
        shape = self.output.shape
        if getattr(self.layer, "return_sequences", True):
            return shape
        return (shape[0], self.input.shape[1], *shape[1:])

    @property
    def kernels(self):
        """List of its kernels in the precision that the layer computes with."""
        return [ops.cast(kernel, self.layer.compute_dtype) for kernel in self.linear.kernels]

    def call(self, args, kwargs, between, after, training=None):
        """Calls the layer, its linear map opened.

        Args:
            args, kwargs: The arguments of the call.
            between: Function of the inputs of the linear map that returns its outputs.
            after: Function of the layer's output, returns it.
            training: Bool; `None` for that of the model around.

        Returns:
            What the layer returns.
        """
        bound = inspect.signature(self.layer.call).bind(*args, **kwargs).arguments
        first, *others = bound
        others = {name: bound[name] for name in others if bound[name] is not None}
        others.update(others.pop("kwargs", {}))
        if training is not None:
            others["training"] = training
        return self._opened(bound[first], between=between, after=after, **others)


class OpenedLayer(keras.layers.Layer):
    """Runs a layer in three steps, so that its linear map can be reached.

    A layer, so that Keras casts the inputs and hands on masks as it does for the layer within.
    """

    def __init__(self, site):
        layer = site.layer
        super().__init__(name=layer.name, dtype=layer.dtype_policy, autocast=layer.autocast)
        self.supports_masking = layer.supports_masking
        self._site = site
        self._takes = set(inspect.signature(layer.call).parameters)
        self.built = True

    def call(self, inputs, between, after, mask=None, training=None, **kwargs):
        linear = self._site.linear
        if linear.prepare is not None:
            inputs = linear.prepare(inputs, training)
        outputs = between(inputs)
        given = {"mask": mask, "training": training}
        kwargs.update((name, given[name]) for name in given if name in self._takes)
        return after(linear.finish(outputs, **kwargs))

    def compute_mask(self, inputs, previous_mask):
        return self._site.layer.compute_mask(inputs, previous_mask)


class Wiring:
    """A model as a graph of its layers with kernels.

    Args:
        model: A built Sequential or Functional `keras.Model`; nested ones are opened.
        name: String, the name of the class that asks, for the errors.

    Attributes:
        program: The `keras_grapes.graph.Program` of the model.
        sites: List of the `Site`s, in the order of the graph.
        outputs: List of those that are output layers.
        ends: List of the output sites of each output of the model.
        hidden_layers: List of the layers that are called by a site and by no output site, each
            once.
        over_time: Set of the `Slot`s whose axis 1 is time, as far as recurrent layers tell it.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If it is not such a model, has no hidden layer, or holds a layer that cannot be
            trained by a feedback rule.
    """

    def __init__(self, model, name):
        self.name = name
        _check_model(model, name)
        self.program = graph.Program(model)
        self._maker = {slot: step for step in self.program.steps for slot in step.outputs}
        self.sites = []
        self._site_of = {}
        self.over_time = set()
        self._find_sites()
        self.ends = [self._sites_ahead(slot) for slot in self.program.outputs]
        for site in [site for sites in self.ends for site in sites]:
            site.is_output = True
        if not any(site.depends for site in self.sites):
            raise ValueError(
                f"`{name}` needs a hidden layer: a Dense or Conv layer, or another with a kernel, "
                f"ahead of the output layer. Received: model '{model.name}' with "
                f"{len(self.sites)} such layers. Without a hidden layer there is no error to "
                "transport: train the model itself."
            )
        output_layers = {id(site.layer) for site in self.outputs}
        hidden = {id(s.layer): s.layer for s in self.sites if id(s.layer) not in output_layers}
        self.hidden_layers = list(hidden.values())

    @property
    def outputs(self):
        return [site for site in self.sites if site.is_output]

    def is_hidden(self, site):
        """Whether the layer of a site is a hidden one, wherever it is called."""
        return any(site.layer is layer for layer in self.hidden_layers)

    def is_over_time(self, site):
        """Whether axis 1 of what the linear map of a site puts out is time."""
        return site.linear.over_time or site.output in self.over_time

    def site_of(self, step):
        """The `Site` of a step, or `None`."""
        return self._site_of.get(step)

    def calls_of(self, layer):
        """Lists the sites that call a layer."""
        return [site for site in self.sites if site.layer is layer]

    def source(self, slot):
        """The slot that a slot has its values from, through layers that only move values."""
        while slot in self._maker and self.moves(self._maker[slot]):
            slot = self._maker[slot].inputs[0]
        return slot

    def moves(self, step):
        """Whether a step leaves values as they are, or picks or averages them."""
        return isinstance(step.operation, (*MOVING_LAYERS, graph.Entry))

    def maker(self, slot):
        """The step that makes a slot; `None` for an input of the model."""
        return self._maker.get(slot)

    def outputs_above(self, site):
        """Lists the output sites that a site leads to, itself included."""
        reached, pending, seen = set(), [site.step], set()
        takers = {}
        for step in self.program.steps:
            for slot in step.inputs:
                takers.setdefault(slot, []).append(step)
        while pending:
            step = pending.pop()
            if step in seen:
                continue
            seen.add(step)
            if step in self._site_of and self._site_of[step].is_output:
                reached.add(self._site_of[step])
            pending.extend(taker for slot in step.outputs for taker in takers.get(slot, []))
        return [one for one in self.outputs if one in reached]

    def _find_sites(self):
        depending, waiting = set(), {}
        for step in self.program.steps:
            depends = any(slot in depending for slot in step.inputs)
            linear = self._linear_map(step.operation, depends)
            if linear is not None:
                self._check_first(step, waiting, depending)
                site = Site(step.operation, linear, step, step.inputs[0] in depending)
                self.sites.append(site)
                self._site_of[step] = site
                depending.update(step.outputs)
            elif depends:
                depending.update(step.outputs)
            else:
                layers_ahead = [waiting[slot] for slot in step.inputs if slot in waiting]
                if getattr(step.operation, "trainable_weights", None):
                    layers_ahead.append(step.operation)
                if layers_ahead:
                    waiting.update((slot, layers_ahead[-1]) for slot in step.outputs)
            self._follow_time(step, linear)

    def _check_first(self, step, waiting, depending):
        slot = step.inputs[0]
        if slot in waiting and slot not in depending:
            layer = waiting[slot]
            raise ValueError(
                f"`{self.name}` brings no error to layer '{layer.name}' of type "
                f"{type(layer).__name__}, which has trainable weights ahead of the first layer "
                "with a kernel. Freeze it with `trainable=False`, make it without weights, or put "
                "it behind a Dense or Conv layer."
            )

    def _follow_time(self, step, linear):
        first = step.inputs[0]
        if linear is not None and linear.over_time and len(first.shape) > 2:
            # What feeds it has the same axis, as far back as shapes tell.
            self.over_time.add(first)
            maker = self._maker.get(first)
            while maker is not None:
                (slot, *others) = maker.inputs
                fits = len(slot.shape) > 2 and slot.shape[1] == first.shape[1]
                if others or not fits or self.moves(maker):
                    break
                self.over_time.add(slot)
                maker = self._maker.get(slot)
            sequences = [s for s in step.outputs if len(s.shape) == len(first.shape)]
            self.over_time.update(s for s in sequences if s.shape[1] == first.shape[1])
            return
        timed = [slot for slot in step.inputs if slot in self.over_time]
        for slot in step.outputs:
            if any(len(slot.shape) > 2 and slot.shape[1] == one.shape[1] for one in timed):
                self.over_time.add(slot)

    def _sites_ahead(self, slot):
        """Lists the sites that a slot is reached from through no further site."""
        reached, pending, seen = [], [slot], set()
        while pending:
            step = self._maker.get(pending.pop())
            if step is None or step in seen:
                continue
            seen.add(step)
            if step in self._site_of:
                reached.append(self._site_of[step])
            else:
                pending.extend(step.inputs)
        return reached

    def _linear_map(self, operation, depends):
        """The linear map of a layer to train; refuses layers that no error can pass."""
        if not isinstance(operation, keras.layers.Layer):
            return None
        try:
            linear = linear_map(operation)
        except ValueError as error:
            raise ValueError(_refusal(self.name, operation, str(error))) from error
        if linear is not None:
            return linear
        if any(map(is_wrapper, [operation, *graph.all_layers(operation)])):
            problem = (
                "it modulates the error by itself. Pass `keras_grapes.strip(model)`, and "
                "`modulation=` for GRAPES"
            )
        elif not depends and not operation.trainable_weights:
            return None
        elif _mixes_nodes(operation):
            problem = (
                "it has weights between nodes, and its class has no linear map. Replace it by "
                "layers such as Dense, EinsumDense, Conv, SimpleRNN or SNU, tell its linear map by "
                "`keras_grapes.register_linear_map`, or freeze it ahead of all layers with kernels"
            )
        else:
            return None
        raise ValueError(_refusal(self.name, operation, problem))


def _mixes_nodes(layer):
    if nested_groups(layer):
        return True
    leaves = [layer, *graph.all_layers(layer)]
    local = {id(w) for leaf in leaves if isinstance(leaf, ELEMENTWISE) for w in leaf.weights}
    return any(len(w.shape) > 1 and id(w) not in local for w in layer.trainable_weights)


def _refusal(rule, layer, problem):
    return f"`{rule}` cannot train layer '{layer.name}' of type {type(layer).__name__}: {problem}."


def _check_model(model, name):
    check_model("model", model)
    if not graph.has_graph(model):
        way_out = "Write its layers as a Functional or Sequential model"
        if graph.is_functional(model):
            way_out = "Pass `keras.Model(model.inputs, model.outputs)` to train the graph within"
        raise ValueError(
            f"`{name}` takes a Sequential or Functional model, whose graph tells which layer feeds "
            f"which. Received: the subclassed model '{model.name}' of type "
            f"{type(model).__name__}. {way_out}."
        )
    if not model.built or _lacks_inputs(model):
        raise ValueError(
            f"`{name}` needs a built model, and model '{model.name}' is not. Give it a "
            "`keras.Input`, call `model.build(input_shape)` or call it on data first."
        )
    for tensor in model.inputs:
        if getattr(tensor, "sparse", False) or getattr(tensor, "ragged", False):
            raise ValueError(
                f"`{name}` takes dense inputs. Received: model '{model.name}', whose input "
                f"'{graph.tensor_name(tensor)}' is sparse or ragged. Make it dense outside the "
                "model."
            )
        if graph.is_optional(tensor):
            raise ValueError(
                f"`{name}` takes models without optional inputs. Received: model '{model.name}', "
                f"whose input '{graph.tensor_name(tensor)}' is optional."
            )


def _lacks_inputs(model):
    try:
        return not model.inputs
    except AttributeError:
        return True
