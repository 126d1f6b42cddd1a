"""What one of several processes does for all of them."""
from typing import Any, Callable, TypeVar

from mmengine.dist import broadcast_object_list, is_main_process

_Value = TypeVar('_Value')


def on_main(work: Callable[[], _Value]) -> _Value:
    """Do something in the first process; every process gets what came of it.

    Raises:
        Exception: What ``work`` raised, in every process.
    """
    result: list[Any] = [None, None]
    if is_main_process():
        try:
            result[0] = work()
        except Exception as error:  # the others would wait for ever
            result[1] = error
    broadcast_object_list(result)
    if result[1] is not None:
        raise result[1]
    return result[0]
