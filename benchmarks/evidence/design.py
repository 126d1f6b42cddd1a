"""What is compared: data sets, lengths of stages, mechanisms, arms."""
from typing import Any

DATASETS = {
    'bccd': 'blood cells (BCCD), 205 training and 87 validation images of 3 '
            'classes. The student sees them at 160x120, the teachers at '
            '320x240.',
    'drawn': "the demo's drawn shapes, 400 training and 100 validation images "
             'of 5 classes that differ only in outline. All detectors see '
             'them at 128x112.'}
FEW_LABELS = {
    'txl': 'blood cells (TXL-PBC), 850 training and 244 validation images of '
           '3 classes, at 160 pixels.',
    'deeppcb': 'printed circuit boards (DeepPCB), 1000 training and 500 '
               'validation images of 6 classes of small defects, at 320 '
               'pixels; training crops 160 of them.'}
"""Where labels are left out, and only that is compared."""
WITHOUT_ADAPTERS = ('bccd',)
"""Where student and teachers have equal channels."""
EPOCHS, SHORT = 6, 3
"""Epochs of a stage in all comparisons, and where all orders are tried."""
PILOT_SEED = 9
MECHANISMS: dict[str, dict[str, Any]] = {
    'FeatureL2Loss': dict(normalise=True), 'CWDLoss': {}, 'FGDLoss': {},
    'MGDLoss': {}, 'PKDLoss': {}}
"""With their settings; all other comparisons use the first."""
WEIGHT = .3
"""The weight of configs/evidence, from the pilot."""
SHARE, CALIBRATION = .5, 20
"""Where mechanisms are compared: the gradient at the student's maps over the
detection loss's, and the iterations in which the weight is found."""
ARMS = {'alone': 'trained on alone', 'direct': 'direct from the best teacher',
        'together': 'all teachers at once', 'progression': 'progression'}
ASSUMED_DEVIATION = 0.3
"""Of a paired difference, in AP: fixed before the first run."""

Changes = tuple[tuple[str, Any], ...]
"""Changes of ``mtpd`` in a stage, as pairs of dotted key and value."""
LabelStage = tuple[tuple[str, ...], Changes]
"""The teachers of a stage, and its changes."""

LABELLED_ONLY: Changes = (('unlabelled', None),)
"""No images without labels."""
INHERIT: Changes = (('inherit', ('neck', 'head')),)
FEWEST = 'labels_85'
THREE_TIMES = '_longer'
"""After the name of a config: with a stage three times as long."""
LABELS = {'txl': {FEWEST: 40, 'labels_850': 6, 'converged': 8, 'mobile': 6,
            f'mobile{THREE_TIMES}': 18},
          'deeppcb': {'labels_100': 40, 'labels_1000': 6,
                      f'labels_1000{THREE_TIMES}': 18}}
"""Data set -> config of a student with so many labelled images -> epochs of
the stage after its training."""
LIMITS = (50, 100, 200, 400, 850)
"""Numbers of labels with which the student is tested on both splits."""
ALONE, TAUGHT = 'trained on alone', 'taught on labelled images'
ON_ALL = 'taught on all images'
NOT_TAUGHT = 'not taught'
BEGUN = f"begun with the teacher's neck and head, {NOT_TAUGHT}"
BEGUN_SO = f"begun with this one's neck and head, {NOT_TAUGHT}"
BEGUN_PRETRAINED = \
    f"begun with the pretrained one's neck and head, {NOT_TAUGHT}"
SHARE_4 = 'taught on labelled images, share 4'
PRETRAINED = 'taught by a pretrained teacher'
PRETRAINED_4 = 'the same with share 4, begun with its neck and head'
LONGER = 'taught by the wide teacher trained for longer'
BY_MOBILE = 'taught by a pretrained MobileNetV2'
BY_SWIN = 'on all images by a Swin transformer'
DIRECT = 'direct: the wide teacher twice'
SWIN_TWICE = 'direct from a transformer: Swin twice'
THROUGH_CNN = 'through a CNN: the wide teacher, then Swin'


