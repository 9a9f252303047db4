"""Write and read a box in the syntaxes of other models, for the study of what each costs.

>>> for form in FORMS.values(): print(form.name, form.write((0.023, 0.45, 0.461, 0.72), "round"))
elysium [2,45,46,72]
shikra [0.023,0.450,0.461,0.720]
minigpt_v2 {<2><45><46><72>}
cogvlm [[023,450,461,720]]
qwen <box>(23,450),(461,720)</box>
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """A syntax of boxes: a format for each of the four numbers, and the number of units along each axis.

    A `decimal` form writes thousandths as 0.001, always the nearest; the others write the integer.
    """

    name: str
    template: str
    units: int
    decimal: bool = False

    def write(self, box_xyxy_norm: Sequence[float], rounding: str = "floor") -> str:
        """Return the text of a box in 0..1 whose sides are longer than two units."""
        scaled = [value * self.units for value in box_xyxy_norm]
        if self.decimal:
            return self.template.format(*(round(value) / self.units for value in scaled))
        if rounding == "round":
            return self.template.format(*map(round, scaled))
        return self.template.format(*(min(self.units - 1, math.floor(value)) for value in scaled))

    def read(self, text: str, rounding: str = "floor") -> list[float]:
        """Return x1, y1, x2, y2 in 0..1 as they stand in a written box."""
        numbers = [float(number) for number in re.findall("[0-9.]+", text)]
        if self.decimal:
            return numbers
        return [(number + (0.5 if rounding == "floor" else 0)) / self.units for number in numbers]

    def write_frames(self, boxes_xyxy_norm: Sequence[Sequence[float]]) -> str:
        """Return the answer of a tracking task that sees the object in every frame."""
        return ", ".join(f"Frame {i}: {self.write(box)}" for i, box in enumerate(boxes_xyxy_norm, start=1)) + "."


FORMS = {
    form.name: form
    for form in (
        Form("elysium", "[{},{},{},{}]", 100),
        Form("shikra", "[{:.3f},{:.3f},{:.3f},{:.3f}]", 1000, decimal=True),
        Form("minigpt_v2", "{{<{}><{}><{}><{}>}}", 100),
        Form("cogvlm", "[[{:03d},{:03d},{:03d},{:03d}]]", 1000),
        Form("qwen", "<box>({},{}),({},{})</box>", 1000),
    )
}
