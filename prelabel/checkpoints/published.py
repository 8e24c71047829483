"""Facts about a checkpoint from its authors, as model cards state them for readers."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Published(BaseModel):
    """Facts for readers, from the model's authors. The service does not depend on them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights_mb: float | None = Field(
        None, description="Size of the weights, where the card's files have none on record."
    )
    parameters_m: float | None = Field(None, description="Number of weights, in millions.")
    encoding_mb: float | None = Field(
        None, description="Of a segmenter: size of the encoding of a picture."
    )
    coco_ap: float | None = Field(None, ge=0, le=100, description="AP on COCO val2017.")
    coco_in_training: bool = Field(
        False, description="COCO is part of the training, so that the AP is not zero-shot."
    )
    coco_source: str | None = Field(None, description="Address of the page that has coco_ap.")
    lvis_minival_ap: float | None = Field(
        None, ge=0, le=100, description="Zero-shot AP on LVIS minival; of LLMDet its fixed AP."
    )
    lvis_source: str | None = Field(
        None, description="Address of the page that has lvis_minival_ap."
    )
    licence_source: str | None = Field(
        None, description="Address of the page that names the licence."
    )

    @model_validator(mode="after")
    def _figures_have_sources(self) -> Self:
        figures = {self.coco_ap: self.coco_source, self.lvis_minival_ap: self.lvis_source}
        if any(figure is not None and not source for figure, source in figures.items()):
            raise ValueError("a published AP needs its source")
        return self
