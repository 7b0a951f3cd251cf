# %% [markdown]
# # LoRA, taken apart
#
# **You will learn** to write LoRA yourself in thirty lines, to check it against two other programs,
# and to say what rank, alpha, dropout and targets do to a model and to a file. Then you look at what
# full fine-tuning changed and ask how many ranks that would have taken.
#
# **It takes** about two minutes of computing on two cores, and half an hour of reading.
#
# **For research and education, not for clinical use.** The runs below are written to your workspace,
# so that the explorer shows them too. On [Colab](https://colab.research.google.com/): upload this
# file, put the wheel that `pip wheel --no-deps .` makes beside it, and run from the top.

# %%
import importlib.util

# On Colab; does nothing where the explorer is installed.
if importlib.util.find_spec("core") is None:
    # %pip install --quiet cxr_peft_explorer-0.1.0-py3-none-any.whl

# %%
import copy
import math
import os
import warnings

warnings.filterwarnings("ignore", message="IProgress not found")  # no progress widgets needed

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import peft
import torch
from IPython.display import HTML, display
from torch import nn

from core.data.phantoms.dataset import Phantom
from core.data.datasets.write_folder import save
from core.evaluation.evaluate import evaluate_run
from core.training.run_here import run_in_process
from core.models import adapters, backbones, catalogue
from core.runs.store import open_store
from core.config.run import AdapterSpec, RunSpec
from core.classifier.build import build_classifier
from core.classifier.trained import load_trained
from core.workspace import open_workspace
from explorer.figures.dots import Point, cost_and_score
from explorer.figures.palette import method_style
from explorer.figures.standalone import picture

FAST = os.environ.get("CXR_FAST") == "1"  # a first look: too short to learn anything from
STUDIES = {"train": 24, "val": 16, "test": 24} if FAST else {"train": 400, "val": 100, "test": 300}
EPOCHS = 1 if FAST else 6

workspace = open_workspace()  # CXR_WORKSPACE, or a folder of your own
store = open_store(workspace, create=True)
torch.manual_seed(0);


# %% [markdown]
# ## 1 · Thirty lines
#
# A linear layer computes $Wx + b$. LoRA freezes $W$ and learns a second, thin path beside it:
#
# $$Wx + b + \frac{\alpha}{r}\,B A x,\qquad A \in \mathbb{R}^{r \times d},\; B \in \mathbb{R}^{d \times r}.$$
#
# $B$ starts at zero, so that the tuned model starts as the backbone. The study adapts the **query**
# and the **value** of every block and leaves the key alone. timm computes the three by one fused
# matrix; the class below stands in for it and adds an update to the first and the last third.

# %%
class Update(nn.Module):
    """The thin path of one projection: scale × B A x."""

    def __init__(self, width, rank, alpha, dropout=0.0):
        super().__init__()
        self.A = nn.Parameter(torch.empty(rank, width))
        self.B = nn.Parameter(torch.zeros(width, rank))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        self.dropout, self.scale = nn.Dropout(dropout), alpha / rank

    def forward(self, x):
        return self.scale * (self.dropout(x) @ self.A.T @ self.B.T)


class ByHand(nn.Module):
    """timm's fused query-key-value layer, with updates of query and value."""

    def __init__(self, qkv, rank, alpha, dropout=0.0):
        super().__init__()
        self.qkv = qkv.requires_grad_(False)
        self.q_update = Update(qkv.in_features, rank, alpha, dropout)
        self.v_update = Update(qkv.in_features, rank, alpha, dropout)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return torch.cat([q + self.q_update(x), k, v + self.v_update(x)], dim=-1)


RANK, ALPHA, BLOCK = 4, 32.0, 6
card = catalogue.card("embedded-mae")
backbone, _ = backbones.build(card, findings=5, input_size=64)
backbone.eval()
by_hand = copy.deepcopy(backbone)
by_hand.blocks[BLOCK].attn.qkv = ByHand(by_hand.blocks[BLOCK].attn.qkv, RANK, ALPHA)
sum(p.numel() for p in by_hand.blocks[BLOCK].attn.qkv.parameters() if p.requires_grad)

# %% [markdown]
# ## 2 · The same by the explorer, and by plain peft
#
# The explorer splits the fused layer into three and lets peft adapt two of them. We copy our $A$ and
# an arbitrary $B$ into its model. Plain peft knows only the fused layer; two updates of rank 4 on
# thirds of it are *one* update of rank 8 with zeros in the right places:
#
# $$\begin{pmatrix} B_q & 0 \\ 0 & 0 \\ 0 & B_v \end{pmatrix} \begin{pmatrix} A_q \\ A_v \end{pmatrix}.$$
#
# That is also how the explorer exports an adapter. If all three give the same answer, we have
# understood it.

