"""What the processes of a run do together."""

from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from arch_hf.errors import UserError


def on_main(accelerator: Accelerator, function, *args):
    """Run on the main process alone and give every process the result; a user's mistake ends them all, told once."""
    outcome: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            outcome = [function(*args), None]
        except UserError as error:
            outcome = [None, str(error)]
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        stop(accelerator, outcome[1])
    return outcome[0]


def stop(accelerator: Accelerator, message: str):
    """End every process; the main one says why."""
    if accelerator.is_main_process:
        raise UserError(message)
    raise SystemExit(1)
