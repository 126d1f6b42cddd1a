"""Find the order of the teachers: costs, selection, JSON and pictures.

    python tools/bgs_order.py configs/mtpd_retina.py

Writes order.json, adaptation_cost.png and teacher_order.png to
<work-dir>/order; tools/train.py uses the result while it fits.
"""
import os

from mtpd.progression import order_teachers, prepare
from mtpd.progression.command_line import parser, plain_errors, read_config
from mtpd.progression.plan import PlanError


def main() -> None:
    args = parser(__doc__).parse_args()
    with plain_errors():
        cfg = read_config(args)
        if 'mtpd' not in cfg:
            raise PlanError([f'{args.config} has no mtpd part, so there is no '
                             'pool to order.'])
        # What is asked for here is the search, whatever training would use.
        cfg.mtpd.order = 'bgs'
        plan = prepare(cfg)
        order_teachers(plan)
        print('Written to ' + os.path.join(plan.work_dir, 'order'))


if __name__ == '__main__':
    main()
