"""How far two detectors agree on the boxes of images."""
from typing import NamedTuple, Sequence

from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData


class Tolerance(NamedTuple):
    """How far apart two detections may be and still be the same.

    Attributes:
        box: Half a pixel and the like, or 1 - IoU.
        by_iou: Which of both.
        score: Of the scores.
        share: Of all boxes, how many must have a partner.
    """
    box: float
    by_iou: bool
    score: float
    share: float

    def allows(self, row: 'Agreement') -> bool:
        """Whether two detectors found the same."""
        pairs, boxes = row.matched, row.expected + row.found
        return 2 * pairs >= self.share * boxes \
            and (row.mask is None or row.mask >= self.share)


# Rounding was seen to move a box by 0.001 pixels. Two boxes of nearly equal
# scores may change places at a limit of test_cfg.
ROUNDING = Tolerance(.5, False, .005, .99)
EIGHT_BITS = Tolerance(.5, True, .2, .5)


class Agreement(NamedTuple):
    """What two detectors found in the same images.

    Attributes:
        name: Of the images.
        images: Their number.
        expected: Boxes of mmdet.
        found: Boxes of the file.
        matched: Pairs of the same label within the tolerance.
        box: Largest difference of a pair's sides, in pixels.
        score: The same of its scores.
        pixels: Of the matched boxes' masks, how many are in both and how
            many in either; None without masks.
    """
    name: str
    images: int
    expected: int
    found: int
    matched: int
    box: float
    score: float
    pixels: tuple[int, int] | None

    @property
    def mask(self) -> float | None:
        """The share of the masks' pixels that are in both; None without
        masks."""
        if self.pixels is None:
            return None
        return self.pixels[0] / self.pixels[1] if self.pixels[1] else 1.


def agreement_of(expected: InstanceData, found: InstanceData,
                 within: Tolerance) -> Agreement:
    """In one image.

    Args:
        expected: Of mmdet.
        found: Of the file.
        within: What makes a pair.
    """
    places = _matches(expected, found, within)
    wanted, got = expected[places[0]], found[places[1]]
    pixels = None
    if 'masks' in expected:
        pixels = (int((wanted.masks & got.masks).sum()),
                  int((wanted.masks | got.masks).sum()))
    box = (wanted.bboxes - got.bboxes).abs()
    score = (wanted.scores - got.scores).abs()
    return Agreement('', 1, len(expected), len(found), len(wanted),
                     float(box.max()) if len(wanted) else 0.,
                     float(score.max()) if len(wanted) else 0., pixels)


def _matches(expected: InstanceData, found: InstanceData, within: Tolerance
             ) -> tuple[list[int], list[int]]:
    """Places of the same boxes in both, the nearest pairs first."""
    apart = 1 - bbox_overlaps(expected.bboxes, found.bboxes) if within.by_iou \
        else (expected.bboxes[:, None] - found.bboxes).abs().amax(-1)
    scores = (expected.scores[:, None] - found.scores).abs()
    same = expected.labels[:, None] == found.labels
    pairs = ((apart <= within.box) & same & (scores <= within.score)).nonzero()
    pairs = pairs[apart[pairs[:, 0], pairs[:, 1]].argsort(stable=True)]
    matches: dict[int, int] = {}
    taken: set[int] = set()
    for one, other in pairs.tolist():
        if one not in matches and other not in taken:
            matches[one] = other
            taken.add(other)
    return list(matches), list(matches.values())


def in_all(name: str, parts: Sequence[Agreement]) -> Agreement:
    """In several images together."""
    _, images, expected, found, matched, box, score, masks = zip(
        *parts, strict=True)
    pixels = None
    if masks[0] is not None:
        both, either = zip(*masks, strict=True)
        pixels = sum(both), sum(either)
    return Agreement(name, sum(images), sum(expected), sum(found),
                     sum(matched), max(box), max(score), pixels)
