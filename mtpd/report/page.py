"""One page about a progression: a file that needs no other and no network."""
import base64
import os
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, StrictUndefined  # torch depends on it

from mtpd.plan.describe import describe_plan
from mtpd.progression.control import describe_gain
from mtpd.progression.history import History

from .detectors import Facts
from .examples import Examples
from .parts import (Part, curves_part, detectors_part, images_part, order_part,
                    record_part, stages_part, state, summary, variants_part,
                    warnings)

NOTHING = '–'
"""Shown where a value is not known or does not exist."""


def page(history: History, facts: Facts, examples: Examples,
         now: datetime) -> str:
    """The page as HTML; every text on it is escaped.

    Args:
        history: What the progression's folder holds.
        facts: Student and teachers beside each other.
        examples: Example images; none where they are not wanted.
        now: The time that the page names.
    """
    parts = [
        Part('plan', 'Plan', 'Plan', plan=describe_plan(history.plan)),
        order_part(history), curves_part(history, facts),
        stages_part(history, facts), detectors_part(history, facts),
        *variants_part(history), images_part(examples), record_part(history)]
    folder = os.path.basename(os.path.abspath(history.plan.work_dir))
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters['base64'] = lambda content: base64.b64encode(
        content).decode()
    template = environment.from_string(
        Path(__file__).with_name('page.html').read_text(encoding='utf-8'))
    return template.render(
        title=f'Progression {folder}', state=state(history, now),
        summary=summary(history, facts), verdict=describe_gain(history),
        warnings=warnings(history, facts), parts=parts, nothing=NOTHING)
