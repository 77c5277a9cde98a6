"""Episodes for the tests."""


def episode(arm: str, seed: int, success: bool = True, **other) -> dict:
    """Returns the record of an episode of Lift with 10 steps."""
    return {
        "arm": arm,
        "task": "Lift",
        "seed": seed,
        "start": f"start {seed}",
        "success": success,
        "steps": 10,
        "failed_at": None if success else "grasp",
        "error": 0.1,
        "micros": 100.0,
        "runs": 10,
        "reran": 0,
        "widths": [[4, 10]],
        "layers": None,
        "actions": "",
        "setup": "program",
        "rule": None,
        "note": None,
        "steps_end": 0,
    } | other