# %%
ours = by_hand.blocks[BLOCK].attn.qkv
with torch.no_grad():  # any B but zero
    for update in (ours.q_update, ours.v_update):
        update.B.normal_(std=0.02)

spec = AdapterSpec(method="lora", rank=RANK, alpha=ALPHA, dropout=0.0, blocks=str(BLOCK))
by_explorer = adapters.apply(copy.deepcopy(backbone), spec)
split = by_explorer.blocks[BLOCK].attn.qkv
by_peft = peft.get_peft_model(
    copy.deepcopy(backbone),
    peft.LoraConfig(r=2 * RANK, lora_alpha=2 * ALPHA, target_modules=[f"blocks.{BLOCK}.attn.qkv"]),
)
fused = by_peft.base_model.model.blocks[BLOCK].attn.qkv

with torch.no_grad():
    for layer, update in ((split.q, ours.q_update), (split.v, ours.v_update)):
        layer.lora_A["default"].weight.copy_(update.A)
        layer.lora_B["default"].weight.copy_(update.B)
    width = backbone.embed_dim
    fused.lora_A["default"].weight.copy_(torch.cat([ours.q_update.A, ours.v_update.A]))
    B = torch.zeros(3 * width, 2 * RANK)
    B[:width, :RANK], B[2 * width :, RANK:] = ours.q_update.B, ours.v_update.B
    fused.lora_B["default"].weight.copy_(B)

chests = Phantom("phantom-5", train=1, val=1, test=4, size=64)
pixels = torch.stack([torch.from_numpy(chests.read(one)) for one in chests.ids("test")])
pixels = ((pixels / 255 - card.mean) / card.std)[:, None].repeat(1, 3, 1, 1)


def features(model):
    """What the classifier is given, for each patch; its own weights start near zero."""
    with torch.inference_mode():
        return model.eval().forward_features(pixels)


answers = {
    "backbone": features(backbone),
    "by hand": features(by_hand),
    "explorer": features(by_explorer),
    "plain peft": features(by_peft.base_model.model),
}
gaps = {
    name: f"{float((answer - answers['by hand']).abs().max()):.1e}"
    for name, answer in answers.items()
}
for name in ("explorer", "plain peft"):
    torch.testing.assert_close(answers[name], answers["by hand"], rtol=1e-4, atol=1e-4)
display(pd.Series(gaps, name="largest difference from ours").to_frame())

# %% [markdown]
# The first row is how far the update moved the features; the others are rounding.
#
# ## 3 · What rank and targets cost
#
# Each adapted projection of width $d$ has $2dr$ parameters, whatever stands behind it. The counts
# below are made without allocating the model, so the study's ViT-B/16 costs nothing either: its row
# *LoRA r 4* is the 0.186% of the paper. On disk an adapter takes four bytes a parameter.

# %%
WAYS = {
    "linear": AdapterSpec(method="linear"),
    "LoRA r 1": AdapterSpec(rank=1),
    "LoRA r 4": AdapterSpec(rank=4),
    "LoRA r 32": AdapterSpec(rank=32),
    "LoRA r 4, all layers": AdapterSpec(rank=4, targets="all"),
    "full": AdapterSpec(method="full"),
}
rows = {}
for name, way in WAYS.items():
    for backbone_name in ("embedded-mae", "mrm"):
        one = adapters.count(catalogue.card(backbone_name), way, 14)
        rows.setdefault(name, {})[f"{backbone_name}: parameters"] = f"{one.trainable:,}"
        rows[name][f"{backbone_name}: share"] = f"{one.share:.3%}"
        rows[name][f"{backbone_name}: file"] = f"{4 * one.trainable / 1e6:,.2f} MB"
display(pd.DataFrame.from_dict(rows, orient="index"))


# %% [markdown]
# ## 4 · What alpha and dropout do
#
# Only the quotient $\alpha / r$ enters. Below, the same $A$ and $B$ with other alphas: the change of
# the features grows in proportion, as a larger learning rate would have made it. So when you raise the
# rank at a fixed alpha, you also turn the update down; compare ranks with that in mind (`rslora`
# divides by $\sqrt{r}$ instead). Dropout hides inputs of the thin path alone, in training alone: the
# scatter on the right is the same picture answered twenty times.

# %%
def moved(alpha, dropout=0.0, times=1):
    """Mean change of the features, once for each pass."""
    model = copy.deepcopy(by_hand)
    layer = model.blocks[BLOCK].attn.qkv
    for update in (layer.q_update, layer.v_update):
        update.scale, update.dropout = alpha / RANK, nn.Dropout(dropout)
    layer.train()
    with torch.inference_mode():
        each = (model.forward_features(pixels) for _ in range(times))
        return [float((one - answers["backbone"]).abs().mean()) for one in each]


