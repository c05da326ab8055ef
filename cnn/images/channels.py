"""Which channels of an image are meant, by number or by name."""

from collections.abc import Sequence

from cnn.images.errors import StorageError


def resolve(
    channels: Sequence[int | str], names: Sequence[str] | None, count: int, name: str, *, own: str = ""
) -> tuple[int, ...]:
    """The numbers of the channels that are asked for.

    Args:
      channels: numbers, counted from 0, or names, in the order that is wanted; one may come several times. A text of
        digits is a number. Upper and lower case are the same where that is not ambiguous.
      names: names of the image's channels; None: they have none.
      count: number of the image's channels.
      name: name of the image, for the error.
      own: where the choice comes from, for the error, if not from the caller.

    Returns:
      The numbers, each from 0 to count - 1.

    Raises:
      StorageError: if there is no such channel; says which there are.
    """
    if isinstance(channels, str) or not isinstance(channels, Sequence) or not channels:
        raise StorageError(f"{name}: channels (={channels!r}) must be numbers or names, in order, such as (2, 1, 0)")
    return tuple(_number(channel, names or (), count, name, own) for channel in channels)


def _number(channel: int | str, names: Sequence[str], count: int, name: str, own: str) -> int:
    if isinstance(channel, str) and not channel.isdecimal():
        same = [i for i, one in enumerate(names) if one == channel]
        same = same or [i for i, one in enumerate(names) if one.casefold() == channel.casefold()]
        if len(same) == 1:
            return same[0]
        why = f"{len(same)} channels are called {channel!r}" if same else f"no channel is called {channel!r}"
    else:
        try:
            number = int(channel)
        except (TypeError, ValueError):
            number = -1
        if 0 <= number < count and not isinstance(channel, bool | float):
            return number
        why = f"there is no channel {channel!r}"
    raise StorageError(f"{name}: {why}{own}; it has {listing(names, count)}")


def listing(names: Sequence[str] | None, count: int) -> str:
    """The channels of an image in words.

    Args:
      names: their names; None: they have none.
      count: their number.

    Returns:
      Their number, numbers and names, of many the first.
    """
    channels = "1 channel, 0" if count == 1 else f"{count} channels, 0 to {count - 1}"
    if not names:
        return channels
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"{channels}: {shown}"
