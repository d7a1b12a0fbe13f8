"""Small configurations of KerasHub's models: backbones and tasks with layers of its own."""

import warnings

import keras
import numpy as np
import pytest

import keras_grapes as kg
from tests.zoo import checks

hub = pytest.importorskip("keras_hub").models

TEXT = {"vocabulary_size": 50, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 32}
HEADS = {"num_query_heads": 2, "num_key_value_heads": 1}


def bert():
    return hub.BertBackbone(num_heads=2, max_sequence_length=12, **TEXT)


def resnet():
    return hub.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 128],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(32, 32, 3),
    )


def vit():
    return hub.ViTBackbone(
        image_shape=(16, 16, 3),
        patch_size=(4, 4),
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        mlp_dim=32,
    )


def mit():
    return hub.MiTBackbone(
        image_shape=(32, 32, 3),
        layerwise_num_heads=[1, 2],
        layerwise_sr_ratios=[8, 4],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3],
        layerwise_strides=[4, 2],
        layerwise_depths=[1, 1],
        num_layers=2,
        hidden_dims=[8, 16],
    )


MODELS = {
    "AlbertBackbone": lambda: hub.AlbertBackbone(
        num_heads=2, embedding_dim=8, max_sequence_length=12, **TEXT
    ),
    "BartBackbone": lambda: hub.BartBackbone(num_heads=2, max_sequence_length=12, **TEXT),
    "BertBackbone": bert,
    "BertMaskedLM": lambda: hub.BertMaskedLM(bert(), preprocessor=None),
    "BertTextClassifier": lambda: hub.BertTextClassifier(bert(), num_classes=3, preprocessor=None),
    "BloomBackbone": lambda: hub.BloomBackbone(num_heads=2, **TEXT),
    "GPT2Backbone": lambda: hub.GPT2Backbone(num_heads=2, max_sequence_length=12, **TEXT),
    "GPT2CausalLM": lambda: hub.GPT2CausalLM(
        hub.GPT2Backbone(num_heads=2, max_sequence_length=12, **TEXT), preprocessor=None
    ),
    "GemmaBackbone": lambda: hub.GemmaBackbone(head_dim=8, **HEADS, **TEXT),
    "MistralBackbone": lambda: hub.MistralBackbone(sliding_window=4, **HEADS, **TEXT),
    "MiTBackbone": mit,
    "OPTBackbone": lambda: hub.OPTBackbone(num_heads=2, max_sequence_length=12, **TEXT),
    "ResNetBackbone": resnet,
    "ResNetImageClassifier": lambda: hub.ResNetImageClassifier(
        resnet(), num_classes=3, preprocessor=None
    ),
    "RobertaBackbone": lambda: hub.RobertaBackbone(num_heads=2, max_sequence_length=12, **TEXT),
    "T5Backbone": lambda: hub.T5Backbone(num_heads=2, **TEXT),
    "ViTBackbone": vit,
    "ViTImageClassifier": lambda: hub.ViTImageClassifier(vit(), num_classes=3, preprocessor=None),
    "WhisperBackbone": lambda: hub.WhisperBackbone(
        num_heads=2, max_encoder_sequence_length=16, max_decoder_sequence_length=12, **TEXT
    ),
}


def batch_of(model):
    random = np.random.default_rng(0)

    def batch(tensor):
        shape = [2, *(12 if size is None else size for size in tensor.shape[1:])]
        if "int" in tensor.dtype or "bool" in tensor.dtype:
            # Masks are ints too: none of them masks a whole row.
            return random.integers(0, 2, shape).astype(tensor.dtype) | (np.arange(shape[-1]) == 0)
        return random.normal(size=shape).astype(tensor.dtype)

    return keras.tree.map_structure(batch, model.input)


def flat(outputs):
    return [keras.ops.convert_to_numpy(y) for y in keras.tree.flatten(outputs)]


def groups_of(model):
    """Kernels that `Grapes` modulates, with their axes: the matrices that it knows as hidden."""
    optimizer = kg.Grapes("sgd", model=model)
    return [
        (kernel, axes)
        for group in optimizer.find_groups(model)
        for kernel, axes in zip(group.kernels, group.incoming_axes, strict=True)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore:`propagate`")
def test_model(name):
    model = MODELS[name]()
    with pytest.raises(ValueError, match=r"keras\.Model\(model\.input, model\.output\).*Grapes"):
        kg.propagate(model)

    graph = keras.Model(model.input, model.output)
    x = batch_of(model)
    expected = flat(graph(x, training=False))
    propagated = kg.propagate(graph)
    stripped = kg.strip(propagated)
    assert not checks.wrapped(stripped)
    for copy in (propagated, stripped):
        checks.assert_equal(flat(copy(x, training=False)), expected)
        checks.assert_equal(checks.values(copy), checks.values(graph))
        inner = [getattr(layer, "layer", layer) for layer in copy.layers]
        inner = [i if isinstance(c, kg.ErrorModulation) else c for i, c in zip(inner, copy.layers)]
        assert [type(layer) for layer in inner] == [type(layer) for layer in graph.layers]
    plain = [np.random.default_rng(1).normal(size=v.shape) for v in model.trainable_variables]
    checks.check_step(model, [g.astype("float32") for g in plain], groups_of(model))


@pytest.mark.slow
def test_layer_with_a_wrong_config_is_named():
    model = hub.LlamaBackbone(**HEADS, **TEXT)
    try:
        model.layers[-2].get_config()
    except AttributeError:
        graph = keras.Model(model.input, model.output)
        with pytest.raises(ValueError, match=r"(?s)'transformer_layer_0' of class Llama.*Grapes"):
            kg.propagate(graph)
    plain = [np.random.default_rng(1).normal(size=v.shape) for v in model.trainable_variables]
    checks.check_step(model, [g.astype("float32") for g in plain], groups_of(model))


@pytest.mark.slow
def test_backbone_within_a_model():
    """It is not opened: its class stays, and a warning says what to do."""
    backbone = resnet()
    image = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(backbone(image))
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.Dense(8, name="hidden")(x)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        propagated = kg.propagate(model)
    told = [str(w.message) for w in caught if "leaves" in str(w.message)]
    assert len(told) == 1 and "ResNetBackbone" in told[0] and "keras.Model(layer.input" in told[0]
    assert type(propagated.layers[1]) is type(backbone)
    assert checks.wrapped(propagated) == {"hidden"}
    x = batch_of(model)
    checks.assert_equal(flat(propagated(x, training=False)), flat(model(x, training=False)))
