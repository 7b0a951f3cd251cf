"""What the sections of a specification have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Validated, never changed, without fields that are not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
