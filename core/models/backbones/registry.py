"""Every backbone, one card each.

Nothing here imports torch, so that names and cards can be listed at once; only the card of a timm
model (``timm:NAME``), which comes from timm's own configuration, has to load timm.
"""

from __future__ import annotations

import json
from typing import Any

from core.errors import ModelError, unknown_name
from core.models.backbones import timm_cards
from core.models.backbones.card import CLASS_TOKEN, MAP_MEAN, WEIGHTS, BackboneCard
from core.models.backbones.timm_cards import SUGGESTED, TIMM
from core.workspace import BACKBONE_FILES

__all__ = [
    "BACKBONES",
    "SUGGESTED",
    "TIMM",
    "WEIGHTS",
    "BackboneCard",
    "backbone_card",
    "provenance",
]

IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CLIP: dict[str, Any] = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
}

_TEST_IMAGES = (
    "Many test images of the study's NIH split are in NIH's own training list, and RSNA's images "
    "are NIH's, so it may have seen images it is tested on."
)
_LABELLED = (
    "It was trained with labels of NIH ChestX-ray14, CheXpert and RSNA. Few labels of these are no "
    "few labels to it, and the study's test images may be among them: compare it on other data."
)

_MEDICAL_MAE: dict[str, Any] = {
    "input_size": 224,
    "mean": 0.5056,
    "std": 0.252,
    "source": "file",
    "licence": "Not stated by the authors; the images' own terms apply.",
    "paper": "Xiao et al. 2023, Delving into Masked Autoencoders for Multi-Label Thorax Disease "
    "Classification (arXiv 2210.12843)",
    "eval_resize": 256,
}
_EVA_X: dict[str, Any] = {
    "input_size": 224,
    "mean": 0.49185243,
    "std": 0.28509309,
    "source": "hub",
    "hub": "MapleF/eva_x",
    # EVA-02 with patches of 16 instead of 14 pixels.
    "arguments": {"patch_size": 16, "ref_feat_shape": (14, 14)},
    "licence": "MIT, as the authors' repository; the images' own terms apply.",
    "pretraining": "Masked image modelling against the features of a radiograph model (MGCA), on "
    "520,000 radiographs of NIH ChestX-ray14, CheXpert and MIMIC-CXR.",
    "paper": "Yao et al. 2024, EVA-X: A foundation model for general chest X-ray analysis with "
    "self-supervised learning (arXiv 2405.05237)",
    "leaks": "It has seen, without labels, images of NIH ChestX-ray14 and CheXpert. "
    + _TEST_IMAGES,
    "eval_resize": 256,
}
_RAD_DINO: dict[str, Any] = {
    "architecture": "vit_base_patch14_dinov2",
    "arguments": {"global_pool": "token", "fc_norm": False},
    "pooling": CLASS_TOKEN,
    "input_size": 518,
    "mean": 0.5307,
    "std": 0.2583,
    "source": "hub",
}
_TORCHXRAYVISION: dict[str, Any] = {
    "source": "file",
    "channels": 1,
    # Grey levels become -1024 to 1024.
    "mean": 0.5,
    "std": 1 / 2048,
    "pooling": MAP_MEAN,
    "licence": "Apache 2.0, as the library; the images' own terms apply.",
    "paper": "Cohen et al. 2022, TorchXRayVision: A library of chest X-ray datasets and models "
    "(arXiv 2111.00595)",
    "leaks": _LABELLED,
}

_EMBEDDED: dict[str, Any] = {
    "architecture": "vit_tiny_patch16_224",
    "input_size": 128,
    # Fixed when they were pre-trained, see core/models/crops.py.
    "mean": 0.5,
    "std": 0.25,
    "source": "embedded",
    "licence": "MIT, as this software. They learnt from pictures under CC BY 4.0 (Kermany et al.) "
    "and from pictures of the NIH Clinical Center (attribution); none is in them.",
    "url": "",
}
"""What the shipped backbones have in common."""

_EMBEDDED_LEAKS = (
    "It has seen, without labels, 3,671 training pictures of Kermany et al. (PneumoniaMNIST's "
    "training and validation pictures are from the same part) and 449 of NIH ChestX-ray14; of "
    "these, 66 stand in NIH's own test list, 46 in the paper's validation list and none in the "
    "paper's test list, and some may be in RSNA's set. It has seen no phantom of the data sets "
    "offered here."
)

