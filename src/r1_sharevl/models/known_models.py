"""Configs of well-known models, for planning a run without a network.

Only what decides sizes: the values of the public model cards, written down here and checked by counting parameters (the
tests compare the totals with the published ones). Everything else is transformers' default.
"""

from typing import Any

from transformers import PreTrainedConfig, Qwen2_5_VLConfig, Qwen2VLConfig, Qwen3VLConfig


def _qwen2_vl(hidden: int, layers: int, heads: int, kv_heads: int, mlp: int, vocabulary: int, tied: bool) -> Any:
    return Qwen2VLConfig(
        text_config=_text(hidden, layers, heads, kv_heads, mlp, vocabulary),
        vision_config={"depth": 32, "embed_dim": 1280, "hidden_size": hidden, "num_heads": 16},
        tie_word_embeddings=tied,
        architectures=["Qwen2VLForConditionalGeneration"],
        dtype="bfloat16",
    )


def _qwen2_5_vl(
    hidden: int, layers: int, heads: int, kv_heads: int, mlp: int, vocabulary: int, vision_mlp: int, tied: bool = False
) -> Any:
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": vision_mlp, "num_heads": 16}
    return Qwen2_5_VLConfig(
        text_config=_text(hidden, layers, heads, kv_heads, mlp, vocabulary),
        vision_config={**vision, "out_hidden_size": hidden},
        tie_word_embeddings=tied,
        architectures=["Qwen2_5_VLForConditionalGeneration"],
        dtype="bfloat16",
    )


def _qwen3_vl(hidden: int, layers: int, heads: int, mlp: int, *, small_vision: bool, tied: bool) -> Any:
    vision = (
        {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "deepstack_visual_indexes": [5, 11, 17]}
        if small_vision
        else {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "deepstack_visual_indexes": [8, 16, 24]}
    )
    return Qwen3VLConfig(
        text_config={**_text(hidden, layers, heads, 8, mlp, 151936), "head_dim": 128},
        vision_config={**vision, "num_heads": 16, "out_hidden_size": hidden},
        tie_word_embeddings=tied,
        architectures=["Qwen3VLForConditionalGeneration"],
        dtype="bfloat16",
    )


def _text(hidden: int, layers: int, heads: int, kv_heads: int, mlp: int, vocabulary: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": mlp,
        "vocab_size": vocabulary,
    }


_BUILDERS: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {
    "Qwen2-VL-2B": (_qwen2_vl, (1536, 28, 12, 2, 8960, 151936, True), {}),
    "Qwen2-VL-7B": (_qwen2_vl, (3584, 28, 28, 4, 18944, 152064, False), {}),
    "Qwen2.5-VL-3B": (_qwen2_5_vl, (2048, 36, 16, 2, 11008, 151936, 3420), {"tied": True}),
    "Qwen2.5-VL-7B": (_qwen2_5_vl, (3584, 28, 28, 4, 18944, 152064, 3420), {}),
    "Qwen2.5-VL-32B": (_qwen2_5_vl, (5120, 64, 40, 8, 27648, 152064, 3456), {}),
    "Qwen2.5-VL-72B": (_qwen2_5_vl, (8192, 80, 64, 8, 29568, 152064, 3456), {}),
    "Qwen3-VL-2B": (_qwen3_vl, (2048, 28, 16, 6144), {"small_vision": True, "tied": True}),
    "Qwen3-VL-4B": (_qwen3_vl, (2560, 36, 32, 9728), {"small_vision": True, "tied": True}),
    "Qwen3-VL-8B": (_qwen3_vl, (4096, 36, 32, 12288), {"small_vision": False, "tied": False}),
    "Qwen3-VL-32B": (_qwen3_vl, (5120, 64, 64, 25600), {"small_vision": False, "tied": False}),
}

KNOWN_MODELS = tuple(_BUILDERS)
"""Names without the organisation and without `-Instruct` or `-Thinking`."""

PIXEL_BOUNDS = {"qwen2_vl": (3136, 12845056), "qwen2_5_vl": (3136, 12845056), "qwen3_vl": (65536, 16777216)}
"""Per model type, the smallest and largest number of pixels that the published image processors leave alone."""


def known_config(name: str) -> PreTrainedConfig | None:
    """Return the config of a well-known model, or None.

    Args:
        name: Hub id such as `Qwen/Qwen2.5-VL-3B-Instruct`; the organisation and the ending do not matter.
    """
    short = name.rstrip("/").rsplit("/", 1)[-1]
    for ending in ("-Instruct", "-Thinking"):
        short = short.removesuffix(ending)
    if short not in _BUILDERS:
        return None
    build, values, settings = _BUILDERS[short]
    config: PreTrainedConfig = build(*values, **settings)
    return config
