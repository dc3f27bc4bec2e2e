"""The log of a run as JSON lines, complete and without duplicates however often the run was resumed."""

import json
from pathlib import Path

from transformers import TrainerCallback

from hf_vits.files import writing


class HistoryFile(TrainerCallback):
    """Writes Trainer's log history, one JSON object per line, as it grows."""

    def __init__(self, path: Path):
        self.path = path

    def on_train_begin(self, args, state, control, **kwargs):
        # A resumed run logs again what came after its checkpoint.
        self._write("w", state, state.log_history)

    def on_log(self, args, state, control, **kwargs):
        self._write("a", state, state.log_history[-1:])

    def _write(self, mode: str, state, entries: list[dict]) -> None:
        if state.is_world_process_zero:
            with writing(self.path), self.path.open(mode, encoding="utf-8") as file:
                file.writelines(json.dumps(entry) + "\n" for entry in entries)
