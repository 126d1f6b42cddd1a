"""What one of several processes does for all of them, and their models."""
import logging
import pickle
from typing import Any, Callable, TypeVar

from mmengine.dist import (broadcast_object_list, get_world_size,
                           is_main_process)
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from torch import nn

_Value = TypeVar('_Value')


def unwrapped(model: nn.Module) -> Any:
    """A run's model without what wraps it for several processes."""
    return model.module if is_model_wrapper(model) else model


class FirstProcessFailed(Exception):
    """The cause of an error that this process only takes part in."""


def on_main(work: Callable[[], _Value]) -> _Value:
    """Do something in the first process; every process gets what came of it.

    Raises:
        Exception: What ``work`` raised, in every process; in the others with
            ``FirstProcessFailed`` as its cause.
    """
    result: list[Any] = [None, None]
    if is_main_process():
        try:
            result[0] = work()
        except Exception as error:  # the others would wait for ever
            if get_world_size() == 1:
                raise
            result[1] = _to_send(error)
            broadcast_object_list(result)
            raise
    broadcast_object_list(result)
    if result[1] is not None:
        raise result[1] from FirstProcessFailed()
    return result[0]


def _to_send(error: Exception) -> Exception:
    """An error, or its text where other processes could not rebuild it."""
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    except Exception as why:  # whatever the error's own methods raise
        print_log(f'{error!r} cannot be sent ({why}).', level=logging.DEBUG)
    return RuntimeError(f'{type(error).__name__}: {error}')
