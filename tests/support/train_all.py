"""Train several recipes one after the other: `accelerate launch -m tests.support.train_all RECIPE...`."""

import json
import sys
from pathlib import Path

from accelerate import PartialState
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from hf_vits.training import train
from hf_vits.training.launch import missing_processes, start_processes


class Parts(TrainerCallback):
    """Writes which parameters are sharded, and the fraction of the model that this process holds, into `parts-N.json`.

    Of those are also the state of the optimizer and, in pretraining, the teacher.
    """

    def on_step_end(self, args, state, control, model=None, optimizer=None, **kwargs):
        named = dict(model.named_parameters())
        held = {name: p.to_local().numel() if isinstance(p, DTensor) else p.numel() for name, p in named.items()}
        states = [value for group in optimizer.state.values() for value in group.values() if hasattr(value, "shape")]
        seen = {
            "wrapper": type(model).__name__,
            "whole": [name for name, p in named.items() if not isinstance(p, DTensor)],
            "fraction": sum(held.values()) / sum(p.numel() for p in named.values()),
            "states": sum(isinstance(value, DTensor) for value in states if value.ndim),
            "whole_states": sum(not isinstance(value, DTensor) for value in states if value.ndim),
        }
        path = Path(args.output_dir).parent / f"parts-{args.process_index}.json"
        path.write_text(json.dumps(seen))


if __name__ == "__main__":
    if count := missing_processes():
        start_processes(count, "tests.support.train_all", sys.argv[1:])
    else:
        for recipe in sys.argv[1:]:
            train(recipe, callbacks=[Parts()])
        PartialState().destroy_process_group()
