"""`stt devices`: the microphones there are."""

import sys

from stt.sources import find_device, input_devices


def run(*, quiet: bool = False) -> int:
    """Print them; returns 0 if there are any.

    Raises:
        DeviceError: there are none, or the sound system does not answer.

    """
    devices = input_devices()
    find_device(None, devices)  # where there is none, it says why
    for device in devices:
        channels = "stereo" if device.channels == 2 else "mono" if device.channels == 1 else f"{device.channels} ch"
        mark = "*" if device.is_default else " "
        print(f"{mark} {device.index:>2}  {device.name}  ({device.rate} Hz, {channels}, {device.api})")
    if not quiet:
        print("* the default; `stt tui --device NAME|NUMBER` takes another", file=sys.stderr)
    return 0