def share_of(share: float) -> Changes:
    """The changes of a stage whose automatic weight has this share.

    Args:
        share: See :class:`mtpd.distill.AutoWeight`.
    """
    return ('distill.loss_weight', (('share', share),)),


def mechanism_with_share(name: str, share: float) -> Changes:
    """The changes of a stage with another mechanism and automatic weight.

    Args:
        name: The mechanism, with its other settings as they are by default.
        share: See :class:`mtpd.distill.AutoWeight`.
    """
    return ('distill', (('type', name),
                        ('loss_weight', (('share', share),)))),


def summed(share: float, scores: float) -> Changes:
    """The changes of a stage that compares maps and scores, with automatic
    weight.

    Args:
        share: See :class:`mtpd.distill.AutoWeight`.
        scores: The weight of the scores within the sum.
    """
    return (('distill', (
        ('type', 'WeightedSum'),
        ('losses', ((('type', 'FeatureL2Loss'), ('normalise', True)),
                    (('type', 'LogitLoss'), ('loss_weight', scores)))),
        ('loss_weight', (('share', share),)))),)


def fading(epochs: int) -> Changes:
    """The change of a stage in whose last third distillation fades out.

    Args:
        epochs: Its length.
    """
    return ('fade', (('begin', epochs * 2 / 3), ('end', float(epochs)))),


def taught_by(teacher: str, *changes: Changes) -> LabelStage:
    """A stage with one teacher.

    Args:
        changes: Added to each other.
    """
    return (teacher,), sum(changes, ())


_ALONE: LabelStage = (), LABELLED_ONLY
_ON_LABELLED = taught_by('wide', LABELLED_ONLY, INHERIT, share_of(1.))
_SHARE_4 = taught_by('wide', LABELLED_ONLY, INHERIT, share_of(4.))
_ON_ALL = taught_by('wide', INHERIT)
_LONGER = taught_by('wide_24', LABELLED_ONLY, INHERIT, share_of(1.))
WEIGHTLESS: Changes = (('distill.loss_weight', 0),)
"""A teacher in the config that does not teach."""
_BEGUN = taught_by('wide', LABELLED_ONLY, INHERIT, WEIGHTLESS)
_BEGUN_LONGER = taught_by('wide_24', LABELLED_ONLY, INHERIT, WEIGHTLESS)
_BY_MOBILE, _BY_MOBILE_LESS, _BY_MOBILE_SCORES, _MOBILE_ALONE = (
    taught_by('pretrained_mobile', LABELLED_ONLY, changes) for changes in (
        share_of(1.), share_of(.5), mechanism_with_share('LogitLoss', 1.),
        WEIGHTLESS))
