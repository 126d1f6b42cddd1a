"""Moments on disk: what was measured is not measured again.

A folder with one file per fold and a list of what they hold. The list is
replaced as a whole and names only files that are complete, so a run that is
killed at any moment loses what it had not saved yet, and nothing else.
"""
import json
import logging
import os
import re
import shutil
from fractions import Fraction
from typing import Any, BinaryIO, Mapping, Sequence

import torch
from mmengine.logging import print_log

from mtpd.compat.atomic_files import atomic_file, atomic_write
from mtpd.order.moments import FeatureMoments
from mtpd.provenance import differences

SCHEMA = 1
LIST = 'moments.json'


class MomentStore:
    """Moments of the images that were looked at, on one or several grids.

    Held in memory is one fold at a time, while it is added to; all others lie
    on disk and are mapped when they are read.

    Args:
        folder: Its own; made when something is added.
        belongs_to: What all sums depend on, plain values.
        detectors: Name -> what this detector's sums depend on, plain values;
            in the order of the channels.
        known: The first of them, see ``FeatureMoments``.
        made_on: Device and versions, plain values.
    """

    def __init__(self, folder: str, belongs_to: Mapping[str, Any],
                 detectors: Mapping[str, Any], known: Sequence[str] = (),
                 made_on: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.belongs_to = dict(belongs_to)
        self.detectors = dict(detectors)
        self.known = tuple(known)
        self.made_on = dict(made_on or {})
        self._folds: dict[int, dict[str, Any]] = {}

    @classmethod
    def read(cls, folder: str) -> 'MomentStore | None':
        """What lies in a folder, without the folds that cannot be read, which
        are said; None where there is nothing."""
        path = os.path.join(folder, LIST)
        if not os.path.isfile(path):
            return None
        try:
            with open(path) as file:
                said = json.load(file)
            if said['schema'] != SCHEMA:
                raise ValueError(f'schema {said["schema"]}')
            store = cls(folder, said['belongs_to'], said['detectors'],
                        said['known'], said['made_on'])
            store._folds = {int(fold): entry
                            for fold, entry in said['folds'].items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            print_log(f'{path} cannot be used ({error}); its images are '
                      'measured anew.', logger='current',
                      level=logging.WARNING)
            return None
        for fold, entry in [*store._folds.items()]:
            try:
                store._load(fold)
            # Of a torn archive torch raises nearly anything.
            except Exception as error:
                print_log(f'{os.path.join(folder, entry["file"])} cannot be '
                          f'used ({error}); its images are measured anew.',
                          logger='current', level=logging.WARNING)
                del store._folds[fold]
        return store if store._folds else None

    @property
    def done(self) -> list[int]:
        """The images that the sums are over."""
        return [i for entry in self._folds.values() for i in entry['pictures']]

    @property
    def strides(self) -> list[int]:
        return self.belongs_to['strides']

    @property
    def shift(self) -> dict[Fraction, dict] | None:
        """Grid -> the shift of all sums; None before anything was added."""
        if not self._folds:
            return None
        return {grid: sums.shift for grid, sums in
                self._load(next(iter(self._folds))).items()}

    def add(self, fold: int, sums: Mapping[Fraction, FeatureMoments],
            images: Sequence[int]) -> None:
        """Add sums over more images of a fold, and save; ``sums`` are used,
        not copied.

        Raises:
            OSError: They could not be written; what was there stays.
        """
        entry = self._folds.get(fold, {'pictures': []})
        if fold in self._folds:
            # Into the new ones: the old ones are mapped and need no memory.
            for grid, before in self._load(fold).items():
                sums[grid].merge(before)
        images = [*entry['pictures'], *images]
        self._save(fold, f'fold{fold}.{len(images)}.pt', sums, images)

    def moments(self, grid: Fraction) -> FeatureMoments:
        """All folds' sums; the files are mapped, not read."""
        return FeatureMoments.of_parts(
            [self._load(fold)[grid] for fold in sorted(self._folds)])

    def complete_from(self, base: 'MomentStore') -> None:
        """Take over what ``base`` knows, and its folder.

        May be called again where it was interrupted.
        """
        for fold, entry in base._folds.items():
            own = self._folds.get(fold, {})
            if own.get('complete'):
                continue
            new = self._load(fold) if own else {}
            old = base._load(fold)
            self._save(fold, f'fold{fold}.complete.pt', {
                grid: new[grid].completed(sums) if new else sums.narrowed(
                    list(self.detectors), self.strides)
                for grid, sums in old.items()
                if str(grid) in self.belongs_to['grids']},
                entry['pictures'], complete=True)
        for entry in self._folds.values():
            del entry['complete']
        self.known = ()
        self._write_list()
        _replace(base.folder, self.folder)
        self.folder = base.folder

    def tidy(self) -> None:
        """Remove what a killed run has left half written or replaced."""
        named = {entry['file'] for entry in self._folds.values()}
        for name in os.listdir(self.folder):
            ours = re.fullmatch(r'fold\d+\.\w+\.pt|.*\.partial', name)
            if ours and name not in named:
                os.remove(os.path.join(self.folder, name))

    def _load(self, fold: int) -> dict[Fraction, FeatureMoments]:
        content = torch.load(
            os.path.join(self.folder, self._folds[fold]['file']),
            map_location='cpu', weights_only=True, mmap=True)
        return {Fraction(grid): FeatureMoments.from_state_dict(state)
                for grid, state in content.items()}

    def _save(self, fold: int, name: str,
              sums: Mapping[Fraction, FeatureMoments],
              images: Sequence[int], **more: Any) -> None:
        with atomic_file(os.path.join(self.folder, name)) as file:
            _write_to(file, {str(grid): of.state_dict(copy=False)
                             for grid, of in sums.items()})
        before = self._folds.get(fold, {}).get('file')
        self._folds[fold] = {'file': name, 'pictures': list(images), **more}
        self._write_list()
        if before not in (None, name):
            os.remove(os.path.join(self.folder, before))

    def _write_list(self) -> None:
        atomic_write(os.path.join(self.folder, LIST), json.dumps({
            'schema': SCHEMA, 'belongs_to': self.belongs_to,
            'detectors': self.detectors, 'known': self.known,
            'made_on': self.made_on, 'folds': self._folds}).encode())


def in_first(store: MomentStore | None) -> MomentStore:
    """A store that the first process has and the others have not.

    Raises:
        RuntimeError: This is another process.
    """
    if store is None:
        raise RuntimeError('Only the first process has a store of moments; '
                           'use it within on_main().')
    return store


def open_store(folder: str, belongs_to: Mapping[str, Any],
               detectors: Mapping[str, Any], wanted: Sequence[int],
               made_on: Mapping[str, Any]
               ) -> tuple[MomentStore, MomentStore | None]:
    """The moments to go on with.

    What is there is used as far as it belongs to the same data: of a detector
    that has changed or is new, only its own products are wanted; one that is
    no longer in the pool is kept as long as nothing has to be added. What
    cannot be used is said, with what differs.

    Args:
        folder: Of the store.
        belongs_to: What all sums depend on, with ``strides`` and ``grids``.
        detectors: Name -> what this detector's sums depend on.
        wanted: The images.
        made_on: Device and versions of this run. Products of one pass are
            not put beside those of another on something else.

    Returns:
        The store, and the one that it has to be completed from after it has
        seen that one's images; None where it stands by itself.
    """
    adding = folder + '_adding'
    begun = MomentStore.read(adding)
    if begun is not None and not begun.known:
        _replace(folder, adding)  # completed, and stopped before it moved
        begun = None
    base = MomentStore.read(folder)
    for store in (base, begun):
        if store is not None:
            store.tidy()
    known = _usable(base, belongs_to, detectors, made_on) if base else []
    if base is None or not known:
        _forget(folder, adding)
        return MomentStore(folder, belongs_to, detectors, (), made_on), None
    same = list(base.detectors) == known and all(
        base.belongs_to[k] == belongs_to[k] for k in ('strides', 'grids'))
    if len(known) == len(detectors) and (
            same or set(wanted) <= set(base.done)):
        _forget(adding)
        if base.made_on != made_on:
            base.made_on = dict.fromkeys(made_on, 'several')
        return base, None
    new = [n for n in detectors if n not in known]
    late = MomentStore(adding, belongs_to,
                       {n: detectors[n] for n in (*known, *new)}, known,
                       made_on)
    if begun is not None and (
            begun.belongs_to, [*begun.detectors.items()], begun.known) == (
            late.belongs_to, [*late.detectors.items()], late.known):
        return begun, base
    _forget(adding)
    return late, base


def _usable(base: MomentStore, belongs_to: Mapping[str, Any],
            detectors: Mapping[str, Any], made_on: Mapping[str, Any]
            ) -> list[str]:
    """The detectors whose products can be used, in the store's order; says
    what cannot, with what differs."""
    differing = _differing(base.belongs_to, belongs_to)
    known = [n for n in base.detectors
             if detectors.get(n) == base.detectors[n]]
    if not differing and len(known) < len(detectors):
        differing = differences(base.made_on, made_on)
    if differing:
        print_log(f'{base.folder} is of other data, so all is measured anew:'
                  '\n  ' + '\n  '.join(differing), logger='current')
        return []
    changed = differences(
        {n: base.detectors[n] for n in detectors if n in base.detectors},
        {n: of for n, of in detectors.items() if n in base.detectors})
    if changed:
        print_log(f'{base.folder} is of other detectors; what is not is used:'
                  '\n  ' + '\n  '.join(changed), logger='current')
    return known


def _differing(there: Mapping[str, Any],
               here: Mapping[str, Any]) -> list[str]:
    """What of the data differs; fewer levels and grids are there as well."""
    lines = [f'{key}: {there[key]} there, {here[key]} here'
             for key in ('strides', 'grids')
             if not set(here[key]) <= set(there[key])]
    # None where no level is so fine that it has a say.
    free = {'strides', 'grids', *(
        ['stride4_share'] if here.get('stride4_share') is None else [])}
    return lines + differences(
        {k: v for k, v in there.items() if k not in free},
        {k: v for k, v in here.items() if k not in free})


def _write_to(file: BinaryIO, content: Any) -> None:
    try:
        torch.save(content, file)
    except RuntimeError as error:
        # torch's archive fails by itself after the file did, e.g. of a full
        # disk.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _forget(*folders: str) -> None:
    for folder in folders:
        if os.path.isdir(folder):
            # First: what it lists may be gone in part.
            if os.path.isfile(os.path.join(folder, LIST)):
                os.remove(os.path.join(folder, LIST))
            shutil.rmtree(folder)


def _replace(folder: str, by: str) -> None:
    _forget(folder)
    os.rename(by, folder)
