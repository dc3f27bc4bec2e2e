"""Feature extractors for models that take waveforms or spectrograms."""

import math
from typing import Any

import torch
from transformers import BatchFeature, SequenceFeatureExtractor
from transformers.utils import PaddingStrategy

from .settings import as_device, check_types
from .spectrogram import Spectrogram
from .waveform import check_rate, to_waveforms

# Arguments of `VitsSpectrogramFeatureExtractor` for the filter banks of Kaldi (feat/feature-fbank.h) at 16 kHz.
KALDI = {
    "n_fft": 512,
    "win_length": 400,
    "hop_length": 160,
    "window_function": "povey",
    "center": False,
    "remove_dc_offset": True,
    "preemphasis": 0.97,
    "waveform_scale": 32768.0,
    "mel_scale": "kaldi",
    "mel_norm": None,
    "min_frequency": 20.0,
    "floor": torch.finfo(torch.float32).eps,
}
NORMALIZATIONS = (None, "global", "utterance", "min_max")
_MOST_PADDED = 2**28  # samples of a padded clip; more is a mistake, which would fill any memory
_SMALLEST_STD = 1e-20  # as in ESPnet and Kaldi


class VitsAudioFeatureExtractor(SequenceFeatureExtractor):
    """Base class of both feature extractors: it loads audio and cuts and pads waveforms."""

    def __init__(
        self,
        sampling_rate: int,
        padding: str | bool,
        max_length: int | None,
        truncation: bool,
        pad_to_multiple_of: int | None,
        pad_offset: int = 0,
        **kwargs: Any,
    ):
        if __name__.startswith("hf_vits."):
            kwargs.pop("auto_map", None)  # as in `VitsConfig`: only a repository's copy of this class needs it
        super().__init__(sampling_rate=sampling_rate, **kwargs)
        self.padding = padding
        self.max_length = max_length
        self.truncation = truncation
        self.pad_to_multiple_of = pad_to_multiple_of
        self.pad_offset = pad_offset
        check_rate(sampling_rate)
        _check_positive(sampling_rate=sampling_rate, max_length=max_length, pad_to_multiple_of=pad_to_multiple_of)
        _check_choice("padding_side", self.padding_side, ("right",))
        self._check_padding(padding, max_length, truncation)

    def __call__(
        self,
        raw_speech: Any,
        sampling_rate: int | None = None,
        padding: str | bool | None = None,
        max_length: int | None = None,
        truncation: bool | None = None,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        device: torch.device | str | None = None,
    ) -> BatchFeature:
        """Prepare a clip or a list of clips: arrays, tensors, paths, dicts, see `waveform.to_waveforms`.

        sampling_rate: rate in Hz of clips that come without one; by default the model's. The other arguments override
        fields of the extractor.
        """
        waveforms, length = self._waveforms(
            raw_speech, sampling_rate, padding, max_length, truncation, pad_to_multiple_of, device
        )
        wants_mask = self.return_attention_mask if return_attention_mask is None else return_attention_mask
        return _batch(self._prepared(waveforms, length, wants_mask), return_tensors)

    def _prepared(self, waveforms: list[torch.Tensor], length: int | None, wants_mask: bool) -> dict[str, Any]:
        """Return the model's inputs for waveforms, padded to `length`, or each with its own length if it is None."""
        raise NotImplementedError

    def _waveforms(
        self,
        raw_speech: Any,
        sampling_rate: int | None,
        padding: str | bool | None,
        max_length: int | None,
        truncation: bool | None,
        pad_to_multiple_of: int | None,
        device: torch.device | str | None,
    ) -> tuple[list[torch.Tensor], int | None]:
        """Return waveforms (samples,), truncated if wanted, and the length to pad them to, or None for no padding."""
        padding = self.padding if padding is None else padding
        max_length = self.max_length if max_length is None else max_length
        truncation = self.truncation if truncation is None else truncation
        multiple = self.pad_to_multiple_of if pad_to_multiple_of is None else pad_to_multiple_of
        given = {"padding": padding, "max_length": max_length, "truncation": truncation}
        check_types(VitsAudioFeatureExtractor.__call__, given | {"pad_to_multiple_of": multiple})
        _check_positive(max_length=max_length, pad_to_multiple_of=multiple)
        strategy = self._check_padding(padding, max_length, truncation)
        waveforms = to_waveforms(raw_speech, self.sampling_rate, sampling_rate)
        if device is not None:
            waveforms = [waveform.to(as_device(device)) for waveform in waveforms]
        if truncation:
            waveforms = [waveform[: self._legal(max_length, multiple)] for waveform in waveforms]
        if strategy is PaddingStrategy.DO_NOT_PAD:
            return waveforms, None
        least = 1 if strategy is not PaddingStrategy.MAX_LENGTH or max_length is None else max_length
        longest = max(map(len, waveforms))
        length = self._legal(max(least, longest), multiple)
        if length > max(_MOST_PADDED, longest):
            raise ValueError(
                f"max_length={max_length} and pad_to_multiple_of={multiple} pad clips of at most {longest} samples to "
                f"{length}, more than {_MOST_PADDED}; choose smaller ones"
            )
        return waveforms, length

    def _check_padding(self, padding: str | bool, max_length: int | None, truncation: bool) -> PaddingStrategy:
        if truncation and max_length is None:
            raise ValueError("truncation=True needs max_length, in samples")
        return self._get_padding_strategies(padding, max_length)

    def _legal(self, length: int, multiple: int | None) -> int:
        """Return the least length of at least `length` that is `pad_offset` plus a multiple of `multiple`."""
        if multiple is None:
            return length
        return self.pad_offset + math.ceil(max(length - self.pad_offset, 0) / multiple) * multiple


