"""Moments on disk, so that no image is measured twice.

A folder with one file per fold and a list of what they hold. The list is
replaced as a whole and names only files that are complete: a run that is
killed at any time loses the sums since the last save, and nothing else.
"""
import json
import logging
import os
import re
import shutil
from fractions import Fraction
from itertools import chain
from operator import itemgetter
from typing import Any, BinaryIO, Iterable, Mapping, Sequence

import torch
from mmengine.logging import print_log

from mtpd.compat.atomic_files import atomic_file, atomic_write
from mtpd.order import FeatureMoments
from mtpd.provenance import differences

SCHEMA = 1
LIST = 'moments.json'


class MomentStore:
    """Moments of the images that were measured, on one or several grids.

    Only the fold that is added to is held in memory. All others are on disk
    and are mapped when they are read.

    Args:
        folder: Of this store alone; made when sums are added.
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
        """The store in a folder, without the folds that cannot be read, each
        with a warning; None where there is no fold."""
        path = os.path.join(folder, LIST)
        if not os.path.isfile(path):
            return None
        try:
            with open(path) as file:
                content = json.load(file)
            if content['schema'] != SCHEMA:
                raise ValueError(f'schema {content["schema"]}')
            store = cls(folder, content['belongs_to'], content['detectors'],
                        content['known'], content['made_on'])
            store._folds = {int(fold): entry
                            for fold, entry in content['folds'].items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            print_log(f'{path} cannot be used ({error}); its images are '
                      'measured again.', logger='current',
                      level=logging.WARNING)
            return None
        for fold, entry in [*store._folds.items()]:
            try:
                store._load(fold)
            # Of a torn archive torch raises nearly anything.
            except Exception as error:
                print_log(f'{os.path.join(folder, entry["file"])} cannot be '
                          f'used ({error}); its images are measured again.',
                          logger='current', level=logging.WARNING)
                del store._folds[fold]
        return store if store._folds else None

    @property
    def done(self) -> list[int]:
        """The indices of the images that the sums are over."""
        return list(chain.from_iterable(
            entry['pictures'] for entry in self._folds.values()))

    @property
    def strides(self) -> list[int]:
        """The levels of the sums."""
        return self.belongs_to['strides']

    @property
    def shift(self) -> dict[Fraction, dict] | None:
        """Grid -> the shift of all sums; None before anything was added."""
        if not self._folds:
            return None
        return {grid: sums.shift for grid, sums in
                self._load(next(iter(self._folds))).items()}

    def add(self, fold: int, sums: Mapping[Fraction, FeatureMoments],
            indices: Sequence[int]) -> None:
        """Add sums over more images of a fold, and save.

        Args:
            fold: The fold.
            sums: Grid -> sums of this fold; they are changed.
            indices: The images of the sums.

        Raises:
            OSError: They could not be written; the earlier sums stay.
        """
        entry = self._folds.get(fold, {'pictures': []})
        if fold in self._folds:
            # Into the new ones: the old ones are mapped and need no memory.
            for grid, old in self._load(fold).items():
                sums[grid].merge(old)
        indices = [*entry['pictures'], *indices]
        self._save(fold, f'fold{fold}.{len(indices)}.pt', sums, indices)

    def moments(self, grid: Fraction) -> FeatureMoments:
        """All folds' sums; the files are mapped, not read."""
        return FeatureMoments.of_parts(
            [self._load(fold)[grid] for fold in sorted(self._folds)])

    def complete_from(self, base: 'MomentStore') -> None:
        """Take over the sums that only ``base`` has, and its folder.

        May be called again where it was interrupted.
        """
        for fold, entry in base._folds.items():
            present = self._folds.get(fold, {})
            if present.get('complete'):
                continue
            new = self._load(fold) if present else {}
            sums = {}
            for grid, old in base._load(fold).items():
                if grid in new:
                    sums[grid] = new[grid].completed(old)
                elif str(grid) in self.belongs_to['grids']:
                    sums[grid] = old.narrowed(list(self.detectors),
                                              self.strides)
            self._save(fold, f'fold{fold}.complete.pt', sums,
                       entry['pictures'], complete=True)
        for entry in self._folds.values():
            del entry['complete']
        self.known = ()
        self._write_list()
        _replace(base.folder, self.folder)
        self.folder = base.folder

    def has_same_sums(self, other: 'MomentStore') -> bool:
        """Whether both hold sums of the same data and detectors."""
        return (self.belongs_to == other.belongs_to
                and self.known == other.known
                and [*self.detectors.items()] == [*other.detectors.items()])

    def tidy(self) -> None:
        """Remove files that a killed run has left incomplete or replaced."""
        listed = {entry['file'] for entry in self._folds.values()}
        for name in os.listdir(self.folder):
            ours = re.fullmatch(r'fold\d+\.\w+\.pt|.*\.partial', name)
            if ours and name not in listed:
                os.remove(os.path.join(self.folder, name))

    def _load(self, fold: int) -> dict[Fraction, FeatureMoments]:
        content = torch.load(
            os.path.join(self.folder, self._folds[fold]['file']),
            map_location='cpu', weights_only=True, mmap=True)
        return {Fraction(grid): FeatureMoments.from_state_dict(state)
                for grid, state in content.items()}

    def _save(self, fold: int, name: str,
              sums: Mapping[Fraction, FeatureMoments],
              indices: Sequence[int], **flags: bool) -> None:
        with atomic_file(os.path.join(self.folder, name)) as file:
            save_tensors({str(grid): moments.state_dict(copy=False)
                          for grid, moments in sums.items()}, file)
        replaced = self._folds.get(fold, {}).get('file')
        self._folds[fold] = {'file': name, 'pictures': list(indices), **flags}
        self._write_list()
        if replaced not in (None, name):
            os.remove(os.path.join(self.folder, replaced))

    def _write_list(self) -> None:
        atomic_write(os.path.join(self.folder, LIST), json.dumps({
            'schema': SCHEMA, 'belongs_to': self.belongs_to,
            'detectors': self.detectors, 'known': self.known,
            'made_on': self.made_on, 'folds': self._folds}).encode())


