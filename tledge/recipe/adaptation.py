"""The recipe's keys about another domain, whose rows have no labels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tledge.recipe.section import Fraction, Section

METHODS = ("none", "adabn", "coral", "dann", "mmd", "self_training")
Method = Literal["none", "adabn", "coral", "dann", "mmd", "self_training"]


class Adapt(Section):
    """Another domain than that of the labelled rows: the model is to work there, and no label of it is learnt from."""

    method: Method | Literal["auto"] = "auto"
    """How: `none` learns the labelled rows alone; `adabn` takes the statistics of batch norms anew on the target rows
    (Li et al. 2016); `coral` gives both domains the same covariances (Sun and Saenko 2016): in closed form on cached
    features (`finetune.strategy: probe`), else as a loss; `dann` learns features by which no network can tell the
    domains apart (Ganin et al. 2016); `mmd` makes their means equal in several Gaussian kernels (Long et al. 2015);
    `self_training` learns its own surest answers for target rows, as many of each label (Zou et al. 2018). `auto`
    takes the one of `compare` that `choose` likes best."""
    target: str
    """Rows of the other domain, a source like `data.train`; their labels, if they have some, are not looked at."""
    where: dict[str, str] = {}
    """Only those rows of `target`: a value for each column named, such as `type: poly`."""
    judge: str | Fraction | None = None
    """Labelled rows of the other domain that judge and do nothing else: a source like `data.train`, or a fraction of
    the rows of `target`, which are then labelled too."""
    supervised: bool = False
    """Train the same model on the labels of `target` too, for comparison alone: what labels would give."""
    compare: list[Method] | None = None
    """Methods that are trained as well, to stand beside `method` in the report; by default `none`, and with `auto` all
    that can be done with this model."""
    choose: Literal["source_validation", "information", "importance"] = "information"
    """What tells which method of `auto` is best, without a label of the other domain: the metric on the validation
    rows (`source_validation`); how sure answers to target rows are, and how evenly they spread over the labels
    (`information`, Shi and Sha 2012); or the loss of the validation rows, each weighted by how much it looks like a
    target row (`importance`, Sugiyama et al. 2007)."""
    strength: Annotated[float, Field(gt=0)] = 1.0
    """How much the domains' likeness counts beside the labels in `coral` (as a loss), `dann` and `mmd`."""
    confident: Annotated[float, Field(gt=0, le=1)] = 0.5
    """For `self_training`: the share of the rows answered with each label that are learnt, the surest ones, in the
    last of its rounds; it grows evenly to that."""
    rounds: Annotated[int, Field(ge=1)] = 3
    """For `self_training`: how often target rows are answered anew, and learnt."""
    seeds: Annotated[int, Field(ge=1)] = 1
    """How many times each method is trained, with `seed` and the numbers after it; the report's intervals are over
    them, and the first one is shipped."""