BACKBONES: dict[str, BackboneCard] = {
    "embedded-mae": BackboneCard(
        name="embedded-mae",
        title="ViT-Tiny MAE, embedded",
        pretraining="Masked autoencoding of phantoms, then of phantoms and of training pictures of "
        "Kermany et al. 2018 and NIH ChestX-ray14, made with this software; embedded-mae.json "
        "beside the weights tells data, steps and command.",
        paper="He et al. 2022, Masked Autoencoders Are Scalable Vision Learners (arXiv 2111.06377)",
        weights="embedded-mae.safetensors",
        leaks=_EMBEDDED_LEAKS,
        **_EMBEDDED,
    ),
    "embedded-mrm": BackboneCard(
        name="embedded-mrm",
        title="ViT-Tiny MRM, embedded",
        pretraining="Masked records, from embedded-mae on: the same pictures, and the phantoms’ "
        "reports; embedded-mrm.json beside the weights tells data, steps and command.",
        paper="Zhou et al. 2023, Advancing Radiograph Representation Learning with Masked Record "
        "Modeling (arXiv 2301.13155)",
        weights="embedded-mrm.safetensors",
        leaks=_EMBEDDED_LEAKS + " The reports it read name the findings of 10,000 phantoms, so on "
        "phantoms it starts with what labels tell.",
        **_EMBEDDED,
    ),
    "mrm": BackboneCard(
        name="mrm",
        title="MRM ViT-B/16",
        architecture="vit_base_patch16_224",
        input_size=224,
        mean=0.4978,
        std=0.2449,
        source="file",
        licence="Not stated by the authors; the images' own terms (MIMIC-CXR-JPG) apply.",
        pretraining="Masked records: masked patches and masked words of the report, on the "
        "radiographs and reports of MIMIC-CXR-JPG.",
        paper="Zhou et al. 2023, Advancing Radiograph Representation Learning with Masked Record "
        "Modeling (arXiv 2301.13155)",
        url="https://github.com/RL4M/MRM-pytorch (the file MRM.pth)",
        leaks="Pre-trained on MIMIC-CXR alone: it has seen the images of that data set, and none "
        "of NIH, CheXpert or RSNA.",
    ),
    "cxr-mae": BackboneCard(
        **_MEDICAL_MAE
        | {
            "name": "cxr-mae",
            "title": "CXR-MAE ViT-B/16",
            "architecture": "vit_base_patch16_224",
            "mean": 0.4785,
            "std": 0.2834,
            "pretraining": "Masked autoencoding of 0.5 million radiographs of NIH ChestX-ray14, "
            "CheXpert and MIMIC-CXR.",
            "url": "https://github.com/lambert-x/medical_mae (ViT-Base/16, X-rays 0.5M, "
            "“Pretrained”)",
            "leaks": "It has seen, without labels, training images of NIH ChestX-ray14 and "
            "CheXpert. " + _TEST_IMAGES,
        }
    ),
    "medical-mae-b": BackboneCard(
        **_MEDICAL_MAE,
        name="medical-mae-b",
        title="Medical MAE ViT-B/16",
        architecture="vit_base_patch16_224",
        pretraining="The same weights as cxr-mae, fed as their authors feed them (mean 0.5056, "
        "std 0.252) instead of as the study does.",
        url="https://github.com/lambert-x/medical_mae (ViT-Base/16, X-rays 0.5M, “Pretrained”)",
        leaks="It has seen, without labels, training images of NIH ChestX-ray14 and CheXpert. "
        + _TEST_IMAGES,
    ),
    "medical-mae-s": BackboneCard(
        **_MEDICAL_MAE,
        name="medical-mae-s",
        title="Medical MAE ViT-S/16",
        architecture="vit_small_patch16_224",
        pretraining="Masked autoencoding of 0.3 million radiographs of NIH ChestX-ray14 and "
        "CheXpert.",
        url="https://github.com/lambert-x/medical_mae (ViT-Small/16, X-rays 0.3M, “Pretrained”: "
        "vit-s_CXR_0.3M_mae.pth)",
        leaks="It has seen, without labels, training images of NIH ChestX-ray14 and CheXpert. "
        + _TEST_IMAGES,
    ),
    "eva-x-tiny": BackboneCard(
        **_EVA_X,
        name="eva-x-tiny",
        title="EVA-X ViT-Ti/16",
        architecture="eva02_tiny_patch14_224",
        hub_files=("eva_x_tiny_patch16_merged520k_mim.pt",),
        url="https://huggingface.co/MapleF/eva_x (eva_x_tiny_patch16_merged520k_mim.pt)",
    ),
    "eva-x-small": BackboneCard(
        **_EVA_X,
        name="eva-x-small",
        title="EVA-X ViT-S/16",
        architecture="eva02_small_patch14_224",
        hub_files=("eva_x_small_patch16_merged520k_mim.pt",),
        url="https://huggingface.co/MapleF/eva_x (eva_x_small_patch16_merged520k_mim.pt)",
    ),
    "eva-x-base": BackboneCard(
        **_EVA_X,
        name="eva-x-base",
        title="EVA-X ViT-B/16",
        architecture="eva02_base_patch14_224",
        hub_files=("eva_x_base_patch16_merged520k_mim.pt",),
        url="https://huggingface.co/MapleF/eva_x (eva_x_base_patch16_merged520k_mim.pt)",
    ),
    "rad-dino": BackboneCard(
        **_RAD_DINO,
        name="rad-dino",
        title="RAD-DINO ViT-B/14",
        hub="microsoft/rad-dino",
        licence="MIT; shared for research, not for clinical use.",
        pretraining="DINOv2 on 882,775 radiographs of MIMIC-CXR, CheXpert, NIH ChestX-ray14, "
        "PadChest and BRAX.",
        paper="Pérez-García et al. 2025, Exploring scalable medical image encoders beyond text "
        "supervision (arXiv 2401.10815)",
        url="https://huggingface.co/microsoft/rad-dino (model.safetensors, or "
        "backbone_compatible.safetensors)",
        leaks="It has seen, without labels, all 112,120 images of NIH ChestX-ray14, test images "
        "included, and so RSNA's, and training images of CheXpert.",
    ),
    "rad-dino-maira-2": BackboneCard(
        **_RAD_DINO,
        name="rad-dino-maira-2",
        title="RAD-DINO-MAIRA-2 ViT-B/14",
        hub="microsoft/rad-dino-maira-2",
        licence="Microsoft Research licence (MSRLA): research only.",
        pretraining="DINOv2 on more radiographs than RAD-DINO: five public data sets and a private "
        "one.",
        paper="Bannur et al. 2024, MAIRA-2: Grounded Radiology Report Generation "
        "(arXiv 2406.04449)",
        url="https://huggingface.co/microsoft/rad-dino-maira-2 (model.safetensors)",
        leaks="As RAD-DINO, which saw all of NIH ChestX-ray14, test images included, and so "
        "RSNA's, and training images of CheXpert; the authors name the sets, not the images.",
    ),
    "ark": BackboneCard(
        **IMAGENET,
        name="ark",
        title="Ark Swin-B",
        architecture="swin_base_patch4_window7_224",
        input_size=224,
        pooling=MAP_MEAN,
        source="file",
        licence="ASU GitHub Project License of Arizona State University: for research.",
        pretraining="Supervised, in turn by the labels of MIMIC-CXR, CheXpert, NIH ChestX-ray14, "
        "RSNA Pneumonia, VinDr-CXR and Shenzhen (704,363 radiographs), with a teacher.",
        paper="Ma et al. 2023, Foundation Ark: Accruing and Reusing Knowledge for Superior and "
        "Robust Performance (arXiv 2310.09507)",
        url="https://github.com/jlianglab/Ark (a form; "
        "ark6_teacher_ep200_swinb_projector1376_mlp.pth.tar)",
        leaks=_LABELLED,
    ),
    "chexfound": BackboneCard(
        **IMAGENET,
        name="chexfound",
        title="CheXFound ViT-L/16",
        # DINOv2's largest network, with its registers and its SwiGLU, at the width of a ViT-L/16.
        architecture="vit_giant_patch14_reg4_dinov2",
        arguments={
            "global_pool": "token",
            "fc_norm": False,
            "patch_size": 16,
            "embed_dim": 1024,
            "depth": 24,
            "num_heads": 16,
            # Two thirds of four widths, rounded up to a multiple of 8, once for each half.
            "mlp_ratio": 2 * 2736 / 1024,
        },
        pooling=CLASS_TOKEN,
        input_size=512,
        source="file",
        licence="The code's is Apache 2.0, as DINOv2's; none is stated for the weights.",
        pretraining="DINOv2 on about a million radiographs of twelve public sources, MIMIC-CXR, "
        "CheXpert, PadChest and BRAX among them.",
        paper="Yang et al. 2025, Chest X-ray Foundation Model with Global and Local "
        "Representations Integration (arXiv 2502.05142)",
        url="https://github.com/RPIDIAL/CheXFound (teacher_checkpoint.pth)",
        leaks="It has seen, without labels, images of CheXpert; of twelve public sources NIH "
        "ChestX-ray14 may be one, so count its test images as seen.",
    ),
    "biomedclip": BackboneCard(
        **CLIP,
        name="biomedclip",
        title="BiomedCLIP ViT-B/16",
        architecture="vit_base_patch16_224",
        arguments={"global_pool": "token", "fc_norm": False},
        pooling=CLASS_TOKEN,
        input_size=224,
        source="hub",
        hub="microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        hub_files=("open_clip_pytorch_model.bin", "open_clip_model.safetensors"),
        licence="MIT; meant for research.",
        pretraining="Contrastive learning of 15 million figures and captions of PubMed Central, of "
        "every kind of biomedical picture.",
        paper="Zhang et al. 2023, BiomedCLIP: a multimodal biomedical foundation model pretrained "
        "from fifteen million scientific image-text pairs (arXiv 2303.00915)",
        url="https://huggingface.co/microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224 "
        "(open_clip_pytorch_model.bin)",
        leaks="Figures of papers can show images of any public data set; how many is not known.",
    ),
    "xrv-densenet121": BackboneCard(
        **_TORCHXRAYVISION,
        name="xrv-densenet121",
        title="TorchXRayVision DenseNet-121",
        architecture="densenet121",
        input_size=224,
        pretraining="Supervised, by the labels of NIH ChestX-ray14, PadChest, CheXpert, MIMIC-CXR, "
        "Google, OpenI and RSNA (densenet121-res224-all).",
        url="https://github.com/mlmed/torchxrayvision",
        obtain="Its release is a pickled model, which would run code; where you trust it, save its "
        "weights: torch.save(xrv.models.DenseNet(weights='densenet121-res224-all').state_dict(), "
        "'xrv.pth').",
    ),
    "xrv-resnet50": BackboneCard(
        **_TORCHXRAYVISION,
        name="xrv-resnet50",
        title="TorchXRayVision ResNet-50",
        architecture="resnet50",
        input_size=512,
        pretraining="Supervised, by the labels of PadChest, NIH ChestX-ray14, RSNA, SIIM and VinDr "
        "(resnet50-res512-all).",
        url="https://github.com/mlmed/torchxrayvision/releases "
        "(pc-nih-rsna-siim-vin-resnet50-test512-e400-state.pt)",
    ),
}
"""The backbones with a name of their own; any other timm model is ``timm:NAME``."""


def backbone_card(name: str) -> BackboneCard:
    """Look up a backbone.

    Args:
        name: A key of ``BACKBONES``, or ``timm:NAME`` for any of timm's models.

    Raises:
        ConfigurationError: There is none of that name; the nearest known ones are told.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    if name.startswith(TIMM):
        return timm_cards.card(name, tuple(BACKBONES))
    raise unknown_name("backbone", name, [*BACKBONES, f"{TIMM}NAME"], field="model.backbone")


def provenance(name: str) -> dict[str, Any]:
    """What the card beside shipped weights says (data, steps, loss, command); empty if none is.

    Args:
        name: A backbone's name.

    Raises:
        ModelError: The file is damaged.
    """
    weights = backbone_card(name).weights
    if weights is None:
        return {}
    path = (BACKBONE_FILES / weights).with_suffix(".json")
    if not path.exists():
        return {}
    try:
        told: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise ModelError(f"{path} is damaged ({error}).", "Install this software anew.") from error
    return told
