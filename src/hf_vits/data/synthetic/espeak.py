"""Speech from espeak-ng, through the library and voice data that the Python package `espeakng-loader` brings."""

import ctypes
import shutil
import tempfile
from pathlib import Path

import numpy as np

# speak_lib.h of espeak-ng.
_SYNCHRONOUS = 2
_NO_EXIT = 0x8000
_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Espeak:
    """A fresh espeak-ng: what it says is a function of what it was told since it was made.

    The library keeps its state (the flutter of voices, noise) in static variables that nothing resets, so each object
    loads a copy of its own. Close it after use, or use it in a `with` statement.

    Attributes:
        sampling_rate: of what `speak` returns, in samples per second.
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
        self._callback = _CALLBACK(self._receive)  # held here: the library only has its address
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
        """Waveform (samples,) of int16.

        Args:
            voice: a language or accent, then + and a speaker: "en-us+f3", "en-gb-scotland+Andy"; British is "en".
            rate: words per minute, 80 to 450.
            pitch, pitch_range: 0 to 100; 50 is the voice's own.

        Raises ValueError for a voice that espeak-ng does not have, or a text of which it says nothing.
        """
        speaker = voice.partition("+")[2]
        # The library takes a speaker that it does not know for none.
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
    """The library from a file of its own, without which the loader would hand out the one that is there."""
    # Where a loaded file cannot be removed it stays for the system's own cleaning.
    with tempfile.TemporaryDirectory(prefix="espeak-", ignore_cleanup_errors=True) as directory:
        return ctypes.CDLL(shutil.copy(library, directory))