def in_first(store: MomentStore | None) -> MomentStore:
    """The store, which only the first process has.

    Raises:
        RuntimeError: This is another process.
    """
    if store is None:
        raise RuntimeError('Only the first process has a store of moments; '
                           'use it within on_main().')
    return store


def open_store(folder: str, belongs_to: Mapping[str, Any],
               detectors: Mapping[str, Any], indices: Iterable[int],
               made_on: Mapping[str, Any]
               ) -> tuple[MomentStore, MomentStore | None]:
    """The moments to add to.

    Moments on disk are used as far as they belong to the same data. Of a
    detector that is new or has changed, only its own products are missing. One
    that has left the pool is kept until more images are added. Moments that
    cannot be used are reported, with the differences.

    Args:
        folder: Of the store.
        belongs_to: What all sums depend on, with ``strides`` and ``grids``.
        detectors: Name -> what this detector's sums depend on.
        indices: The images that are wanted.
        made_on: Device and versions of this run. Products from one device
            are not put beside those from another.

    Returns:
        The store; and the store from which it has to be completed after it has
        seen that one's images, None where there is nothing to complete.
    """
    adding = folder + '_adding'
    base, begun = _read_both(folder, adding)
    known = [] if base is None else _usable(base, belongs_to, detectors,
                                            made_on)
    if base is None or not known:
        _forget(folder, adding)
        return MomentStore(folder, belongs_to, detectors, (), made_on), None
    layout = itemgetter('strides', 'grids')
    same_sums = list(base.detectors) == known \
        and layout(base.belongs_to) == layout(belongs_to)
    adds_images = not set(indices) <= set(base.done)
    if len(known) == len(detectors) and (same_sums or not adds_images):
        _forget(adding)
        if base.made_on != made_on:
            base.made_on = dict.fromkeys(made_on, 'several')
        return base, None
    known_first = dict.fromkeys(known) | dict(detectors)
    store = MomentStore(adding, belongs_to, known_first, known, made_on)
    if begun is not None and begun.has_same_sums(store):
        return begun, base
    _forget(adding)
    return store, base


def save_tensors(content: Any, file: BinaryIO) -> None:
    """``torch.save``, whose error on a full disk is an OSError.

    Raises:
        OSError: The file could not be written.
    """
    try:
        torch.save(content, file)
    except RuntimeError as error:
        # torch's archive fails by itself after the file did.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _read_both(folder: str, adding: str
               ) -> tuple[MomentStore | None, MomentStore | None]:
    """The store in a folder and the one with which a run began to complete
    it, without the traces of killed runs."""
    begun = MomentStore.read(adding)
    if begun is not None and not begun.known:
        # It was completed; the run was killed before it took the place.
        _replace(folder, adding)
        begun = None
    base = MomentStore.read(folder)
    for store in (base, begun):
        if store is not None:
            store.tidy()
    return base, begun


def _usable(base: MomentStore, belongs_to: Mapping[str, Any],
            detectors: Mapping[str, Any], made_on: Mapping[str, Any]
            ) -> list[str]:
    """The detectors whose products can be used, in the store's order. The
    reasons against the others are printed."""
    lines = _data_differences(base.belongs_to, belongs_to)
    present = {name: value for name, value in base.detectors.items()
               if name in detectors}
    known = [name for name, value in present.items()
             if detectors[name] == value]
    if not lines and len(known) < len(detectors):
        lines = differences(base.made_on, made_on)
    if lines:
        print_log(f'{base.folder} belongs to other data, so all images are '
                  'measured again:\n  ' + '\n  '.join(lines),
                  logger='current')
        return []
    lines = differences(present, {name: detectors[name] for name in present})
    if lines:
        print_log(f'{base.folder} belongs to other detectors in part; the '
                  'sums of the same ones are used:\n  '
                  + '\n  '.join(lines), logger='current')
    return known


def _data_differences(saved: Mapping[str, Any],
                      wanted: Mapping[str, Any]) -> list[str]:
    """Lines about data that differ. Moments of more levels and grids than are
    wanted hold the wanted ones too."""
    lines = []
    compared = {*saved, *wanted}
    for key in ('strides', 'grids'):
        compared.discard(key)
        if not set(wanted[key]) <= set(saved[key]):
            lines.append(f'{key}: {saved[key]} there, {wanted[key]} here')
    if wanted.get('stride4_share') is None:
        compared.discard('stride4_share')  # no wanted level is that fine
    return lines + differences(
        {key: value for key, value in saved.items() if key in compared},
        {key: value for key, value in wanted.items() if key in compared})


def _forget(*folders: str) -> None:
    for folder in folders:
        if os.path.isdir(folder):
            # The list first: files that it names may be gone in part.
            if os.path.isfile(os.path.join(folder, LIST)):
                os.remove(os.path.join(folder, LIST))
            shutil.rmtree(folder)


def _replace(folder: str, replacement: str) -> None:
    _forget(folder)
    os.rename(replacement, folder)