LABEL_ARMS: dict[str, dict[str, tuple[LabelStage, ...]]] = {
    FEWEST: {
        ALONE: (_ALONE,),
        BEGUN: (_BEGUN,),
        TAUGHT: (_ON_LABELLED,),
        ON_ALL: (_ON_ALL,),
        'on labelled images, share 4': (taught_by(
            'wide', LABELLED_ONLY, INHERIT, share_of(4.)),),
        'on all images, share 2': (taught_by('wide', INHERIT, share_of(2.)),),
        'on all images, share 1': (taught_by('wide', INHERIT, share_of(1.)),),
        "on all images, `batch_norm='running'`": (taught_by(
            'wide', INHERIT, (('unlabelled.batch_norm', 'running'),)),),
        'on all images by a pretrained teacher of these labels': (
            taught_by('pretrained_85'),),
        'the same, begun with its neck and head': (
            taught_by('pretrained_85', INHERIT),),
        'on all images by a pretrained teacher of all labels': (
            taught_by('pretrained'),),
        'on labelled images by a pretrained MobileNetV2, share 1': (
            _BY_MOBILE,),
        'the same with share 0.5': (_BY_MOBILE_LESS,),
        'on all images by a pretrained MobileNetV2': (
            taught_by('pretrained_mobile'),),
        'on all images by the wide teacher trained for longer': (
            taught_by('wide_24', INHERIT),),
        BY_SWIN: (taught_by('swin'),),
        'on all images, fading in the last third': (
            taught_by('wide', INHERIT, fading(40)),),
        'on all images, `PKDLoss`': (taught_by(
            'wide', INHERIT, mechanism_with_share('PKDLoss', 4.)),),
        'on all images, `MGDLoss`': (taught_by(
            'wide', INHERIT, mechanism_with_share('MGDLoss', 4.)),),
        'on all images, `LogitLoss`': (taught_by(
            'wide', INHERIT, mechanism_with_share('LogitLoss', 4.)),),
        'on all images, `LogitLoss`, share 1': (taught_by(
            'wide', INHERIT, mechanism_with_share('LogitLoss', 1.)),),
        'on all images, `WeightedSum` of maps and scores': (taught_by(
            'wide', INHERIT, summed(4., 10.)),)},
    'labels_850': {
        ALONE: (_ALONE,),
        TAUGHT: (_ON_LABELLED,),
        PRETRAINED: (taught_by('pretrained', LABELLED_ONLY, share_of(1.)),),
        PRETRAINED_4: (taught_by('pretrained', LABELLED_ONLY, INHERIT,
                                 share_of(4.)),),
        BY_MOBILE: (_BY_MOBILE,),
        f'{BY_MOBILE}, share 0.5': (_BY_MOBILE_LESS,),
        f'{BY_MOBILE}, `LogitLoss`': (_BY_MOBILE_SCORES,),
        LONGER: (_LONGER,),
        BEGUN_SO: (_BEGUN_LONGER,),
        'taught by this one, share 4': (taught_by(
            'wide_24', LABELLED_ONLY, INHERIT, share_of(4.)),),
        'taught by this one, share 4, fading in the last third': (taught_by(
            'wide_24', LABELLED_ONLY, INHERIT, share_of(4.), fading(6)),)},
    'converged': {ALONE: (_ALONE,), LONGER: (_LONGER,),
                  'taught by this one, share 4': (taught_by(
                      'wide_24', LABELLED_ONLY, INHERIT, share_of(4.)),)},
    'mobile': {
        ALONE: (_MOBILE_ALONE,),
        PRETRAINED: (_BY_MOBILE,),
        f'{PRETRAINED}, share 0.5': (_BY_MOBILE_LESS,),
        f'{PRETRAINED}, share 4, fading in the first two thirds': (taught_by(
            'pretrained_mobile', LABELLED_ONLY, share_of(4.),
            (('fade', (('begin', 0.), ('end', 4.))),)),),
        f'{PRETRAINED}, share 4, begun with its neck and head': (taught_by(
            'pretrained_mobile', LABELLED_ONLY, INHERIT, share_of(4.)),),
        BEGUN_PRETRAINED: (taught_by(
            'pretrained_mobile', LABELLED_ONLY, INHERIT, WEIGHTLESS),),
        f'{PRETRAINED}, `LogitLoss`': (_BY_MOBILE_SCORES,)},
    f'mobile{THREE_TIMES}': {
        ALONE: (_MOBILE_ALONE,), PRETRAINED: (_BY_MOBILE,)},
    'labels_100': {
        ALONE: (_ALONE,),
        BEGUN: (_BEGUN,),
        SHARE_4: (_SHARE_4,),
        ON_ALL: (_ON_ALL,)},
    'labels_1000': {
        ALONE: (_ALONE,), BEGUN: (_BEGUN,), TAUGHT: (_ON_LABELLED,),
        SHARE_4: (_SHARE_4,),
        PRETRAINED: (taught_by('pretrained', LABELLED_ONLY, share_of(1.)),),
        PRETRAINED_4: (taught_by('pretrained', LABELLED_ONLY, INHERIT,
                                 share_of(4.)),),
        BEGUN_PRETRAINED: (
            taught_by('pretrained', LABELLED_ONLY, INHERIT, WEIGHTLESS),)},
    f'labels_1000{THREE_TIMES}': {ALONE: (_ALONE,), SHARE_4: (_SHARE_4,)}}
