"""Tiny models of every family that docs/models.md names, with their own processors, from config classes: no download.

The weights are random and the sizes are toys; the code that runs is the one that runs with the models of the Hub.
"""

import json

import torch
from transformers import (
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    Gemma3Config,
    Gemma3ImageProcessor,
    Gemma3Processor,
    GenerationConfig,
    GotOcr2ImageProcessor,
    Idefics3Config,
    Idefics3ImageProcessor,
    Idefics3Processor,
    InternVLConfig,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlavaConfig,
    LlavaImageProcessor,
    LlavaNextConfig,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    LlavaProcessor,
    Mistral3Config,
    PixtralImageProcessor,
    PixtralProcessor,
    Qwen2_5_VLConfig,
    Qwen2Tokenizer,
    Qwen2VLConfig,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLMoeConfig,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SmolVLMConfig,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from r1_sharevl.models.tiny import CHAT_TEMPLATE, END, PAD, START, build_tiny_processor

QWEN_TOKENS = ["<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
QWEN_PLACE = "<|vision_start|><|image_pad|><|vision_end|>"
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 1024,
}
VISION = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
MROPE = {"rope_type": "default", "rope_theta": 10.0, "mrope_section": [2, 3, 3]}
QWEN_VISION = {"depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 32}
PIXELS = {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}

_learned = {}


def tokenizer(special, named=None):
    """The tiny model's byte-level tokenizer with a family's special tokens; `named` ones become attributes."""
    if not _learned:  # learning the merges takes a second: once for all families
        _learned.update(json.loads(build_tiny_processor().tokenizer.backend_tokenizer.to_str())["model"])
    return Qwen2Tokenizer(
        vocab=dict(_learned["vocab"]),
        merges=[tuple(merge) for merge in _learned["merges"]],
        unk_token=PAD,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=[START, *special],
        model_specific_special_tokens=named or {},
        model_max_length=2048,
        padding_side="left",
    )


def template(place):
    return CHAT_TEMPLATE.replace(QWEN_PLACE, place)


def _ids(made, **fields):
    return {field: made.convert_tokens_to_ids(token) for field, token in fields.items()}


def _text(made, **settings):
    return {
        **TEXT,
        "vocab_size": len(made),
        "bos_token_id": made.pad_token_id,
        "eos_token_id": made.eos_token_id,
        "pad_token_id": made.pad_token_id,
        **settings,
    }


QWEN_IDS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}


def qwen2_vl():
    made = tokenizer(QWEN_TOKENS)
    vision = {"depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2}
    config = Qwen2VLConfig(
        text_config=_text(made, rope_parameters=MROPE), vision_config=vision, **_ids(made, **QWEN_IDS)
    )
    pictures = Qwen2VLImageProcessor(size=dict(PIXELS))
    return config, Qwen2VLProcessor(
        pictures, made, Qwen2VLVideoProcessor(size=dict(PIXELS)), chat_template=CHAT_TEMPLATE
    )


def qwen2_5_vl():
    processor = build_tiny_processor()
    vision = {**QWEN_VISION, "fullatt_block_indexes": [1]}
    text = _text(processor.tokenizer, rope_parameters=MROPE)
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, **_ids(processor.tokenizer, **QWEN_IDS)), processor


def _qwen3(config_class, **text):
    made = tokenizer(QWEN_TOKENS)
    vision = {**QWEN_VISION, "deepstack_visual_indexes": [0], "num_position_embeddings": 64, "patch_size": 16}
    rope = {**MROPE, "mrope_interleaved": True}
    config = config_class(
        text_config=_text(made, rope_parameters=rope, **text), vision_config=vision, **_ids(made, **QWEN_IDS)
    )
    bounds = {"size": {"shortest_edge": 64 * 64, "longest_edge": 96 * 96}, "patch_size": 16}
    pictures = Qwen2VLImageProcessor(**bounds)
    return config, Qwen3VLProcessor(pictures, made, Qwen3VLVideoProcessor(**bounds), chat_template=CHAT_TEMPLATE)


def qwen3_vl():
    return _qwen3(Qwen3VLConfig)


def qwen3_vl_moe():
    return _qwen3(
        Qwen3VLMoeConfig, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24, decoder_sparse_step=1
    )


def _clip():
    return CLIPVisionConfig(**VISION, image_size=28, patch_size=14, projection_dim=16)


def llava():
    made = tokenizer([], {"image_token": "<image>"})
    config = LlavaConfig(
        text_config={**_text(made), "model_type": "llama"},
        vision_config=_clip(),
        image_token_index=made.image_token_id,
        image_seq_length=4,
    )
    pictures = LlavaImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    return config, LlavaProcessor(
        pictures,
        made,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template("<image>"),
    )


def llava_next():
    made = tokenizer([], {"image_token": "<image>"})
    grids = [[28, 56], [56, 28], [56, 56]]
    config = LlavaNextConfig(
        text_config={**_text(made), "model_type": "llama"},
        vision_config=_clip(),
        image_token_index=made.image_token_id,
        image_grid_pinpoints=grids,
    )
    pictures = LlavaNextImageProcessor(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, image_grid_pinpoints=grids
    )
    return config, LlavaNextProcessor(
        pictures,
        made,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template("<image>"),
    )


def llava_onevision():
    made = tokenizer([], {"image_token": "<image>", "video_token": "<video>"})
    grids = [[28, 28], [28, 56], [56, 28], [56, 56]]
    config = LlavaOnevisionConfig(
        text_config={**_text(made), "model_type": "qwen2"},
        vision_config={**VISION, "model_type": "siglip_vision_model", "image_size": 28, "patch_size": 14},
        image_token_index=made.image_token_id,
        video_token_index=made.video_token_id,
        image_grid_pinpoints=grids,
    )
    size = {"height": 28, "width": 28}
    return config, LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=grids),
        made,
        LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=template("<image>"),
    )


