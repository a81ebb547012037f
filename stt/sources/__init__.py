"""Where audio comes from: files, standard input, a microphone. Each is an async iterator of 16 kHz mono pieces.

inputs       the bytes of a file or of a pipe, and a way to wake who waits for them
decoding     bytes to audio: FFmpeg, libsndfile for what FFmpeg does not know, headerless PCM
timeline     where in the stream decoded audio belongs; pure
riff         the chunks of a WAV header; pure
truncation   what a header promised; pure
files        FileSource: one thread that decodes, and the event loop that takes
microphone   PortAudio
pacing       a file at the pace at which it would be spoken
"""

from stt.sources.decoding import RawPcm
from stt.sources.files import FileSource
from stt.sources.inputs import STDIN, check_input, printable
from stt.sources.microphone import InputDevice, Level, Microphone, find_device, import_sounddevice, input_devices
from stt.sources.pacing import paced

__all__ = [
    "STDIN",
    "FileSource",
    "InputDevice",
    "Level",
    "Microphone",
    "RawPcm",
    "check_input",
    "find_device",
    "import_sounddevice",
    "input_devices",
    "paced",
    "printable",
]
