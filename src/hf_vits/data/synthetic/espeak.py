"""Speech synthesis by espeak-ng, with the library and voices of the Python package `espeakng-loader`."""

import ctypes
import shutil
from pathlib import Path

import numpy as np

from hf_vits.folders import temporary_folder

# speak_lib.h of espeak-ng.
_SYNCHRONOUS = 2
_NO_EXIT = 0x8000
_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Espeak:
    """A new instance of espeak-ng; its speech depends only on the calls of `speak` so far.

    The library keeps state (flutter of voices, noise) in static variables that cannot be reset, so each object loads
    its own copy of it. Close the object after use, or use it in a `with` statement.

    Attributes:
        sampling_rate: sampling rate of the speech, in Hz.
    """

    def __init__(self):
        try:
            import espeakng_loader
        except ImportError as error:
            raise ImportError(
                "speech synthesis needs the package espeakng-loader: pip install 'hf_vits[audio]'"
            ) from error
        data = Path(espeakng_loader.get_data_path())
        self._library = _own_copy(Path(espeakng_loader.get_library_path()))
        self.sampling_rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), _NO_EXIT)
        if self.sampling_rate <= 0:
            # The library keeps this path in 160 bytes.
            raise OSError(f"espeak-ng cannot read its voices in {data} (or that path is longer than 140 characters)")
        self._speakers = {file.name for file in Path(data, "voices", "!v").iterdir()}
        self._pieces: list[np.ndarray] = []
        self._callback = _CALLBACK(self._receive)  # a reference that keeps it alive: the library has only its address
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_ng_SetRandSeed(1)

    def __enter__(self) -> "Espeak":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        self._library.espeak_Terminate()

    def _receive(self, samples, count: int, events) -> int:
        if samples and count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def speak(self, text: str, voice: str, rate: int = 175, pitch: int = 50, pitch_range: int = 50) -> np.ndarray:
        """Return the waveform of a spoken text, (samples,), int16.

        Args:
            voice: language or accent, "+" and speaker, such as "en-us+f3" or "en-gb-scotland+Andy"; "en" is British.
            rate: speed in words per minute, 80 to 450.
            pitch, pitch_range: 0 to 100; 50 is the voice's default.

        Raises ValueError for a voice that espeak-ng does not have, or a text for which it makes no sound.
        """
        speaker = voice.partition("+")[2]
        # The library ignores a speaker that it does not know.
        known = not speaker or speaker in self._speakers
        if not known or self._library.espeak_ng_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._pieces.clear()
        content = text.encode() + b"\0"
        status = self._library.espeak_Synth(content, ctypes.c_size_t(len(content)), 0, 0, 0, _UTF8, None, None)
        speech = np.concatenate([np.zeros(0, np.int16), *self._pieces])
        if status != 0 or not speech.any():
            raise ValueError(f"espeak-ng says nothing of {text!r} with voice {voice!r} (status {status})")
        return speech


def _own_copy(library: Path) -> ctypes.CDLL:
    """Load the library from a copy of its file: the loader returns the same instance for the same file."""
    # Some systems cannot remove a loaded file; it stays in the temporary directory.
    with temporary_folder() as directory:
        return ctypes.CDLL(shutil.copy(library, directory))
