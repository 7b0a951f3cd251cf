"""The registered backbones, one card each.

This module does not import torch, so that names and cards can be listed without delay. Only the
card of a timm model (``timm:NAME``) loads timm, because it is made from timm's configuration.
"""

from __future__ import annotations

import json
from typing import Any

from core.errors import ModelError, unknown_name
from core.models.backbones import timm_cards
from core.models.backbones.card import CLASS_TOKEN, MAP_MEAN, BackboneCard
from core.models.backbones.timm_cards import TIMM
from core.workspace import BACKBONE_FILES

IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CLIP: dict[str, Any] = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
}

_TEST_IMAGES = (
    "Many test images of the paper's NIH split are in NIH's official training list, and the images "
    "of RSNA come from NIH. It may therefore have seen images that it is tested on."
)
_LABELLED = (
    "It was trained with labels of NIH ChestX-ray14, CheXpert and RSNA. A small label fraction of "
    "these data sets does not limit the labels it has seen, and the paper's test images may be "
    "among its training images. Compare it on other data."
)

_MEDICAL_MAE: dict[str, Any] = {
    "input_size": 224,
    "mean": 0.5056,
    "std": 0.252,
    "source": "file",
    "licence": "Not stated by the authors; the terms of the images apply.",
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
    # EVA-02 with patches of 16 pixels instead of 14.
    "arguments": {"patch_size": 16, "ref_feat_shape": (14, 14)},
    "licence": "MIT, as stated in the authors' repository; the terms of the images apply.",
    "pretraining": "Masked image modelling: predicts the features of a radiograph model (MGCA), on "
    "520,000 radiographs of NIH ChestX-ray14, CheXpert and MIMIC-CXR.",
    "paper": "Yao et al. 2024, EVA-X: A foundation model for general chest X-ray analysis with "
    "self-supervised learning (arXiv 2405.05237)",
    "leaks": "It has seen images of NIH ChestX-ray14 and CheXpert, without labels. " + _TEST_IMAGES,
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
    # Grey levels are mapped to the range -1024 to 1024.
    "mean": 0.5,
    "std": 1 / 2048,
    "pooling": MAP_MEAN,
    "licence": "Apache 2.0, as the library; the terms of the images apply.",
    "paper": "Cohen et al. 2022, TorchXRayVision: A library of chest X-ray datasets and models "
    "(arXiv 2111.00595)",
    "leaks": _LABELLED,
}

_EMBEDDED: dict[str, Any] = {
    "architecture": "vit_tiny_patch16_224",
    "input_size": 128,
    # Fixed when they were pre-trained; see core/pretraining/crops.py.
    "mean": 0.5,
    "std": 0.25,
    "source": "embedded",
    "licence": "MIT, as this software. Pre-trained on images under CC BY 4.0 (Kermany et al.) and "
    "images of the NIH Clinical Center (attribution required); the weights contain no image.",
    "url": "",
}
"""Common values of the embedded backbones."""

_EMBEDDED_LEAKS = (
    "It has seen, without labels, 3,671 training images of Kermany et al. (the source of "
    "PneumoniaMNIST's training and validation images) and 449 images of NIH ChestX-ray14. Of "
    "these 449, 66 are in NIH's official test list, 46 in the paper's validation list and none in "
    "the paper's test list; some may be in RSNA. It has seen no phantom of the data sets in this "
    "software."
)

_NORMAL_LEAKS = (
    " It has also seen, without labels, 8,773 images of the class Normal of RSNA's challenge, "
    "which are images of NIH; an unknown part of them is in NIH's official test list."
)

