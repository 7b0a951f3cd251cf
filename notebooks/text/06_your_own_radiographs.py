# %% [markdown]
# # Your own radiographs
#
# **You will learn** to check a folder of your own before you trust it, to split it by patient, to
# train on it, to choose an operating point on validation and read it on test, and to hand the model
# to somebody who has timm and peft and nothing else.
#
# **It takes** about a minute of computing on two cores, and twenty minutes of reading.
#
# **For research and education, not for clinical use.** The runs below are written to your workspace,
# so that the explorer shows them too. On [Colab](https://colab.research.google.com/): upload this
# file, put the wheel that `pip wheel --no-deps .` makes beside it, and run from the top.
#
# Here phantoms play the part of your radiographs. To use yours, set `CXR_MINE` to their folder and
# start at section 2; nothing leaves your machine.

# %%
import importlib.util

# On Colab; does nothing where the explorer is installed.
if importlib.util.find_spec("core") is None:
    # %pip install --quiet cxr_peft_explorer-0.1.0-py3-none-any.whl

# %%
import os
import shutil
import warnings
from pathlib import Path

warnings.filterwarnings("ignore", message="IProgress not found")  # no progress widgets needed

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import peft
import timm
import torch
from IPython.display import HTML, display
from safetensors.torch import load_file

warnings.filterwarnings(
    "ignore", message="Unsupported layer type"
)  # timm's norms, which are torch's

from core import evaluate, export
from core.data import checks, images, splits
from core.data.datasets.registry import open_dataset
from core.data.phantoms.dataset import Phantom
from core.data.datasets.write_folder import TABLE, save
from core.training.run_here import run_in_process
from core.runs.store import open_store
from core.config.run import RunSpec
from core.classifier.trained import load_trained
from core.workspace import open_workspace
from explorer.figures.label_efficiency import reliability
from explorer.figures.palette import method_style
from explorer.figures.standalone import picture

FAST = os.environ.get("CXR_FAST") == "1"  # a first look: too short to learn anything from
STUDIES = {"train": 24, "val": 16, "test": 24} if FAST else {"train": 300, "val": 100, "test": 200}
EPOCHS = 1 if FAST else 6

workspace = open_workspace()  # CXR_WORKSPACE, or a folder of your own
store = open_store(workspace, create=True)
mine = Path(os.environ.get("CXR_MINE") or workspace.root / "tutorials" / "mine")

# %% [markdown]
# ## 1 · A folder as hospitals send it
#
# A table beside pictures: a path, a patient, a split if you have one, and a column a finding (1, 0,
# empty for *not known*). Class folders (`NORMAL/`, `Pneumonia/`) work as well, and so does DICOM. We
# put three faults in: a file that was cut off, a test picture that is also a training picture, and a
# patient in two splits.

# %%
if "CXR_MINE" not in os.environ:
    shutil.rmtree(mine, ignore_errors=True)
    save(Phantom("phantom-1", seed=7, size=96, **STUDIES), mine)
    table = pd.read_csv(mine / TABLE, dtype={"patient": str})
    good = table.copy()
    test = table.index[table["split"] == "test"]
    shutil.copy(mine / table.loc[0, "path"], mine / table.loc[test[0], "path"])
    (mine / table.loc[test[1], "path"]).write_bytes(
        (mine / table.loc[1, "path"]).read_bytes()[:900]
    )
    table.loc[test[2], "patient"] = table.loc[2, "patient"]
    table.to_csv(mine / TABLE, index=False)
    display(table.head(4))


# %% [markdown]
# ## 2 · Check before you train
#
# Everything that is wrong, at once, with examples: `python -m core data check folder --root DIR` in
# a terminal, **Data → Check** in the explorer.

# %%
def look():
    report = checks.check(lambda: open_dataset("folder", mine))
    for fault in report.problems:
        kind = "error" if fault.error else "warning"
        print(f"{kind:8}{fault.kind}: {fault.examples[0] if fault.examples else fault.count}")
    print(report.verdict())


look()

# %% [markdown]
# All three are found at once, each with an example: the cut-off file and the copy by decoding each
# picture, the patient by the table. (Training on such a folder is refused with the patient's name.) We
# give the patient's own name back and take both pictures out.

# %%
if "CXR_MINE" not in os.environ:
    table["patient"] = good["patient"]
    table = table.drop(index=[test[0], test[1]])
    table.to_csv(mine / TABLE, index=False)
    for one in (test[0], test[1]):
        (mine / good.loc[one, "path"]).unlink()
    look()

# %% [markdown]
# ## 3 · Split by patient
#
# Had the table no column `split`, patients would be dealt by their names, so that adding a study
# later moves nobody. Count positives by split before anything else: with five of them an AUROC is a
# rumour.

# %%
dataset = open_dataset("folder", mine)
finding = dataset.findings[0]
counts = pd.DataFrame(
    {
        split: {
            "studies": len(dataset.ids(split)),
            "patients": dataset.table.loc[dataset.ids(split), "patient"].nunique(),
            **splits.positives(dataset, dataset.ids(split)),
        }
        for split in ("train", "val", "test")
    }
)
display(counts)

sheet, places = plt.subplots(1, 4, figsize=(10, 2.8), layout="constrained")
ill = [one for one in dataset.ids("train") if dataset.study(one).findings[finding] == 1][:2]
well = [one for one in dataset.ids("train") if dataset.study(one).findings[finding] == 0][:2]
for axes, one in zip(places, [*ill, *well], strict=False):
    axes.imshow(dataset.read(one), cmap="gray", vmin=0, vmax=255)
    axes.set_title(finding if one in ill else f"no {finding.lower()}", fontsize=9)