def gemma3():
    made = tokenizer(
        [], {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    )
    config = Gemma3Config(
        text_config=_text(made, sliding_window=512, query_pre_attn_scalar=16),
        vision_config={**VISION, "image_size": 56, "patch_size": 14, "vision_use_head": False},
        mm_tokens_per_image=4,
        image_token_index=made.image_token_id,
        boi_token_index=made.boi_token_id,
        eoi_token_index=made.eoi_token_id,
    )
    pictures = Gemma3ImageProcessor(size={"height": 56, "width": 56})
    return config, Gemma3Processor(pictures, made, chat_template=template("<start_of_image>"), image_seq_length=4)


def internvl():
    made = tokenizer(
        [],
        {
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    )
    config = InternVLConfig(
        text_config={**_text(made), "model_type": "qwen2"},
        vision_config={**VISION, "image_size": [56, 56], "patch_size": [14, 14]},
        image_token_id=made.context_image_token_id,
        image_seq_length=4,
    )
    size = {"height": 56, "width": 56}
    return config, InternVLProcessor(
        GotOcr2ImageProcessor(size=size, max_patches=2),
        made,
        InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=template("<IMG_CONTEXT>"),
    )


def _idefics(config_class):
    rows = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    made = tokenizer(["<fake_token_around_image>", "<image>", "<global-img>", "<end_of_utterance>", *rows])
    config = config_class(
        text_config={**_text(made), "model_type": "llama"},
        vision_config={**VISION, "image_size": 28, "patch_size": 14},
        image_token_id=made.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    return config, made, {"size": {"longest_edge": 56}, "max_image_size": {"longest_edge": 28}}


def idefics3():
    config, made, size = _idefics(Idefics3Config)
    pictures = Idefics3ImageProcessor(**size)
    return config, Idefics3Processor(pictures, made, image_seq_len=1, chat_template=template("<image>"))


def smolvlm():
    config, made, size = _idefics(SmolVLMConfig)
    films = SmolVLMVideoProcessor(
        **size, video_sampling={"fps": 1, "max_frames": 2, "video_size": {"longest_edge": 28}}
    )
    return config, SmolVLMProcessor(
        SmolVLMImageProcessor(**size), made, films, image_seq_len=1, chat_template=template("<image>")
    )


def mistral3():
    made = tokenizer(["[IMG]", "[IMG_BREAK]", "[IMG_END]"])
    config = Mistral3Config(
        text_config={**_text(made), "model_type": "mistral"},
        vision_config={**VISION, "model_type": "pixtral", "image_size": 56, "patch_size": 14, "head_dim": 8},
        image_token_index=made.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=2,
    )
    pictures = PixtralImageProcessor(size={"longest_edge": 56}, patch_size={"height": 28, "width": 28})
    return config, PixtralProcessor(
        pictures, made, patch_size=14, spatial_merge_size=2, chat_template=template("[IMG]")
    )


FAMILIES = {
    build.__name__: build
    for build in (
        qwen2_vl,
        qwen2_5_vl,
        qwen3_vl,
        qwen3_vl_moe,
        llava,
        llava_next,
        llava_onevision,
        gemma3,
        internvl,
        idefics3,
        smolvlm,
        mistral3,
    )
}


def save_family(name, folder):
    """Write a checkpoint of a family's tiny model, float32 and seeded, with its processor."""
    config, processor = FAMILIES[name]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_config(config)
        for parameter in model.parameters():
            if parameter.ndim > 1:  # transformers' default (0.02) is too small for a toy: no image would matter
                torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    made = processor.tokenizer
    model.generation_config = GenerationConfig(eos_token_id=made.eos_token_id, pad_token_id=made.pad_token_id)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