BACKBONES: dict[str, BackboneCard] = {
    "embedded-mae": BackboneCard(
        name="embedded-mae",
        title="ViT-Tiny MAE, embedded",
        pretraining="Masked autoencoding with this software on phantoms and training images of "
        "Kermany et al. 2018, NIH ChestX-ray14 and RSNA's class Normal; on phantoms, the tokens "
        "also learnt where they differ from the healthy patient, and where lungs, heart and tubes "
        "are. Edition 2; data, steps and command are in embedded-mae.json next to the weights.",
        paper="He et al. 2022, Masked Autoencoders Are Scalable Vision Learners (arXiv 2111.06377)",
        weights="embedded-mae.safetensors",
        leaks=_EMBEDDED_LEAKS + _NORMAL_LEAKS,
        **_EMBEDDED,
    ),
    "embedded-mrm": BackboneCard(
        name="embedded-mrm",
        title="ViT-Tiny MRM, embedded",
        pretraining="Masked record modelling, starting from edition 1 of embedded-mae: phantoms "
        "with their reports, and training images of Kermany et al. 2018 and NIH ChestX-ray14. "
        "Data, steps and command are in embedded-mrm.json next to the weights.",
        paper="Zhou et al. 2023, Advancing Radiograph Representation Learning with Masked Record "
        "Modeling (arXiv 2301.13155)",
        weights="embedded-mrm.safetensors",
        leaks=_EMBEDDED_LEAKS + " The reports name the findings of 10,000 phantoms, so on phantoms "
        "its pre-training already contains the information of labels.",
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
        licence="Not stated by the authors; the terms of the images (MIMIC-CXR-JPG) apply.",
        pretraining="Masked record modelling: predicts masked patches of the radiograph and masked "
        "words of the report, on the radiographs and reports of MIMIC-CXR-JPG.",
        paper="Zhou et al. 2023, Advancing Radiograph Representation Learning with Masked Record "
        "Modeling (arXiv 2301.13155)",
        url="https://github.com/RL4M/MRM-pytorch (the file MRM.pth)",
        leaks="It was pre-trained only on MIMIC-CXR. It has seen images of that data set, and no "
        "image of NIH, CheXpert or RSNA.",
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
            "leaks": "It has seen training images of NIH ChestX-ray14 and CheXpert, without "
            "labels. " + _TEST_IMAGES,
        }
    ),
    "medical-mae-b": BackboneCard(
        **_MEDICAL_MAE,
        name="medical-mae-b",
        title="Medical MAE ViT-B/16",
        architecture="vit_base_patch16_224",
        pretraining="The same weights as cxr-mae. The input is normalised as by the authors of the "
        "weights (mean 0.5056, std 0.252) instead of as in the paper.",
        url="https://github.com/lambert-x/medical_mae (ViT-Base/16, X-rays 0.5M, “Pretrained”)",
        leaks="It has seen training images of NIH ChestX-ray14 and CheXpert, without labels. "
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
        leaks="It has seen training images of NIH ChestX-ray14 and CheXpert, without labels. "
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
        licence="MIT; for research, not for clinical use.",
        pretraining="DINOv2 on 882,775 radiographs of MIMIC-CXR, CheXpert, NIH ChestX-ray14, "
        "PadChest and BRAX.",
        paper="Pérez-García et al. 2025, Exploring scalable medical image encoders beyond text "
        "supervision (arXiv 2401.10815)",
        url="https://huggingface.co/microsoft/rad-dino (model.safetensors, or "
        "backbone_compatible.safetensors)",
        leaks="It has seen, without labels, all 112,120 images of NIH ChestX-ray14, including the "
        "test images and the images of RSNA, and training images of CheXpert.",
    ),
    "rad-dino-maira-2": BackboneCard(
        **_RAD_DINO,
        name="rad-dino-maira-2",
        title="RAD-DINO-MAIRA-2 ViT-B/14",
        hub="microsoft/rad-dino-maira-2",
        licence="Microsoft Research licence (MSRLA): research only.",
        pretraining="DINOv2 on more radiographs than RAD-DINO: five public data sets and one "
        "private data set.",
        paper="Bannur et al. 2024, MAIRA-2: Grounded Radiology Report Generation "
        "(arXiv 2406.04449)",
        url="https://huggingface.co/microsoft/rad-dino-maira-2 (model.safetensors)",
        leaks="As for RAD-DINO, count all images of NIH ChestX-ray14 (test images and those of "
        "RSNA included) and training images of CheXpert as seen, without labels. The authors name "
        "the data sets, not the images.",
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
        pretraining="Supervised, with a teacher, on one data set after another: MIMIC-CXR, "
        "CheXpert, NIH ChestX-ray14, RSNA Pneumonia, VinDr-CXR and Shenzhen (704,363 radiographs).",
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
        # DINOv2's largest network, with registers and SwiGLU, at the width of a ViT-L/16.
        architecture="vit_giant_patch14_reg4_dinov2",
        arguments={
            "global_pool": "token",
            "fc_norm": False,
            "patch_size": 16,
            "embed_dim": 1024,
            "depth": 24,
            "num_heads": 16,
            # Each of the two halves: 2/3 of 4 widths, rounded up to a multiple of 8.
            "mlp_ratio": 2 * 2736 / 1024,
        },
        pooling=CLASS_TOKEN,
        input_size=512,
        source="file",
        licence="Apache 2.0 for the code, as DINOv2; not stated for the weights.",
        pretraining="DINOv2 on about a million radiographs of twelve public sources, including "
        "MIMIC-CXR, CheXpert, PadChest and BRAX.",
        paper="Yang et al. 2025, Chest X-ray Foundation Model with Global and Local "
        "Representations Integration (arXiv 2502.05142)",
        url="https://github.com/RPIDIAL/CheXFound (teacher_checkpoint.pth)",
        leaks="It has seen images of CheXpert, without labels. NIH ChestX-ray14 may be among its "
        "twelve sources, so count the test images of NIH as seen.",
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
        licence="MIT; intended for research.",
        pretraining="Contrastive learning on 15 million figures and captions of PubMed Central, "
        "with biomedical images of every kind.",
        paper="Zhang et al. 2023, BiomedCLIP: a multimodal biomedical foundation model pretrained "
        "from fifteen million scientific image-text pairs (arXiv 2303.00915)",
        url="https://huggingface.co/microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224 "
        "(open_clip_pytorch_model.bin)",
        leaks="Figures of papers can contain images of any public data set; their number is not "
        "known.",
    ),
    "xrv-densenet121": BackboneCard(
        **_TORCHXRAYVISION,
        name="xrv-densenet121",
        title="TorchXRayVision DenseNet-121",
        architecture="densenet121",
        input_size=224,
        pretraining="Supervised, with labels of NIH ChestX-ray14, PadChest, CheXpert, MIMIC-CXR, "
        "Google, OpenI and RSNA (densenet121-res224-all).",
        url="https://github.com/mlmed/torchxrayvision",
        obtain="The published file is a pickled model, which would run code when opened. If you "
        "trust it, save its weights: torch.save(xrv.models.DenseNet("
        "weights='densenet121-res224-all').state_dict(), 'xrv.pth').",
    ),
    "xrv-resnet50": BackboneCard(
        **_TORCHXRAYVISION,
        name="xrv-resnet50",
        title="TorchXRayVision ResNet-50",
        architecture="resnet50",
        input_size=512,
        pretraining="Supervised, with labels of PadChest, NIH ChestX-ray14, RSNA, SIIM and VinDr "
        "(resnet50-res512-all).",
        url="https://github.com/mlmed/torchxrayvision/releases "
        "(pc-nih-rsna-siim-vin-resnet50-test512-e400-state.pt)",
    ),
}
"""The registered backbones by name; any other timm model is ``timm:NAME``."""


def backbone_card(name: str) -> BackboneCard:
    """Look up a backbone.

    Args:
        name: A key of ``BACKBONES``, or ``timm:NAME`` for any timm model.

    Raises:
        ConfigurationError: There is no backbone of this name; the message lists similar names.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    if name.startswith(TIMM):
        return timm_cards.card(name, tuple(BACKBONES))
    raise unknown_name("backbone", name, [*BACKBONES, f"{TIMM}NAME"], field="model.backbone")


def provenance(name: str) -> dict[str, Any]:
    """The pre-training record of embedded weights (data, steps, loss, command), or an empty dict.

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
        record: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise ModelError(f"{path} is damaged ({error}).", "Reinstall this software.") from error
    return record