alphas = [1, 4, 8, 16, 32, 64]
sheet, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
style = method_style("lora")
left.plot(alphas, [moved(a)[0] for a in alphas], "o-", color=style.colour)
left.set(xlabel="alpha (rank 4)", ylabel="mean change of the features")
for place, dropout in enumerate((0.0, 0.1, 0.5)):
    each = moved(ALPHA, dropout, times=20)
    right.plot([place] * len(each), each, ".", color=style.colour, alpha=0.5)
right.set_xticks(range(3), ["0", "0.1", "0.5"])
right.set(xlabel="dropout, alpha 32", xlim=(-0.5, 2.5));

# %% [markdown]
# ## 5 · How low is the rank of what full fine-tuning learns?
#
# LoRA bets that the change of a weight matrix has a low rank. We can look: train all weights and,
# beside it, LoRA of rank 4, on small phantoms with five findings, and take the singular values of
# $\Delta W = W_\text{tuned} - W_\text{before}$ of every query and value.

# %%
folder = save(
    Phantom("phantom-5", size=96, **STUDIES),
    workspace.root / "tutorials" / f"phantoms-{STUDIES['train']}",
)
settings = {
    "data.name": "folder",
    "data.root": folder,
    "data.called": "tutorial phantoms",
    "data.label_fraction": 1.0,
    "model.input_size": 64,
    "train.epochs": EPOCHS,
}
specs = {
    method: RunSpec.of(**settings, **{"adapter.method": method, "adapter.rank": 4})
    for method in ("lora", "full")
}
runs = {method: carry_out(spec, store, workspace) for method, spec in specs.items()}

points = [
    Point(method, run.trainable, score, method_style(method), f"{method}: {score.value:.3f}")
    for method, run in runs.items()
    for score in [evaluate(workspace.run(run.id), groups=False).macro]
]
HTML(picture(cost_and_score(points, title="Test AUROC against what trains")))


# %%
def changes(method):
    """What training changed of query and value, block by block: matrices of shape (width, width)."""
    tuned = adapters.merge(load_trained(workspace.run(runs[method].id)).model)  # timm's own layout
    before = build_classifier(specs[method], 5, adapted=False).model
    for new, old in zip(tuned.blocks, before.blocks, strict=True):
        difference = (new.attn.qkv.weight - old.attn.qkv.weight).detach()
        q, _, v = difference.chunk(3)
        yield from (q, v)


spectra = {
    method: np.stack([torch.linalg.svdvals(one).numpy() for one in changes(method)])
    for method in runs
}
sheet, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for method, values in spectra.items():
    style = method_style(method)
    typical = np.median(values, axis=0)
    left.semilogy(range(1, 33), np.maximum(typical[:32], 1e-9), color=style.colour, label=method)
    energy = np.cumsum(values**2, axis=1) / np.sum(values**2, axis=1, keepdims=True)
    right.plot(range(1, 33), np.median(energy, axis=0)[:32], color=style.colour, label=method)
left.set(xlabel="singular value", ylabel="size (median over layers)")
right.set(xlabel="rank kept", ylabel="share of the change (squared)", ylim=(0, 1.02))
for axes in (left, right):
    axes.axvline(4, color="0.7", lw=1)
    axes.legend(frameon=False)
energy = np.cumsum(spectra["full"] ** 2, axis=1) / np.sum(
    spectra["full"] ** 2, axis=1, keepdims=True
)
print(f"The first 4 ranks hold {np.median(energy[:, 3]):.0%} of what full fine-tuning changed;")
print(
    f"90% of it take {int(np.median(np.argmax(energy >= 0.9, axis=1))) + 1} of {len(energy[0])} ranks."
)

# %% [markdown]
# LoRA's spectrum falls to rounding after its fourth value: that is all it can express. Full
# fine-tuning moves every direction a little and a few directions much. Whether the small rest matters
# is a question for the test split; with few labels some of it is noise.
#
# ## Your turn
#
# 1. **Leave the value alone.** Which of query and value does the work? Give `targets` a regular
#    expression.
# 2. **A rank is not a rank.** Train rank 16 with alpha 128 beside rank 16 with alpha 32.
# 3. **Count.** How many parameters does LoRA of rank 8 on *all* linear layers of ViT-B/16 train?
#
# <details><summary>Solutions</summary>
#
# 1. `AdapterSpec(targets=r"blocks\.\d+\.attn\.qkv\.q")`, and the same with `v`. Run both with three
#    seeds and let *Compare* say whether they differ.
# 2. `RunSpec.of(**settings, **{"adapter.rank": 16, "adapter.alpha": 128.0})`: the quotient 8 is that
#    of rank 4 with alpha 32, so the update starts as strong as there.
# 3. `adapters.count(catalogue.card("mrm"), AdapterSpec(rank=8, targets="all"), 14).trainable`
#
# </details>
#
# `python app.py` shows both runs: open **Compare** and choose them. Next: [how many labels it
# takes](03_how_many_labels.ipynb).