"""Student -> name of an arm -> its stages, the control first. Without a share
it is 4 on all images."""
ARRIVALS = {
    'txl': ((FEWEST, 'on all images by the wide teacher trained for longer'),
            ('labels_850', PRETRAINED_4),
            ('labels_850', LONGER), ('converged', LONGER),
            ('mobile', PRETRAINED)),
    'deeppcb': (('labels_100', ON_ALL),
                (f'labels_1000{THREE_TIMES}', SHARE_4))}
"""Data set -> student and arm of which is measured, for the first seed, what
of the teacher arrives."""
TWO_STAGES: dict[str, tuple[LabelStage, ...]] = {
    ALONE: (_ALONE, _ALONE),
    DIRECT: (_ON_ALL, taught_by('wide')),
    'progression: the pretrained teacher of these labels, then the wide one': (
        taught_by('pretrained_85'), _ON_ALL),
    SWIN_TWICE: (taught_by('swin'), taught_by('swin')),
    # With the share that is the default on all images: run anew, as weights
    # of the arm above no longer came out bit for bit.
    THROUGH_CNN: (taught_by('wide', INHERIT, share_of(4.)),
                  taught_by('swin'))}
"""Arm -> its stages, for the student with few labels on all images; the
control first. One of them is as long as a stage of :data:`LABEL_ARMS`."""
SPLITS = ('unlabelled', 'train')
"""Of which images the costs from the student with few labels are measured:
all training images, or those with labels."""
CHOICE = {
    'wide_24': 'on all images by the wide teacher trained for longer',
    'wide': ON_ALL,
    'pretrained': 'on all images by a pretrained teacher of all labels',
    'pretrained_85': 'on all images by a pretrained teacher of these labels',
    'swin': BY_SWIN}
"""Teacher -> the arm of this student that it teaches."""
SHARES = (.25, .5, 1., 4.)
"""Shares of the automatic weight that are compared where all images have
labels, and the student inherits nothing."""
EARLY = 'early'
"""The config of a student far from converged."""
ADAPTED: Changes = (('adapter', 'conv'),)
"""A trained adapter where channels are equal."""
GENTLE: Changes = (('distill.loss_weight', round(WEIGHT / 5, 3)),)
"""A fifth of the weight."""


def with_mechanism(name: str, equal: bool = True) -> Changes:
    """The changes of a stage with another mechanism.

    Args:
        name: One of :data:`MECHANISMS`.
        equal: Its weight is found, so that gradients are as large with all of
            them; otherwise it is the mechanism's default.
    """
    mechanism = 'distill', (('type', name), *MECHANISMS[name].items())
    if not equal:
        return (mechanism,)
    return (mechanism, ('distill.loss_weight.share', SHARE),
            ('distill.loss_weight.iterations', CALIBRATION),
            ('init_adapters', 'random'))


def with_share(share: float) -> Changes:
    """The changes of a stage whose weight is automatic.

    Args:
        share: See :class:`mtpd.distill.AutoWeight`.
    """
    name, settings = next(iter(MECHANISMS.items()))
    return (('distill', (('type', name), *settings.items())),
            ('distill.loss_weight.share', share), ('init_adapters', 'random'))


def default_with_share(share: float) -> Changes:
    """The changes of a stage with the default mechanism and another share.

    Args:
        share: See :class:`mtpd.distill.AutoWeight`.
    """
    name, settings = next(iter(MECHANISMS.items()))
    return (('distill', (('type', name), *settings.items(),
                         ('loss_weight', (('share', share),)))),)


def at_scale(teacher: str, scale: int) -> Changes:
    """The change of a stage whose teacher sees images of another size."""
    return (f'teachers.{teacher}.scale', scale),