for axes in places:
    axes.set_axis_off()

# %% [markdown]
# ### DICOM is read as well
#
# Window, rescale slope and MONOCHROME1 are heeded, names of patients are not kept. Here a picture
# takes the detour and comes back.

# %%
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

pixels = dataset.read(ill[0])
header = FileMetaDataset()
header.TransferSyntaxUID = ExplicitVRLittleEndian
header.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
header.MediaStorageSOPInstanceUID = generate_uid()
film = Dataset()
film.file_meta = header
film.SOPClassUID, film.SOPInstanceUID = header.MediaStorageSOPClassUID, generate_uid()
film.Modality, film.PatientID = "CR", "nobody"
film.Rows, film.Columns = pixels.shape
film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME1"  # air is white
film.BitsAllocated = film.BitsStored = 8
film.HighBit, film.PixelRepresentation = 7, 0
film.PixelData = (255 - pixels).tobytes()
place = workspace.root / "tutorials" / "film.dcm"
film.save_as(place, enforce_file_format=True)
again = images.read_image(place)
print(
    f"Largest difference after the detour: {np.abs(again.astype(int) - pixels).max()} grey levels"
)

# %% [markdown]
# ## 4 · Train
#
# `python -m core train --data folder --root DIR` would do the same; the explorer's **Data** page
# gives the folder a name.

# %%
settings = {"data.name": "folder", "data.root": mine, "data.called": "my radiographs"}
settings |= {"data.label_fraction": 1.0, "model.input_size": 64, "train.epochs": EPOCHS}
run = carry_out(RunSpec.of(**settings), store, workspace, again=True)
place = workspace.run(run.id)
print(evaluate.as_text(evaluate.evaluate(place, groups=False)))

# %% [markdown]
# ## 5 · An operating point
#
# A probability is not yet a decision. Suppose you want to miss at most one in ten: the threshold that
# gives a sensitivity of 90% is chosen on **validation** and read on **test**, where it will give
# something else. The reliability curve asks whether a 30% means 30%.

# %%
found = evaluate.evaluate(place, rule="sensitivity", target=0.9, groups=False)
one = found.findings[0]
print(f"Threshold {one.point.threshold:.3f}, chosen for a sensitivity of 90% on validation.")
print(f"On test: sensitivity {one.point.sensitivity:.0%}, specificity {one.point.specificity:.0%}.")
predicted = evaluate.read_predictions(place, "test")
labels, scores = predicted.labels[:, 0], predicted.scores[:, 0]
bars, axes = plt.subplots(figsize=(6, 2.6), layout="constrained")
named = [f"no {finding.lower()}", finding.lower()]
axes.hist([scores[labels == 0], scores[labels == 1]], bins=20, stacked=True, label=named)
axes.axvline(one.point.threshold, color="0.2", ls="--", label="threshold")
axes.set(xlabel="predicted probability, test", ylabel="studies")
axes.legend(frameon=False)
chart = reliability(one.reliability, method_style("lora"), title=f"Reliability, {one.finding}")
display(HTML(picture(chart, scale=1.3)))

# %% [markdown]
# ## 6 · Give it away
#
# Both exports are loaded again as anybody would load them and compared with the run before they get
# their name. Below we are that anybody: no line of `core`.

# %%
adapter = export.export(place, "peft", force=True)
merged = export.export(place, "merged", force=True)
for one in (adapter, merged):
    print(f"{one.format:7} {one.size / 1e6:5.1f} MB  {', '.join(one.files)}")

# %%
plain = timm.create_model(
    "vit_tiny_patch16_224",
    num_classes=len(dataset.findings),
    global_pool="avg",
    fc_norm=True,
    img_size=64,
)
plain.load_state_dict(load_file(adapter.folder / "backbone.safetensors"))
by_peft = peft.PeftModel.from_pretrained(plain, str(adapter.folder)).eval()
by_timm = timm.create_model(f"local-dir:{merged.folder}", pretrained=True).eval()

trained = load_trained(place)
batch = trained.transform([dataset.read(one) for one in dataset.ids("test")[:8]])
with torch.inference_mode():
    ours = trained.model(batch)
    gaps = {
        "peft": float((by_peft(batch) - ours).abs().max()),
        "timm": float((by_timm(batch) - ours).abs().max()),
    }
print("Largest difference of the logits:", ", ".join(f"{k} {v:.1e}" for k, v in gaps.items()))
assert max(gaps.values()) < 1e-3

# %% [markdown]
# ## Your turn
#
# 1. **Another cost.** You would rather call nobody in vain: choose a specificity of 95%.
# 2. **Whom does it serve?** Score men and women apart.
# 3. **Words for labels.** Your column holds “yes” and “no”, and the patient is in the file's name.
#
# <details><summary>Solutions</summary>
#
# 1. `evaluate.evaluate(place, rule="specificity", target=0.95)`
# 2. `evaluate.evaluate(place).subgroups`, or `python -m core evaluate RUN`; the table's columns `sex`
#    and `age` are enough for it.
# 3. Yes and no are understood. `--patient '(P\d+)'` finds the patient in the path; `--columns
#    path=File,split=Fold` and `--labels Fx=Fracture` say what the columns are.
#
# </details>
#
# `python app.py` → **Data** shows your folder, **Saliency** takes single files by drag and drop.
# Next: [the paper](07_the_paper.ipynb).