class VitsWaveformFeatureExtractor(VitsAudioFeatureExtractor):
    """Prepares waveforms: resampled, mono, truncated or padded, optionally normalised.

    Returns `input_values`, float32 (batch, samples), and optionally `attention_mask` (batch, samples), 1 for samples
    and 0 for padding.

    Args:
        sampling_rate: the model's, in Hz; audio of other rates is resampled (`hf_vits.processing.resample`).
        padding: "longest" for the longest clip of the batch, "max_length", or False for none.
        max_length: in samples; with `truncation` longer clips are cut at the end.
        pad_to_multiple_of: padded lengths are `pad_offset` plus a multiple of this, in samples.
        do_normalize: whether to scale each clip to mean 0 and variance 1.

    For Audiomer: sampling_rate=8192, padding="max_length", max_length=8192, truncation=True. Source:
    Audiomer-PyTorch, datamodules/SpeechCommands12.py and datamodules/pad.py.

    Raises TypeError, ValueError and OSError, at construction or when called, with what was given and what is expected.
    """

    model_input_names = ["input_values", "attention_mask"]

    def __init__(
        self,
        feature_size: int = 1,
        sampling_rate: int = 16000,
        padding_value: float = 0.0,
        padding: str | bool = "longest",
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        pad_offset: int = 0,
        do_normalize: bool = False,
        return_attention_mask: bool = False,
        **kwargs: Any,
    ):
        check_types(VitsWaveformFeatureExtractor.__init__, locals())
        super().__init__(
            feature_size=feature_size,
            sampling_rate=sampling_rate,
            padding_value=padding_value,
            padding=padding,
            max_length=max_length,
            truncation=truncation,
            pad_to_multiple_of=pad_to_multiple_of,
            pad_offset=pad_offset,
            return_attention_mask=return_attention_mask,
            **kwargs,
        )
        self.do_normalize = do_normalize

    def _prepared(self, waveforms: list[torch.Tensor], length: int | None, wants_mask: bool) -> dict[str, Any]:
        if self.do_normalize:
            waveforms = [_standardized(waveform) for waveform in waveforms]
        values = waveforms if length is None else _padded(waveforms, length, self.padding_value)
        data = {"input_values": values}
        if wants_mask:
            data["attention_mask"] = _masks([len(waveform) for waveform in waveforms], length, values[0].device)
        return data


class VitsSpectrogramFeatureExtractor(VitsAudioFeatureExtractor):
    """Prepares spectrograms: log-mel, linear or Kaldi's filter banks, computed for the whole batch by torch.

    Returns `input_features`, float32 (batch, frames, bins), and `attention_mask` (batch, frames), 1 for frames and 0
    for padding. The features of a clip do not depend on the other clips of its batch.

    Args:
        feature_size: number of bins; by default 80 with a mel scale and n_fft // 2 + 1 without.
        sampling_rate, padding, max_length, truncation, pad_to_multiple_of: as in `VitsWaveformFeatureExtractor`; all
            lengths are in samples. A clip of n samples has `num_frames(n)` frames.
        padding_value: value of padded frames, before "utterance" normalization subtracts the mean of the clip.
        pad_with_silence: pad the waveforms with zeros, which count as signal, for models without a mask.
        n_fft, win_length, hop_length, window_function ("hann", "hamming", "povey", "boxcar"), center,
            remove_dc_offset, preemphasis, power, mel_scale ("slaney", "htk", "kaldi"; None for a linear spectrogram),
            mel_norm, min_frequency, max_frequency, floor, do_log, log_offset, periodic: see `spectrogram.Spectrogram`.
        waveform_scale: factor for waveforms, whose range is -1 to 1.
        normalization: "global", by `mean` and `std` of each bin; "utterance", by the mean of the clip and, with
            `normalize_variance`, its standard deviation; "min_max", to the range 0 to 1; or None.

    - Branchformer, as ESPnet's front end: the defaults, with hop_length and win_length of the recipe. Source: espnet2,
      asr/frontend/default.py, layers/stft.py, layers/log_mel.py, layers/global_mvn.py, layers/utterance_mvn.py.
    - SepTr: n_fft=1024, win_length=512, hop_length=64, window_function="hamming", feature_size=128, power=0.5,
      normalization="min_max", padding="max_length", pad_with_silence=True.
    - Kaldi: `KALDI`, and normalization "utterance" or "global".

    Raises TypeError, ValueError and OSError, at construction or when called, with what was given and what is expected.
    """

    model_input_names = ["input_features", "attention_mask"]

    def __init__(
        self,
        feature_size: int | None = None,
        sampling_rate: int = 16000,
        padding_value: float = 0.0,
        padding: str | bool = "longest",
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        pad_with_silence: bool = False,
        n_fft: int = 512,
        win_length: int | None = None,
        hop_length: int = 160,
        window_function: str = "hann",
        center: bool = True,
        remove_dc_offset: bool = False,
        preemphasis: float = 0.0,
        waveform_scale: float = 1.0,
        power: float = 2.0,
        mel_scale: str | None = "slaney",
        mel_norm: str | None = "slaney",
        min_frequency: float = 0.0,
        max_frequency: float | None = None,
        floor: float = 1e-10,
        do_log: bool = True,
        log_offset: float = 0.0,
        periodic: bool | None = None,
        normalization: str | None = None,
        normalize_variance: bool = False,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        return_attention_mask: bool = True,
        **kwargs: Any,
    ):
        check_types(VitsSpectrogramFeatureExtractor.__init__, locals())
        if feature_size is None:
            feature_size = 80 if mel_scale else n_fft // 2 + 1
        super().__init__(
            feature_size=feature_size,
            sampling_rate=sampling_rate,
            padding_value=padding_value,
            padding=padding,
            max_length=max_length,
            truncation=truncation,
            pad_to_multiple_of=pad_to_multiple_of,
            return_attention_mask=return_attention_mask,
            **kwargs,
        )
        self.pad_with_silence = pad_with_silence
        self.n_fft = n_fft
        self.win_length = n_fft if win_length is None else win_length
        self.hop_length = hop_length
        self.window_function = window_function
        self.center = center
        self.remove_dc_offset = remove_dc_offset
        self.preemphasis = preemphasis
        self.waveform_scale = waveform_scale
        self.power = power
        self.mel_scale = mel_scale
        self.mel_norm = mel_norm
        self.min_frequency = min_frequency
        self.max_frequency = max_frequency
        self.floor = floor
        self.do_log = do_log
        self.log_offset = log_offset
        self.periodic = periodic
        self.normalization = normalization
        self.normalize_variance = normalize_variance
        self.mean = mean
        self.std = std
        _check_choice("normalization", normalization, NORMALIZATIONS)
        self._check_statistics()
        _ = self.spectrogram  # raises if fields are invalid

    @property
    def spectrogram(self) -> Spectrogram:
        """Return the `Spectrogram` of the present fields."""
        return Spectrogram(
            bins=self.feature_size,
            sampling_rate=self.sampling_rate,
            n_fft=self.n_fft,
            win_length=self.win_length,
            hop_length=self.hop_length,
            window_function=self.window_function,
            center=self.center,
            remove_dc_offset=self.remove_dc_offset,
            preemphasis=self.preemphasis,
            power=self.power,
            mel_scale=self.mel_scale,
            mel_norm=self.mel_norm,
            min_frequency=self.min_frequency,
            max_frequency=self.max_frequency or self.sampling_rate / 2,
            floor=self.floor,
            do_log=self.do_log,
            log_offset=self.log_offset,
            periodic=self.periodic,
        )

    def num_frames(self, samples: int) -> int:
        """Return the number of frames of a clip of `samples` samples."""
        return self.spectrogram.num_frames(samples)

    def _prepared(self, waveforms: list[torch.Tensor], length: int | None, wants_mask: bool) -> dict[str, Any]:
        if self.pad_with_silence and length is not None:
            waveforms = list(_padded(waveforms, length, 0.0))
        spectrogram = self.spectrogram
        longest = length or max(map(len, waveforms))
        extended = [spectrogram.extend(waveform[None])[0] for waveform in waveforms]
        margin = len(extended[0]) - len(waveforms[0])
        lengths = [len(waveform) for waveform in waveforms]
        features, mask = self._features(spectrogram, _padded(extended, longest + margin, 0.0), lengths)
        data = {"input_features": features, "attention_mask": mask}
        if length is None:
            counts = mask.sum(dim=1).tolist()
            data = {name: [row[:count] for row, count in zip(data[name], counts, strict=True)] for name in data}
        return data if wants_mask else {"input_features": data["input_features"]}

    def extract(
        self, waveforms: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features (batch, frames, bins) and mask (batch, frames) of padded waveforms (batch, samples).

        As in ESPnet's training, the last frames of a shorter clip contain padding. Calling the extractor instead
        mirrors each clip at its own end.
        """
        samples = [waveforms.shape[1]] * len(waveforms) if lengths is None else lengths.tolist()
        spectrogram = self.spectrogram
        return self._features(spectrogram, spectrogram.extend(waveforms), samples)

    def _features(
        self, spectrogram: Spectrogram, extended: torch.Tensor, lengths: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        features = spectrogram(extended if self.waveform_scale == 1 else extended * self.waveform_scale)
        frames = torch.tensor([spectrogram.num_frames(length) for length in lengths], device=features.device)
        mask = torch.arange(features.shape[1], device=features.device) < frames[:, None]
        return self._normalized(features, mask), mask.long()

    def _normalized(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Normalise features by statistics of the frames in the mask; set the other frames to padding."""
        valid = mask[..., None]
        if self.normalization == "global":
            mean, std = (torch.tensor(table, device=features.device) for table in (self.mean, self.std))
            return torch.where(valid, (features - mean) / std, self.padding_value)
        features = torch.where(valid, features, self.padding_value)
        if self.normalization == "utterance":
            count = mask.sum(dim=1)[:, None, None]
            features = features - (features * valid).sum(dim=1, keepdim=True) / count
            if self.normalize_variance:
                variance = (features * valid).square().sum(dim=1, keepdim=True) / count
                features = features / variance.sqrt().clamp(min=_SMALLEST_STD)
        elif self.normalization == "min_max":
            low = features.masked_fill(~valid, math.inf).amin(dim=(1, 2), keepdim=True)
            high = features.masked_fill(~valid, -math.inf).amax(dim=(1, 2), keepdim=True)
            scaled = (features - low) / torch.where(high > low, high - low, 1.0)
            features = torch.where(valid, scaled, self.padding_value)
        return features

    def _check_statistics(self) -> None:
        if self.normalization != "global":
            return
        for name, table in (("mean", self.mean), ("std", self.std)):
            if table is None or len(table) != self.feature_size:
                found = "none" if table is None else f"{len(table)} values"
                raise ValueError(
                    f'normalization="global" needs `{name}` with a value for each of the {self.feature_size} bins, '
                    f"got {found}"
                )


def _standardized(waveform: torch.Tensor) -> torch.Tensor:
    """Scale a waveform to mean 0 and variance 1, as transformers' Wav2Vec2FeatureExtractor does."""
    centred = waveform - waveform.mean()
    return centred / (centred.square().mean() + 1e-7).sqrt()


def _padded(rows: list[torch.Tensor], length: int, value: float) -> torch.Tensor:
    """Pad rows to `length` or the length of the longest, and stack them."""
    batch = rows[0].new_full((len(rows), max(length, max(map(len, rows)))), value)
    for padded, row in zip(batch, rows, strict=True):
        padded[: len(row)] = row
    return batch


def _masks(lengths: list[int], padded: int | None, device: torch.device) -> torch.Tensor | list[torch.Tensor]:
    if padded is None:
        return [torch.ones(length, dtype=torch.long, device=device) for length in lengths]
    return (torch.arange(padded, device=device) < torch.tensor(lengths, device=device)[:, None]).long()


def _batch(data: dict[str, Any], return_tensors: str | None) -> BatchFeature:
    """Convert to the kind of tensors wanted; by default lists of numpy arrays, as transformers' extractors do."""
    if return_tensors != "pt":
        data = {name: [row.cpu().numpy() for row in rows] for name, rows in data.items()}
    return BatchFeature(data, tensor_type=return_tensors)


def _check_positive(**fields: int | None) -> None:
    for name, value in fields.items():
        if value is not None and not (isinstance(value, int) and value > 0):
            raise ValueError(f"{name} must be a whole number above 0, got {value!r}")


def _check_choice(name: str, value: Any, choices: tuple) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")
